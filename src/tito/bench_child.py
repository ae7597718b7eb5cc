"""The child process of a benchmark: the course's harness times the learner's framework.

Started by `tito.bench` as `python -m tito.bench_child FOLDER`. It reads job.json there and leaves
result.json, refused.json (a model that cannot be measured: two lines) or failed.json (the framework
stopped with an error). The harness is the course's own source of module 19, never the learner's.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from tito import course, reference, runner, stage

Job = dict[str, Any]
WARM, SECONDS, ROUNDS = 6, 0.05, 20  # of the tracks: blocks, and how many of them
BATCH = 64  # inputs at once, of what is not text
MEAN, STD = (125.3, 123.0, 113.9), (63.0, 62.1, 66.7)  # of CIFAR-10's pixels, as milestone 1998 has
INK = {8: 16, 28: 255}  # side of a digit -> the value of full ink, as milestone 1986 has


_TYPE = re.compile(r'"type": ?"(\w+)"')  # of a layer, in what a model file says of itself


class Refused(Exception):
    """This cannot be measured. Two lines: what, then `Next:`."""


def main() -> None:
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    runner.limit_memory(job["memory"])
    try:
        left, told = "result", TRACKS[job["kind"]](job, folder)
    except Refused as error:
        left, told = "refused", {"what": str(error)}
    except BaseException as error:  # sys.exit() in the framework is a result as well
        left, told = "failed", stage.failed(error, job["kind"])
    (folder / f"{left}.json").write_text(json.dumps(told), encoding="utf-8")


@lru_cache(maxsize=1)
def harness() -> ModuleType:
    """The course's module 19, alone: it imports NumPy and the standard library."""
    module = ModuleType("tito_harness")
    sys.modules[module.__name__] = module  # where dataclasses look
    exec(reference.compile_source(course.find_module("19").path), module.__dict__)
    return module


# Baseline ----------------------------------------------------------------------------------------


def baseline(job: Job, folder: Path) -> dict[str, Any]:
    """Every benchmark that can be built is checked, then all are timed side by side."""
    suite, works = stage.load(Path(job["workloads"])), {}
    failed: dict[str, Any] = {}
    for row in job["benchmarks"]:
        try:
            work = getattr(suite, row["name"])(job["built"])
            if wrong := work.wrong(work.run()):
                failed[row["name"]] = {"what": f"its result is wrong: {wrong}", "rows": []}
            else:
                works[row["name"]] = work
        except BaseException as error:
            failed[row["name"]] = stage.failed(error, row["name"])
    functions = {name: work.run for name, work in works.items()}
    clock, said = cpu_clock()
    found = timed(functions, job["rounds"], job["seconds"], clock=clock)
    for name, why in too_fast(job, found).items():
        failed[name] = {"what": why, "rows": []}
        del found[name]
    for name, row in found.items():
        row["how"] = works[name].how
    return {"benchmarks": found, "failed": failed, "clock": said, **surroundings()}


def cpu_clock() -> tuple[Callable[[], float], str]:
    """Seconds that this process computed, where that is told finely enough, else wall time.

    All work is done on one thread, so that on a quiet machine both are the same; where others want
    the processor as well, the time they have it does not count.
    """
    fine = time.get_clock_info("process_time").resolution <= 1e-6
    return (time.process_time, "CPU time") if fine else (time.perf_counter, "wall time")


def timed(
    functions: Mapping[str, Callable[[], object]], rounds: int, seconds: float, **options: Any
) -> dict[str, Any]:
    """What the harness measures of them side by side: samples, summary and verdict, by name."""
    found = harness().interleave(functions, rounds, seconds, **options)
    return {name: _told(measurement) for name, measurement in found.items()}


def _told(measurement: Any) -> dict[str, Any]:
    summary, verdict = measurement.summary, harness().noise_verdict(measurement)
    return {
        "samples": list(measurement.samples), "kernel": list(measurement.kernel),
        "repetitions": measurement.repetitions,
        "median": summary.median, "interval": list(summary.interval), "minimum": summary.minimum,
        "spread": harness().spread(measurement.samples),
        "valid": bool(verdict.valid), "reason": verdict.reason, "remedy": verdict.remedy,
    }  # fmt: skip


