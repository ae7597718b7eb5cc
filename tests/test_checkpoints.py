"""Checkpoints: the reference answers every question, stubs and broken frameworks do not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.workspaces import built
from tito import checkpoints, course, export, solutions, source, workspace
from tito.checkpoints import Checkpoint
from tito.course import CourseError
from tito.progress import Progress
from tito.workspace import Workspace, WorkspaceError

WRITTEN = [c for c in checkpoints.checkpoints() if c.exists]
BUILT = [c for c in WRITTEN if c.needs]

# Number of a checkpoint -> module, question that must not be answered, what is appended.
BROKEN = [
    (1, "core.tensor", "rank_pages_by_their_links",
     "Tensor.__matmul__ = lambda self, other: Tensor(self.data.swapaxes(-1, -2) @ other.data)"),
    (1, "core.tensor", "standardize_a_table",
     "Tensor.sum = lambda self, axis=None, keepdims=False: Tensor(self.data.sum())"),
    (1, "core.tensor", "know_what_memory_is_shared",
     "Tensor.reshape = lambda self, *s: Tensor(self.data.reshape(*s).copy())"),
    (2, "core.activations", "draw_a_curve_with_bends", "ReLU.forward = lambda self, x: x * 1"),
    (2, "core.activations", "stay_finite",
     "Sigmoid.forward = lambda self, x: Tensor(1 / (1 + np.exp(-x.data)))"),
    (2, "core.activations", "turn_scores_into_chances",
     "Softmax.forward = lambda self, x: Tensor(softmax(x.data, -1))"),
    (3, "core.layers", "find_every_parameter_once",
     "Module.named_parameters = Module.named_tensors"),
    (3, "core.layers", "bring_it_back_from_a_file",
     "Module.load_state_dict = lambda self, state: None"),
    (3, "core.layers", "assemble_a_residual_network",
     "Module.eval = lambda self: setattr(self, 'training', False) or self"),
    (3, "core.layers", "keep_a_signal_alive_through_fifty_layers",
     "def kaiming_normal_(tensor, **options):\n    return normal_(tensor, std=0.01)"),
    (4, "core.losses", "price_a_guess",
     "CrossEntropyLoss.forward = lambda self, x, target: Tensor(2.3)"),
    (4, "core.losses", "survive_certainty",
     "def log_sum_exp(x, axis=-1):\n    return np.log(np.exp(x).sum(axis=axis))\n"
     "def cross_entropies(x, c):\n    return log_sum_exp(x) - x[np.arange(len(c)), c]"),
    (4, "core.losses", "agree_with_itself",
     "def as_target(prediction, target):\n"
     "    return target if isinstance(target, Tensor) else Tensor(target)"),
    (5, "core.autograd", "a_banana_shaped_valley",
     "def _send(grads, tensor, g):\n    node = tensor._node\n"
     "    for position, parent in node.parents:\n"
     "        part = node.rules[position](g, tensor.data, *node.args, **node.kwargs)\n"
     "        grads[id(parent)] = unbroadcast(part, parent.data.shape).copy()"),
    (5, "core.autograd", "looking_things_up",
     "def _lookup(g, out, x, key):\n    slope = np.zeros_like(x)\n    slope[key] = g\n"
     "    return slope\nGRADIENTS[Tensor]['__getitem__'] = (_lookup,)"),
    (5, "core.autograd", "a_chain_of_ten_thousand",
     "def topological_sort(root):\n    order, seen = [], set()\n    def visit(t):\n"
     "        if id(t) not in seen:\n            seen.add(id(t))\n"
     "            for _, p in t._node.parents if t._node else ():\n                visit(p)\n"
     "            order.append(t)\n    visit(root)\n    return order"),
    (6, "core.optimizers", "walk_down_a_narrow_valley",
     "SGD.velocity = lambda self, grad, state: grad"),
    (6, "core.optimizers", "reach_the_end_of_the_banana",
     "Adam.adaptive_step = lambda self, w, g, s: descend(w, g, self.lr)"),
    (6, "core.optimizers", "let_weights_decay", "AdamW.update = Adam.update"),
    (6, "core.optimizers", "stop_and_go_on",
     "Optimizer.load_state_dict = lambda self, saved: setattr(self, 'lr', saved['lr'])"),
    (7, "core.training", "notice_when_nothing_is_to_be_learned",
     "def accuracy(logits, targets):\n    return 1.0\n"
     "Trainer.__init__.__kwdefaults__['metric'] = accuracy"),
    (7, "core.training", "resume_as_if_nothing_had_happened",
     "_load = Trainer.load_state_dict\ndef _forgetful(self, state, load=_load):\n"
     "    load(self, {**state, 'random': default_generator.bit_generator.state})\n"
     "Trainer.load_state_dict = _forgetful"),
    (7, "core.training", "keep_steps_and_patience_in_bounds",
     "EarlyStopping.should_stop = lambda self, losses: False"),
    (8, "data.loader", "hand_out_every_row_once",
     "TensorDataset.__getitems__ = lambda self, i: tuple(a[i * 0 + 1] for a in self.arrays)"),
    (8, "data.loader", "repeat_an_epoch_exactly",
     "DataLoader._next_key = lambda self: (self.seed, int(np.random.default_rng().integers(99)))"),
    (8, "data.loader", "read_what_others_wrote",
     "def read_idx(path, published=None):\n    raw = Path(path).read_bytes()\n"
     "    return np.frombuffer(raw[16:], dtype=np.uint8).reshape(2, 3, 4)"),
    (8, "data.loader", "hide_the_waiting",
     "def prefetched(batches, count):\n    yield from batches"),
    (8, "data.loader", "change_images_but_not_what_they_show",
     "Cutout.__call__ = lambda self, images, generator: images"),
    (9, "nn.conv", "find_the_edges",
     "def conv2d_forward(x, weight, bias, stride, padding):\n"
     "    return conv2d_explicit(x, weight[..., ::-1], bias, stride, padding)"),
    (9, "nn.conv", "learn_a_filter_that_nobody_shows",
     "Conv2d.parameters = lambda self: [self.bias]"),
    (9, "nn.conv", "see_a_shape_wherever_it_stands",
     "BatchNorm2d.observe = lambda self, v: (v.mean(axis=(0, 2, 3)), v.var(axis=(0, 2, 3)))"),
    (9, "nn.conv", "judge_a_picture_alone",
     "_eval = BatchNorm2d.forward\ndef _always(self, x, forward=_eval):\n"
     "    self.training = True\n    return forward(self, x)\nBatchNorm2d.forward = _always"),
    (10, "nn.embedding", "teach_every_place_of_a_word",
     "def _assigned(g, out, weight, indices):\n    slope = np.zeros_like(weight)\n"
     "    slope[indices] = g\n    return slope\n"
     "embedding = tracked(lookup, (_assigned, None), 'embedding')"),
    (10, "nn.embedding", "tell_who_bites_whom",
     "SinusoidalPositions.forward = lambda self, x, start=0: x"),
    (10, "nn.embedding", "go_on_where_the_text_stopped",
     "def window(length, start, count):\n    return slice(0, count)"),
    (10, "nn.embedding", "know_only_the_distance",
     "rotary = tracked(lambda x, cos, sin: Tensor(turn_pairs(x.data, cos, sin)),\n"
     "    (lambda g, out, x, cos, sin: turn_pairs(g, cos, sin), None, None), 'rotary')"),
    (10, "nn.embedding", "refuse_what_has_no_row",
     "def token_ids(indices, count):\n    return whole_numbers(indices)"),
    (11, "nn.transformer", "say_how_large_it_will_be",
     "def parameter_count(c):\n"
     "    return 12 * c.layers * c.dim**2 + (c.vocab_size + c.context) * c.dim"),
    (11, "nn.transformer", "agree_with_numpy_about_a_block",
     "Block.forward = lambda self, x, mask=None: self.norm2(\n"
     "    (y := self.norm1(x + self.attention(x, mask=mask))) + self.mlp(y))"),
    (11, "nn.transformer", "train_it_to_remember",
     "def causal_mask(length):\n    return np.ones((length, length), dtype=bool)"),
    (11, "nn.transformer", "let_it_speak",
     "_longer = generate\ndef generate(model, tokens, count, *args, longer=_longer, **knobs):\n"
     "    knobs.pop('stop_tokens', None)\n    return longer(model, tokens, count, *args, **knobs)"),
    (11, "nn.transformer", "speak_by_chance_as_told",
     "def with_temperature(logits, temperature):\n"
     "    shares = np.exp(logits.astype(np.float64) - logits.max())\n"
     "    return shares / shares.sum()"),
    (11, "nn.transformer", "turn_a_row_around",
     "Transformer.forward = lambda self, source, target, mask=None: self.decode(\n"
     "    target, self.encode(source, mask) * 0, mask)"),
    (12, "profiling", "say_what_a_network_costs",
     "def conv2d_cost(layer, x_shape, out_shape):\n    return Cost(math.prod(out_shape), 1)\n"
     "COSTS[Conv2d] = conv2d_cost"),
    (12, "optim.quantization", "say_a_number_in_eight_bits",
     "def quantize_array(x, scale, zero_point, scheme):\n"
     "    return np.trunc(x / scale + zero_point).astype(scheme.dtype)"),
    (12, "optim.quantization", "quarter_a_file_and_keep_its_answers",
     "def quantize(model, *rest, **options):\n    return model"),
    (12, "optim.compression", "prune_and_still_read", "Pruning.apply = lambda self: None"),
    (12, "optim.compression", "remove_channels_for_good",
     "def prune_channels(model, keep):\n    return model"),
    (13, "nn.kvcache", "write_without_reading_again",
     "_append = KVCache.append\ndef _late(self, layer, key, value):\n"
     "    _append(self, layer, key, value)\n"
     "    return Tensor(self.keys[layer, :, :, : self.length]), "
     "Tensor(self.values[layer, :, :, : self.length])\nKVCache.append = _late"),
    (13, "nn.kvcache", "write_for_several_at_once",
     "def real_keys(padding, total):\n"
     "    return np.ones((len(padding), 1, 1, total), dtype=bool)"),
    (13, "nn.kvcache", "count_the_rows",
     "from tinytorch.nn.transformer import generate\n"
     "def generate_cached(model, tokens, count, *rest, keep=None, **knobs):\n"
     "    return generate(model, tokens, count, *rest, **knobs)"),
    (13, "core.acceleration", "run_on_other_kernels_unnoticed",
     "F4 = F2 = F4._replace(out=F4.out * 1.1)"),
    (13, "core.acceleration", "leave_everything_as_it_was",
     "def disable_acceleration():\n    pass"),
    (14, "benchmarking", "wait_until_it_is_steady",
     "def warm_up(function, *rest, **options):\n    function()\n    return 1"),
    (14, "benchmarking", "measure_side_by_side",
     "def noise_verdict(measurement, limit=0.05):\n    return Verdict(True, 'fine')"),
    (14, "benchmarking", "claim_only_what_holds",
     "_whole = summarize\ndef summarize(samples):\n"
     "    return _whole(np.full(len(samples), np.mean(samples)))"),
    (14, "benchmarking", "see_the_tail",
     "def percentile(latencies, q):\n    return float(np.mean(latencies))"),
    (14, "benchmarking", "choose_what_nobody_beats",
     "def pareto_front(points, minimize=True):\n    return list(range(len(points)))"),
    (15, "olympics", "judge_a_target",
     "def accuracy_from(predictions, answers, claim=None):\n    return claim or 0.625"),
    (15, "olympics", "keep_what_helps",
     "def decide(before, after, old, new, may_lose=0.02):\n    return Decision(True, 'newer')"),
    (15, "olympics", "make_a_network_smaller_and_keep_its_answers",
     "def front(entry):\n    return entry.stages"),
    (15, "olympics", "leave_no_trace_of_yourself",
     "def source_hash(root, names):\n"
     "    return hashlib.sha256(str(list(names)).encode()).hexdigest()"),
    (15, "olympics", "refuse_a_record_that_is_not_whole",
     "def validate(record, schema=SCHEMA, where='record'):\n    return []"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TITO_COURSE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return built(tmp_path_factory.mktemp("checkpoints") / "my-torch", 20)


@contextmanager
def changed(file: Path, text: str) -> Iterator[None]:
    """The file with another text."""
    before = file.read_bytes()
    file.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        file.write_bytes(before)


def test_there_are_sixteen_in_the_order_of_the_modules() -> None:
    table = checkpoints.checkpoints()
    assert [c.number for c in table] == list(range(16))
    assert [c.needs for c in table] == sorted(c.needs for c in table)
    assert table[-1].needs == 20 and all(c.question.endswith("?") for c in table)


@pytest.mark.parametrize("checkpoint", WRITTEN, ids=lambda c: c.id)
def test_reference_answers_every_question(ws: Workspace, checkpoint: Checkpoint) -> None:
    result = checkpoints.ask(ws, checkpoint)
    assert result.ok and result.passed == result.questions, result.blame
    assert len(result.questions) >= 4


@pytest.mark.parametrize("checkpoint", BUILT, ids=lambda c: c.id)
def test_stub_answers_nothing(tmp_path: Path, checkpoint: Checkpoint) -> None:
    ws = built(tmp_path / "my-torch", checkpoint.needs - 1)
    module = course.modules()[checkpoint.needs - 1]
    shipped = solutions.strip(source.read(module.path), module.id)
    ws.write(ws.export_path(module.export), export.export(shipped))
    workspace.refresh(ws)
    result = checkpoints.ask(ws, checkpoint)
    assert not result.ok and not result.passed
    assert result.blame is not None and result.blame.guilty == module.id


@pytest.mark.parametrize(
    ("number", "dotted", "question", "code"), BROKEN, ids=[f"{n}-{q}" for n, _, q, _ in BROKEN]
)
def test_broken_framework_is_stopped_at_the_question(
    ws: Workspace, number: int, dotted: str, question: str, code: str
) -> None:
    file = ws.export_path(dotted)
    with changed(file, f"{file.read_text(encoding='utf-8')}\n\n{code}\n"):
        result = checkpoints.ask(ws, checkpoints.find(number))
    assert result.failure is not None, "it passed"
    assert result.failure.step.name == question
    owner = course.export_owner(dotted)
    assert owner and result.blame is not None and result.blame.guilty == owner.id


def test_module_below_is_named_when_it_is_the_guilty_one(ws: Workspace) -> None:
    file = ws.export_path("core.tensor")
    code = "Tensor.__matmul__ = lambda self, other: Tensor(self.data @ other.data * 1.5)"
    with changed(file, f"{file.read_text(encoding='utf-8')}\n\n{code}\n"):
        result = checkpoints.ask(ws, checkpoints.find("training"))
    assert result.blame is not None and result.blame.guilty == "01_tensor"
    assert result.blame.next == "tito module test 01"


@pytest.mark.parametrize("name", ["conftest.py", "tinytorch/__init__.py"])
def test_environment_notices_a_damaged_workspace(ws: Workspace, name: str) -> None:
    file = ws.root / name
    before = file.read_bytes()
    file.unlink()
    try:
        result = checkpoints.ask(ws, checkpoints.find(0))
    finally:
        file.write_bytes(before)
    assert result.failure is not None
    assert result.failure.step.name in ("workspace", "whose_tinytorch")
    assert result.blame is not None and result.blame.next == "tito system doctor"


def test_a_pass_is_recorded_once_and_nothing_else_changes(ws: Workspace) -> None:
    before = {p: p.read_bytes() for p in ws.root.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    checkpoints.test(ws, checkpoints.find(2))
    first = Progress.load(ws).checkpoints["2"]
    checkpoints.test(ws, checkpoints.find(2))
    again = Progress.load(ws).checkpoints["2"]
    assert first["passed"] == again["passed"] and (first["attempts"], again["attempts"]) == (1, 2)
    changed_files = {p.name for p, raw in before.items() if p.read_bytes() != raw}
    assert changed_files <= {"progress.json"}
    assert checkpoints.standing(checkpoints.find(2), Progress.load(ws)).state == "passed"


def test_failure_is_recorded_as_an_attempt(tmp_path: Path) -> None:
    ws = built(tmp_path / "my-torch", 1)
    ws.export_path("core.tensor").write_text("raise RuntimeError('no')\n")
    assert not checkpoints.test(ws, checkpoints.find(1)).ok
    data = json.loads((ws.state_dir / "progress.json").read_text())
    assert data["checkpoints"]["1"] == {"attempts": 1, "passed": None}


@pytest.mark.parametrize("name", ["5", "05", "gradients", "05_gradients", 5])
def test_checkpoints_are_named_in_every_way(name: str | int) -> None:
    assert checkpoints.find(name).id == "05_gradients"


def test_unknown_locked_and_planned_checkpoints_say_what_to_do(tmp_path: Path) -> None:
    ws = built(tmp_path / "my-torch", 1)
    with pytest.raises(CourseError, match="0 to 15"):
        checkpoints.find("16")
    with pytest.raises(WorkspaceError, match=r"02_activations is not completed\nNext: .* start 02"):
        checkpoints.test(ws, checkpoints.find(5))
    for checkpoint in checkpoints.checkpoints():
        if not checkpoint.exists:
            with pytest.raises(WorkspaceError, match="not part of this release"):
                checkpoints.test(ws, checkpoint)
