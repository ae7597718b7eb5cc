"""Your entry for the language track of the Olympics: it runs as it is, and is yours to improve.

    python olympics/vision/entry.py             some minutes: 300 questions are answered, twice

It takes the GPT that you trained in milestone 2017, saves it as before.pt, optimises a copy, saves
that as after.pt, and writes what a judge needs: predictions.json, submission.json, waterfall.svg.
Without a recorded 2017 it trains a very small GPT for a moment, which answers next to nothing. What
to change is `RECIPE`. Then: tito olympics check
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy is there: as a judge measures

import importlib.util
import json
import tomllib
from pathlib import Path

import numpy as np
import safetensors.numpy

import tinytorch
from tinytorch import (
    Entry,
    Figures,
    Stage,
    accelerated,
    accuracy_from,
    generate,
    generate_cached,
    interleave,
    load,
    load_tinytalks,
    quantize,
    save,
    submission,
    waterfall,
    waterfall_svg,
    write_submission,
)

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]  # the workspace
TRACK = tomllib.loads((HERE / "target.toml").read_text(encoding="utf-8"))
MILESTONE = ROOT / "milestones" / "2017_transformer"
ROUNDS = 20  # of the clock


# What you change ----------------------------------------------------------------------------------


def cached(gpt):
    """The same weights, written with a cache (module 17)."""
    return gpt, generate_cached


def fast(gpt):
    """The same again, on the kernels of module 18."""

    def write(*args, **options):
        with accelerated(threads=1):
            return generate_cached(*args, **options)

    return gpt, write


def int8(gpt):
    """Weights and products in 8 bits (module 15): a quarter of the bytes. Time it first."""
    return quantize(gpt), generate_cached


RECIPE = {"cached": cached, "fast kernels": fast}


# Where it begins ----------------------------------------------------------------------------------


def milestone():
    """The script of milestone 2017 in this workspace, as a module."""
    spec = importlib.util.spec_from_file_location("milestone_2017", MILESTONE / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    return run


def start(run, talks):
    """The talker you recorded in milestone 2017, or a very small one that is trained now."""
    path, begin = MILESTONE / "weights.safetensors", "tinytalks/after/"
    arrays = safetensors.numpy.load(path.read_bytes()) if path.is_file() else {}
    weights = {k[len(begin) :]: a for k, a in arrays.items() if k.startswith(begin)}
    if weights:
        return run.restore(weights)
    print("2017 is not recorded: tito milestone run 2017 gives a GPT that answers")
    run.TALKS = {"context": 72, "dim": 32, "heads": 2, "layers": 1, "dropout": 0.0}
    known = [*talks.train, *talks.validation]
    questions, answers = (np.array(texts) for texts in zip(*(pair[:2] for pair in known)))
    return run.talks(questions, answers, epochs=1)["model"]


# The entry ----------------------------------------------------------------------------------------


def said(run, talker, gpt, questions):
    """The likeliest answer to each question, as a judge asks again: with a cache, plain."""
    found, end = [], [talker.tokenizer.special_tokens[run.END]]
    for question in questions:
        prompt = talker.prompt(question)
        tokens = generate_cached(gpt, prompt, run.ROOM, temperature=0.0, stop_tokens=end)
        found.append(talker.text(tokens[len(prompt) :]))
    return found


def measure(models):
    """Module 19's measurement of one answer of each model, side by side: 16 tokens after 16."""
    prompt = list(range(TRACK["prompt"]))

    def asked(gpt, write):
        return lambda: write(gpt, prompt, TRACK["tokens"], temperature=0.0)

    return interleave({name: asked(*pair) for name, pair in models.items()}, ROUNDS, 0.02)


def main():
    run, talks = milestone(), load_tinytalks()
    print(f"{TRACK['title']}, by {tinytorch.origin}")
    talker = start(run, talks)
    models, notes = {"before": (talker.gpt.eval(), generate)}, {"before": "as it was trained"}
    for name, step in RECIPE.items():
        models[name], notes[name] = step(models["before"][0]), step.__doc__
    sizes = {}
    for name, (gpt, write) in models.items():
        path = HERE / {"before": "before.pt"}.get(name, "after.pt")
        save(gpt, path)
        models[name], sizes[name] = (load(path), write), path.stat().st_size  # as a file is
        print(f"  {name}: {sizes[name]:,} bytes")

    # All is decided. Only now are the test's answers looked at, once.
    questions, answers = ([pair[i] for pair in talks.test] for i in (0, 1))
    raw = {name: said(run, talker, gpt, questions) for name, (gpt, _) in models.items()}
    last = list(models)[-1]
    told = json.dumps({"before": raw["before"], "after": raw[last]}, ensure_ascii=False)
    (HERE / "predictions.json").write_text(told + "\n", encoding="utf-8")
    speed, stages = measure(models), []
    for name in models:
        accuracy = accuracy_from(raw[name], answers)
        figures = Figures(accuracy, speed[name].summary.median, sizes[name])
        stages.append(Stage(name, figures, notes[name]))
    entry = Entry(TRACK["id"], stages)
    record = submission(entry, TRACK, "tinytalks", HERE, (speed["before"], speed[last]))
    write_submission(record, HERE / "submission.json")
    waterfall_svg(entry, HERE / "waterfall.svg")
    print(waterfall(entry))
    print("Next: tito olympics check " + TRACK["id"])


if __name__ == "__main__":
    main()