def too_fast(job: Job, found: Mapping[str, Any]) -> dict[str, str]:
    """Why a time cannot be true, by benchmark: so many FLOPs take longer, whoever does them.

    The limit is `fastest`, or `lead` times what the matmul beside it reached if that is less.
    """
    flops = {row["name"]: row["flops"] for row in job["benchmarks"]}
    limit = job["fastest"]
    if "matmul" in found:
        limit = min(limit, job["lead"] * flops["matmul"] / found["matmul"]["median"])
    return {
        name: f"{row['median']:.2g} s is too fast to be real: {flops[name]:,} floating-point "
        f"operations take {flops[name] / limit:.2g} s at the very least. The work is not done"
        for name, row in found.items()
        if row["median"] < flops[name] / limit
    }


def surroundings() -> dict[str, Any]:
    """NumPy and its BLAS, as they are in this process."""
    import numpy as np
    import threadpoolctl  # type: ignore[import-untyped]

    blas = [part for part in threadpoolctl.threadpool_info() if part["user_api"] == "blas"]
    names = [f"{part['internal_api']} {part.get('version') or ''}".strip() for part in blas]
    threads = max((part["num_threads"] for part in blas), default=1)
    return {"numpy": np.__version__, "blas": ", ".join(names) or "unknown", "threads": threads}


# Models ------------------------------------------------------------------------------------------


def load(job: Job) -> Any:
    """The model of the file, by the learner's `load` where module 15 is built, else the course's.

    No code of the file is run. Classes of the course's milestones are known as well.
    """
    path = Path(job["model"])
    header = read_header(path)
    files = _model_files(job["built"])
    if job["built"] >= 16:  # its layers join the registry
        importlib.import_module("tinytorch.optim.compression")
    try:
        return files.load(path, _milestone_classes(header["types"]))
    except ValueError as error:
        raise Refused(two_lines(str(error).replace(str(path), path.name), job)) from None


def _model_files(built: int) -> ModuleType:
    if built >= 15:
        return importlib.import_module("tinytorch.optim.quantization")
    module = ModuleType("tito_model_files")
    sys.modules[module.__name__] = module
    exec(reference.compile_source(course.find_module("15").path), module.__dict__)
    return module


def two_lines(text: str, job: Job) -> str:
    """An error's text as what, then `Next:`."""
    what, _, advice = text.partition("\nNext: ")
    return f"{' '.join(what.split())}\nNext: {' '.join(advice.split()) or 'tito benchmark --help'}"


def read_header(path: Path) -> dict[str, Any]:
    """What a model file says of itself, nothing of it run: its arrays, and its layers' types."""
    advice = "Next: save the model with tinytorch.save(model, path)"
    try:
        raw = path.read_bytes()
        header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
        about = str(header.pop("__metadata__")["tinytorch"])
        arrays = {
            name: (str(row["dtype"]), [int(n) for n in row["shape"]], row["data_offsets"])
            for name, row in header.items()
        }
        return {"bytes": len(raw), "arrays": arrays, "types": _TYPE.findall(about)}
    except OSError as error:
        raise Refused(f"{path.name}: {error.strerror}\nNext: name a model file") from None
    except (ValueError, KeyError, TypeError, AttributeError, MemoryError):
        raise Refused(f"{path.name}: not a model file, or damaged\n{advice}") from None


def _milestone_classes(types: list[str]) -> dict[str, type]:
    """Those layers of the 1998 milestone that a file names."""
    names = {"Unit", "Residual", "Whitened", "Head", "LoopConv2d"} & set(types)
    if not names:
        return {}
    run = stage.load(course.find_milestone("1998").folder / "run.py")
    return {name: getattr(run, name) for name in names}


def text_model(model: Any) -> Any:
    """The part of it that reads tokens and has a `config`, or None."""
    inner = getattr(model, "gpt", model)
    return inner if hasattr(getattr(inner, "config", None), "context") else None


def wanted(model: Any) -> tuple[int, ...]:
    """The size of what its first layer with a weight reads: (features,) or (channels,)."""
    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        shape: Any = getattr(layer, "shape", None) or getattr(weight, "shape", ())
        if len(shape) in (2, 4):
            return (shape[1],) if len(shape) == 2 else (shape[1], 0)
    raise Refused(
        "the model has no layer with a weight: there is nothing to measure\n"
        "Next: save a model made of the course's layers"
    )


def one_input(model: Any, job: Job) -> Any:
    """Random numbers (1, ...) of the shape that the model reads, the same every time."""
    import numpy as np

    rng, sizes = np.random.default_rng(0), wanted(model)
    if len(sizes) == 1:
        return rng.random((1, *sizes), dtype=np.float32)
    for side in (8, 28, 32) if sizes[0] == 1 else (32,):
        x = rng.random((1, sizes[0], side, side), dtype=np.float32)
        try:
            answer(model, x)
        except ValueError:
            continue
        return x
    raise Refused(
        f"{Path(job['model']).name} takes no image of 8, 28 or 32 pixels a side\n"
        "Next: save a model that reads one of the course's data sets"
    )


def answer(model: Any, x: Any) -> Any:
    """Its outputs for an array, without gradients."""
    from tinytorch import Tensor, no_grad

    with no_grad():
        return model(Tensor(x)).data


def writer(built: int) -> tuple[str, Callable[..., list[int]]]:
    """How tokens are written: with a cache where module 17 is built."""
    name = "generate_cached" if built >= 17 else "generate"
    return name, getattr(importlib.import_module("tinytorch"), name)


# Accuracy ----------------------------------------------------------------------------------------


def accuracy(job: Job, folder: Path) -> dict[str, Any]:
    """Raw predictions for questions whose answers this process was not given."""
    model = load(job)
    if job["dataset"] == "tinytalks":
        return _answers(model, job, folder) | surroundings()
    return _classes(model, job, folder) | surroundings()


def _classes(model: Any, job: Job, folder: Path) -> dict[str, Any]:
    import numpy as np

    if text_model(model):
        raise _unfit(job, "it reads tokens, not images")
    images = prepared(np.load(folder / "inputs.npy"))  # (N, C, H, W)
    sizes, each = wanted(model), int(np.prod(images.shape[1:]))
    if len(sizes) == 1:
        images = images.reshape(len(images), -1)
    if sizes[0] != images.shape[1]:
        reads = f"{sizes[0]} {'numbers' if len(sizes) == 1 else 'channels'}"
        raise _unfit(job, f"it reads {reads}, and an image here has {each}")
    try:
        first = answer(model, images[:1])
    except ValueError as error:
        raise _unfit(job, str(error).splitlines()[0]) from None
    if first.ndim != 2 or first.shape[1] < 10:
        raise _unfit(job, f"it answers with the shape {first.shape}, not with 10 classes")
    classes: list[int] = []
    for start in range(0, len(images), BATCH):
        classes += answer(model, images[start : start + BATCH]).argmax(axis=1).tolist()
        if start // BATCH % 40 == 39:
            print(f"  {len(classes):,} of {len(images):,} images", flush=True)
    return {"predictions": classes, "how": "the class with the largest output, in eval mode"}


def _unfit(job: Job, why: str) -> Refused:
    name = Path(job["model"]).name
    return Refused(f"{name} does not fit {job['dataset']}: {why}\nNext: name its own --dataset")


def prepared(images: Any) -> Any:
    """Images of bytes (N, H, W) or (N, 3, H, W) as the milestones give them, (N, C, H, W)."""
    import numpy as np

    if images.ndim == 3:
        return (images[:, None] / INK[images.shape[1]]).astype(np.float32)
    mean, std = (np.array(v, np.float32)[:, None, None] for v in (MEAN, STD))
    return (images.astype(np.float32) - mean) / std


def _answers(model: Any, job: Job, folder: Path) -> dict[str, Any]:
    gpt = text_model(model)
    if gpt is None:
        raise _unfit(job, "it does not read tokens")
    run = stage.load(course.find_milestone("2017").folder / "run.py")
    tokenizer, source = _tokenizer(run, gpt.config.vocab_size, job)
    name, write = writer(job["built"])
    asks, end = tokenizer.special_tokens[run.ANSWER], tokenizer.special_tokens[run.END]
    questions, said = job["questions"], []
    for number, question in enumerate(questions, 1):
        prompt = [*tokenizer.encode(question), asks]
        tokens = write(gpt, prompt, run.ROOM, temperature=0.0, stop_tokens=[end])
        said.append(tokenizer.decode([int(t) for t in tokens[len(prompt) :] if t != end]))
        if number % 50 == 0:
            print(f"  {number} of {len(questions)} questions", flush=True)
    return {"predictions": said, "how": f"the likeliest tokens, by {name}; {source}"}


def _tokenizer(run: Any, size: int, job: Job) -> tuple[Any, str]:
    """The tokenizer: of the milestone's record in this workspace, else made anew as it makes it."""
    special = [run.ANSWER, run.END]
    if recorded := _recorded_merges(Path(job["weights"])):
        found = run.BPETokenizer(recorded, special)
        if found.vocab_size == size:
            return found, "tokens of the recorded milestone"
    cut = len(job["known"]) - len(job["known"]) // run.KEPT
    questions, answers = zip(*job["known"][:cut])
    found = run.BPETokenizer.train("\n".join([*questions, *answers]), size, special)
    if found.vocab_size != size:
        raise _unfit(job, f"it knows {size} tokens, the texts give {found.vocab_size}")
    return found, "tokens made anew from the training texts"


def _recorded_merges(path: Path) -> list[tuple[int, int]]:
    import safetensors
    import safetensors.numpy

    try:
        merges = safetensors.numpy.load(path.read_bytes())["tinytalks/after/merges"]
        return [(int(a), int(b)) for a, b in merges]
    except (OSError, KeyError, ValueError, safetensors.SafetensorError):
        return []


# Speed, memory, size -----------------------------------------------------------------------------


def speed(job: Job, folder: Path) -> dict[str, Any]:
    """One query after the other: rounds beside the kernel, then the single-stream scenario."""
    model = load(job)
    queries, units, told = _queries(model, job)
    first = next(iter(queries))
    once = harness().time_block(queries[first], 1)
    rounds = max(WARM, min(ROUNDS, int(job["limit"] / (2 * len(queries) * max(once, SECONDS)))))
    found = timed(queries, rounds, SECONDS)
    least = 2 * sum(p.size for p in model.parameters()) / job["fastest"]
    if found[first]["median"] < least:
        raise Refused(
            f"{found[first]['median']:.2g} s is too fast to be real: its parameters alone take "
            f"{least:.2g} s\nNext: look at the model's forward"
        )
    scenario = harness().single_stream(
        lambda query: queries[first](), [0], harness().Minimum(1.0, 100), job["limit"]
    )
    return {"queries": found, "units": units, "scenario": _scenario(scenario), **told,
            **surroundings()}  # fmt: skip


def _queries(model: Any, job: Job) -> tuple[dict[str, Callable[[], Any]], dict[str, float], Any]:
    """What is timed, by name, how many units each gives, and in what words."""
    import numpy as np

    if gpt := text_model(model):
        return _text_queries(gpt, job)
    x = one_input(model, job)
    many = np.repeat(x, BATCH, axis=0)
    told = {"unit": "inputs", "how": f"one input {x.shape[1:]} at a time, and {BATCH} at once"}
    queries = {"one": lambda: answer(model, x), "batch": lambda: answer(model, many)}
    return queries, {"one": 1, "batch": BATCH}, told


def _text_queries(gpt: Any, job: Job) -> tuple[dict[str, Callable[[], Any]], dict[str, float], Any]:
    prompt, new = _prompt(gpt, job), job["tokens"]
    name, write = writer(job["built"])
    queries = {
        "write": lambda: write(gpt, prompt, new, temperature=0.0),
        "first": lambda: write(gpt, prompt, 1, temperature=0.0),
    }
    how = f"reads {len(prompt)} tokens and writes {new}, by {name}"
    if len(prompt) + new > gpt.config.context:
        how += f"; the context of {gpt.config.context} is full on the way"
    return queries, {"write": new, "first": 1}, {"unit": "tokens", "how": how}


def _prompt(gpt: Any, job: Job) -> list[int]:
    """Random tokens, as many as asked for; half the context if nothing was."""
    import numpy as np

    context = gpt.config.context
    length = job["input_length"] or max(1, context // 2)
    if length > context:
        raise Refused(
            f"--input-length {length}: the model reads {context} tokens at most\n"
            f"Next: the same with --input-length {context}"
        )
    return np.random.default_rng(0).integers(0, gpt.config.vocab_size, length).tolist()  # type: ignore[no-any-return]


def _scenario(found: Any) -> dict[str, Any]:
    percentiles = {f"p{q:g}": seconds for q, seconds in found.latency.percentiles.items()}
    return {"name": found.name, "queries": found.queries, "duration": found.duration,
            "percentiles": percentiles, "maximum": found.latency.maximum,
            "valid": bool(found.valid), "why": found.why}  # fmt: skip


def memory(job: Job, folder: Path) -> dict[str, Any]:
    """Bytes of one inference as tracemalloc sees them (NumPy reports to it), several times."""
    model = load(job)
    if gpt := text_model(model):
        import numpy as np

        reader, x = gpt, np.array([_prompt(gpt, job)])
        how = f"reads {x.size} tokens"
    else:
        reader, x = model, one_input(model, job)
        how = f"one input {x.shape[1:]}"

    def infer() -> Any:
        return answer(reader, x)

    infer()  # what is made once, is made now
    found = [traced(infer) for _ in range(job["rounds"])]
    return {"peak": [peak for peak, _ in found], "live": [live for _, live in found],
            "held": _held(model), "how": how, **surroundings()}  # fmt: skip


def traced(function: Callable[[], object]) -> tuple[int, int]:
    """(most bytes at one time, bytes its result keeps), above what was there before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = function()
        live, peak = tracemalloc.get_traced_memory()
        del kept
    finally:
        tracemalloc.stop()
    return peak - before, live - before


def _held(model: Any) -> int:
    """Bytes of the model's arrays, shared ones once."""
    arrays = {id(tensor.data): tensor.data.nbytes for _, tensor in model.named_tensors()}
    return sum(arrays.values())


def size(job: Job, folder: Path) -> dict[str, Any]:
    """Bytes on disk, and what of them are numbers, by type: from the file's header."""
    header = read_header(Path(job["model"]))
    types: dict[str, dict[str, int]] = {}
    for dtype, shape, (start, end) in header["arrays"].values():
        count = 1
        for n in shape:
            count *= n
        row = types.setdefault(dtype, {"arrays": 0, "numbers": 0, "bytes": 0})
        row["arrays"], row["numbers"] = row["arrays"] + 1, row["numbers"] + count
        row["bytes"] += end - start
    model = load(job)
    how = "the file's length; types from its header; parameters of the model that it loads"
    return {"bytes": header["bytes"], "types": types, "parameters": _weights(model), "how": how,
            **surroundings()}  # fmt: skip


def _weights(model: Any) -> int:
    """Trainable numbers, and those of layers whose weight became integers, two to a byte or not."""
    import math

    found = {id(p): p.size for p in model.parameters()}
    for layer in model.modules():
        weight, shape = getattr(layer, "weight", None), getattr(layer, "shape", None)
        if weight is not None and isinstance(shape, tuple) and id(weight) not in found:
            found[id(weight)] = math.prod(shape)
            if (bias := getattr(layer, "bias", None)) is not None:
                found[id(bias)] = bias.size
    return sum(found.values())


def reads(job: Job, folder: Path) -> dict[str, Any]:
    """Which data set a model is made for, by the shape of its input."""
    model = load(job)
    if text_model(model):
        return {"dataset": "tinytalks"}
    sizes = {64: "digits", 784: "mnist", 3072: "cifar10"}
    return {"dataset": sizes.get(one_input(model, job).size, "")}


def work(job: Job, folder: Path) -> dict[str, Any]:
    """FLOPs of the matrix products of one answer, and FLOP/s of a matmul in this process."""
    import numpy as np

    model = load(job)
    if gpt := text_model(model):
        length = min(job["input_length"], gpt.config.context)
        model, x = gpt, np.zeros((1, length), dtype=np.int64)
    else:
        x = one_input(model, job)
    return {"flops": counted(model, x), "matmul": matmul_rate()}


def counted(model: Any, x: Any) -> int:
    """2 per output and weight that meet in a Linear or Conv2d, quantized or not; biases left out.

    Layers are watched by a `forward` of their own, which is taken off again.
    """
    import math

    flops, watched = [0], []

    def watch(layer: Any, shape: tuple[int, ...]) -> None:
        forward = layer.forward

        def counting(*inputs: Any, **options: Any) -> Any:
            out = forward(*inputs, **options)
            flops[0] += 2 * out.size * math.prod(shape[1:])
            return out

        layer.forward = counting
        watched.append(layer)

    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        shape: Any = getattr(layer, "shape", None) or getattr(weight, "shape", ())
        if "forward" not in vars(layer) and _multiplies(layer) and len(shape) in (2, 4):
            watch(layer, tuple(shape))
    try:
        answer(model, x)
    finally:
        for layer in watched:
            del layer.forward
    return flops[0]


def _multiplies(layer: Any) -> bool:
    """Whether a layer is a Linear or a Conv2d by name, not a table that is looked up in."""
    return any(kind.__name__.endswith(("Linear", "Conv2d")) for kind in type(layer).__mro__)


def matmul_rate(size: int = 256, times: int = 8) -> float:
    """FLOP/s of NumPy's matrix product, the fastest of some."""
    import numpy as np

    a = np.ones((size, size), dtype=np.float32)
    seconds: float = min(harness().time_block(lambda: a @ a, 1) for _ in range(times))
    return 2 * size**3 / seconds


TRACKS: dict[str, Callable[[Job, Path], dict[str, Any]]] = {
    "baseline": baseline, "accuracy": accuracy, "speed": speed, "memory": memory, "size": size,
    "reads": reads, "work": work,
}  # fmt: skip


if __name__ == "__main__":
    main()
