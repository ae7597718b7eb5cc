"""Milestones: the reference passes, every broken framework fails with its module named."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from tests.workspaces import broken, built
from tito import course, data, judge, milestones, probes, sandbox, workspace
from tito.course import CourseError, Milestone
from tito.judge import Made, Options
from tito.milestones import Verdict
from tito.probes import Knockout
from tito.progress import Progress
from tito.workspace import Workspace, WorkspaceError

WRITTEN = [m for m in course.milestones() if m.exists]
SHORT = {"1958_perceptron": Options(), "1969_xor": Options(),
         "1986_mlp": Options(epochs=6, data="tinydigits"),
         "1998_cnn": Options(epochs=1, data="tinydigits"),
         "2017_transformer": Options(epochs=30, data="tinytalks"),
         "2024_production": Options(epochs=4, data="tinydigits")}  # fmt: skip
TOPICS = {"letters", "lists", "colours"}  # what 2017 learns here
FEW = data.Talks(*([p for p in split if p.topic in TOPICS] for split in data.load_tinytalks()))
KNOCKOUTS = [(m, k) for m in WRITTEN for k in probes.knockouts(m)]
FINDINGS = {"outputs", "claim", "claim loss", "claim accuracy", "merges", "moved", "attention rows",
            *(k.caught for m, k in KNOCKOUTS if m.year == "2024")}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return built(tmp_path_factory.mktemp("milestones") / "my-torch")


@pytest.fixture
def ws(shared: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TINYTORCH_DATA", "TITO_COURSE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setattr(data, "load_tinytalks", lambda: FEW)
    monkeypatch.setattr(milestones, "load_gate", lenient(milestones.load_gate))
    return shared


def lenient(load: Any) -> Any:
    """A judge that asks for less speed: the machine may be busy, and the answers are short."""

    def loaded(milestone: Milestone) -> Any:
        gate = load(milestone)
        if hasattr(gate, "FASTER"):
            gate.FASTER = dict.fromkeys(gate.FASTER, 3.0)
        return gate

    return loaded


def only(load: Any, name: str) -> Any:
    """A judge of one part: what breaks in it need not be looked for in the others."""

    def loaded(milestone: Milestone) -> Any:
        gate = load(milestone)
        parts = gate.parts
        gate.parts = lambda *given: [part for part in parts(*given) if part.name == name]
        return gate

    return loaded


def ready(ws: Workspace, milestone: Milestone) -> None:
    """Records of the earlier milestones whose networks this one takes up."""
    for name in getattr(milestones.load_gate(milestone), "EARLIER", ()):
        earlier = course.find_milestone(name)
        if milestones.read_record(ws, earlier) is None:
            assert milestones.run(ws, earlier, SHORT[name], lambda line: None).ok


def run(ws: Workspace, milestone: Milestone, **options: Any) -> Verdict:
    return milestones.run(ws, milestone, SHORT[milestone.id], lambda line: None, **options)


# What passes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("milestone", WRITTEN, ids=lambda m: m.id)
def test_reference_passes_and_is_recorded(ws: Workspace, milestone: Milestone) -> None:
    lines: list[str] = []
    ready(ws, milestone)
    verdict = milestones.run(ws, milestone, SHORT[milestone.id], lines.append)
    place = ws.milestones_dir / milestone.id
    assert verdict.ok, verdict.blame
    assert any("epoch" in line and "left" in line for line in lines)
    assert {path.suffix for path in verdict.files} == {".json", ".safetensors", ".png"}
    assert all(path.stat().st_size > 500 for path in verdict.files)
    record = json.loads((place / "record.json").read_text())
    assert record["figures"] == verdict.figures and record["origin"].startswith("student (")
    assert Progress.load(ws).milestones[milestone.id]["passed"]
    assert (place / "run.py").read_bytes() == (milestone.folder / "run.py").read_bytes()


def test_figures_reach_what_the_curriculum_promises(ws: Workspace) -> None:
    perceptron, xor, mlp = (run(ws, milestone).figures for milestone in WRITTEN[:3])
    assert min(perceptron["line"]["accuracy"], perceptron["digits"]["accuracy"]) >= 0.99
    assert perceptron["line"]["margin"] > 0 and perceptron["cross"]["stuck"] <= 0.75
    assert xor["single"]["stuck"] <= 0.75 and xor["hidden"]["accuracy"] == 1.0
    assert mlp["tinydigits mlp"]["accuracy"] >= 0.95 > 0.9
    assert mlp["tinydigits mlp"]["accuracy"] > mlp["tinydigits linear"]["accuracy"]


@pytest.mark.parametrize("milestone", WRITTEN[:2], ids=lambda m: m.id)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds_pass(ws: Workspace, milestone: Milestone, seed: int) -> None:
    verdict = milestones.run(ws, milestone, Options(seed=seed), lambda line: None, probed=False)
    assert verdict.ok, verdict.blame


def test_perceptron_needs_no_gradients(tmp_path: Path, ws: Workspace) -> None:
    assert run(built(tmp_path / "early", last=4), WRITTEN[0]).ok


@pytest.mark.parametrize("milestone", WRITTEN, ids=lambda m: m.id)
def test_script_runs_by_itself_from_anywhere(ws: Workspace, milestone: Milestone) -> None:
    ready(ws, milestone)
    milestones.unlock(ws)
    script = ws.milestones_dir / milestone.id / "run.py"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TINYTORCH")}
    short = {"2017": ["--epochs", "1"], "2024": ["--epochs", "4"]}.get(milestone.year, [])
    command = [sys.executable, str(script), *short]
    done = subprocess.run(command, cwd="/", env=environment, text=True,
                          capture_output=True, encoding="utf-8")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tinytorch: student (") and "it has not seen" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"Next: tito milestone run {milestone.year}")


# What does not -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milestone", "knockout"), KNOCKOUTS, ids=[f"{m.year}-{k.name}" for m, k in KNOCKOUTS]
)
def test_broken_framework_fails_and_its_module_is_named(
    ws: Workspace, milestone: Milestone, knockout: Knockout, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = SHORT[milestone.id]
    ready(ws, milestone)
    if milestone.year == "2024":
        talks = "kvcache" in knockout.module or "tokens" in knockout.caught
        part = "language" if talks else "vision"
        monkeypatch.setattr(milestones, "load_gate", only(milestones.load_gate, part))
    if milestone.year == "2017":  # what its judge notices here, one epoch shows
        options = replace(options, epochs=1)
    with broken(ws, knockout.module, knockout.code):
        blame = milestones.run(ws, milestone, options, lambda line: None).blame
    assert blame is not None, "it passed"
    assert blame.guilty == knockout.guilty and blame.next.endswith(f"test {knockout.guilty[:2]}")
    assert blame.where.split(" ", 1)[1] == knockout.caught
    if blame.where.startswith("probe"):
        assert ("probably", knockout.diagnosis) in blame.rows
    else:
        assert knockout.caught in FINDINGS


# Without the probes: what the gate of 2024 says of them by itself.
BY_GATE = {
    "the cache ignores new tokens": ("language", "tokens with cache"),
    "the quantizer makes everything zero": ("vision", "half a step"),
    "the mask of a pruned model is not applied": ("vision", "removed"),
    "the benchmark times nothing": ("vision", "calls of first, one"),
}


@pytest.mark.parametrize("knockout", [k for _, k in KNOCKOUTS if k.name in BY_GATE],
                         ids=lambda k: k.name)  # fmt: skip
def test_gate_of_2024_finds_it_alone(
    ws: Workspace, knockout: Knockout, monkeypatch: pytest.MonkeyPatch
) -> None:
    milestone, (part, found) = course.find_milestone("2024"), BY_GATE[knockout.name]
    ready(ws, milestone)
    monkeypatch.setattr(milestones, "load_gate", only(milestones.load_gate, part))
    with broken(ws, knockout.module, knockout.code):
        blame = run(ws, milestone, probed=False).blame
    assert blame is not None, "it passed"
    assert (blame.guilty, blame.where) == (knockout.guilty, f"finding {found}")


# Without the probes: these break the training itself, or what it says about itself.
ALONE = [
    (m, k) for m, k in KNOCKOUTS
    if k.name in (
        "the matrix product leaves out the last term", "the sigmoid is constant",
        "Linear forgets its bias", "the loss is constant", "gradients point uphill",
        "the first layer is frozen", "no gradient gets through ReLU", "the optimizer does nothing",
        "rows and targets are shuffled apart", "accuracy is always 1",
        "the loss writes the answers into the logits",
    )
]  # fmt: skip


@pytest.mark.parametrize(
    ("milestone", "knockout"), ALONE, ids=[f"{m.year}-{k.name}" for m, k in ALONE]
)
def test_gate_alone_stops_what_spoils_the_training(
    ws: Workspace, milestone: Milestone, knockout: Knockout
) -> None:
    with broken(ws, knockout.module, knockout.code):
        assert not run(ws, milestone, probed=False).ok


def test_known_mistake_is_not_guessed_from_other_numbers(ws: Workspace) -> None:
    code = "CrossEntropyLoss.forward = lambda self, logits, target: logits.sum() * 0 + 5.0"
    with broken(ws, "core.losses", code):
        blame = run(ws, WRITTEN[2]).blame
    assert blame is not None and blame.guilty == "04_losses"
    assert "probably" not in dict(blame.rows)


def test_error_in_the_middle_names_file_and_line(ws: Workspace) -> None:
    code = "def train_loop(*args, **options):\n    raise IndexError('one too far')\n"
    with broken(ws, "core.training", code):
        blame = run(ws, WRITTEN[1], probed=False).blame
    assert blame is not None and blame.guilty == "07_training"
    assert blame.what == "it stopped with IndexError: one too far"
    assert "core/training.py" in dict(blame.rows)["where"]


@pytest.mark.parametrize(
    ("code", "said"), [("raise SystemExit(0)", "exit"), ("import os; os._exit(0)", "without")]
)
def test_framework_that_ends_python_does_not_pass(ws: Workspace, code: str, said: str) -> None:
    with broken(ws, "core.training", f"def train_loop(*args, **options):\n    {code}\n"):
        blame = run(ws, WRITTEN[1], probed=False).blame
    assert blame is not None and said in blame.what


def test_endless_training_is_stopped(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(milestones, "TIMEOUT", 2.0)
    with broken(ws, "core.training", "def train_loop(*args, **options):\n    while True: pass\n"):
        blame = run(ws, WRITTEN[1], probed=False).blame
    assert blame is not None and "still running" in blame.what


def test_too_few_epochs_accuse_nobody(ws: Workspace) -> None:
    verdict = milestones.run(ws, WRITTEN[1], Options(epochs=1), lambda line: None)
    assert verdict.blame is not None and not verdict.blame.guilty
    assert "1 epochs" in dict(verdict.blame.rows)["note"]
    assert verdict.blame.next == "tito milestone run 1969"


def test_failure_leaves_the_record_of_a_pass(ws: Workspace) -> None:
    run(ws, WRITTEN[1])
    record = (ws.milestones_dir / "1969_xor" / "record.json").read_bytes()
    with broken(ws, "core.optimizers", "Adam.adaptive_step = lambda *args: None"):
        assert not run(ws, WRITTEN[1]).ok
    assert (ws.milestones_dir / "1969_xor" / "record.json").read_bytes() == record
    assert Progress.load(ws).milestones["1969_xor"]["passed"]


# Honesty -----------------------------------------------------------------------------------------


def test_answers_of_held_out_rows_never_leave_the_judge(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed: dict[str, list[str]] = {}

    def look(arguments: list[str], *rest: Any) -> str:
        for file in Path(arguments[-1]).glob("*.npz"):
            with np.load(file, allow_pickle=False) as arrays:
                handed[file.name] = sorted(arrays.files)
        return "code 1"

    monkeypatch.setattr(sandbox, "stream", look)
    assert not run(ws, WRITTEN[2], probed=False).ok
    # Both networks see the same images, which are handed over once.
    assert handed == {"tinydigits linear.inputs.npz": ["held_out", "x", "y"]}


@pytest.mark.parametrize("milestone", WRITTEN, ids=lambda m: m.id)
def test_judges_never_import_the_framework(milestone: Milestone) -> None:
    for file in ("gate.py", "pictures.py"):
        assert "tinytorch" not in imports(milestone.folder / file)
    assert "tinytorch" not in imports(Path(judge.__file__))


@pytest.mark.parametrize("milestone", WRITTEN, ids=lambda m: m.id)
def test_script_stands_on_the_framework_and_numpy_alone(milestone: Milestone) -> None:
    allowed = {"pathlib", "sys", "time", "numpy", "tinytorch", "tito.data"}
    if milestone.year == "2024":  # files are written, and the earlier records read
        allowed |= {"tempfile", "typing", "safetensors.numpy"}
    assert imports(milestone.folder / "run.py") <= allowed


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


@pytest.mark.parametrize("milestone", WRITTEN, ids=lambda m: m.id)
def test_knockouts_are_many_and_in_their_own_module(milestone: Milestone) -> None:
    known = probes.knockouts(milestone)
    assert len({k.name for k in known}) == len(known) >= 5
    owners = [course.export_owner(k.module) for k in known]
    assert [owner.id for owner in owners if owner] == [k.guilty for k in known]


# The gate by itself: an XOR network made by hand, no framework anywhere --------------------------


def by_hand() -> tuple[Any, Any, Made]:
    """The gate of 1969, its hidden part, and weights that answer XOR: two lines, then an or."""
    gate = milestones.load_gate(WRITTEN[1])
    part = next(part for part in gate.parts(Options()) if part.name == "hidden")
    after = {
        "0.weight": np.tile([[4.0, 4.0], [4.0, 4.0]], (4, 1)),
        "0.bias": np.tile([-4.0, 4.0], 4),
        "2.weight": np.tile([[-4.0, 4.0]], 4),
        "2.bias": np.array([-16.0]),
    }
    before = {name: array * 0.1 for name, array in after.items()}
    out = gate.logits(part.held_out, Made({}, after, np.zeros(0), {}), after)
    kept = gate.logits(part.x[300:], Made({}, after, np.zeros(0), {}), after)
    history = {"val_loss": [judge.logistic_loss(kept, part.y[300:])]}
    return gate, part, Made(before, after, out.astype(np.float32), history)


def failing(gate: Any, part: Any, made: Made) -> str:
    return next((f.name for f in gate.verdict(part, made) if not f.ok), "")


def test_weights_written_by_hand_pass() -> None:
    gate, part, made = by_hand()
    found = list(gate.verdict(part, made))
    assert all(finding.ok for finding in found), [f for f in found if not f.ok]
    assert found[-1].value == 1.0


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("weights", lambda m: replace(m, after={k: v for k, v in m.after.items() if k[0] == "2"})),
        ("weights", lambda m: replace(m, after={**m.after, "0.weight": np.zeros((2, 8))})),
        ("finite", lambda m: replace(m, after={**m.after, "2.bias": np.array([np.nan])})),
        ("moved", lambda m: replace(m, before={**m.before, "0.bias": m.after["0.bias"]})),
        ("outputs", lambda m: replace(m, outputs=np.sign(m.outputs))),
        ("outputs", lambda m: replace(m, outputs=m.outputs[:-1])),
        ("claim loss", lambda m: replace(m, history={"val_loss": [0.5]})),
        ("claim loss", lambda m: replace(m, history={"val_loss": [float("nan")]})),
        ("loss", lambda m: replace(m, before={k: v * 1.01 for k, v in m.after.items()})),
    ],
)  # fmt: skip
def test_gate_finds_what_does_not_hold(name: str, spoil: Any) -> None:
    gate, part, made = by_hand()
    assert failing(gate, part, spoil(made)) == name


def test_linear_network_dressed_as_a_hidden_one_fails() -> None:
    gate, part, made = by_hand()
    after = {**made.after, "0.weight": made.after["0.weight"] * 1e-3, "0.bias": np.zeros(8)}
    out = gate.logits(part.held_out, made, after)
    kept = gate.logits(part.x[300:], made, after)
    history = {"val_loss": [judge.logistic_loss(kept, part.y[300:])]}
    dressed = replace(made, after=after, outputs=out, history=history)
    assert failing(gate, part, dressed) in ("loss", "corners")


# Judging again, and standing ---------------------------------------------------------------------


def test_validation_judges_the_record_without_training(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = run(ws, WRITTEN[1]).figures
    monkeypatch.setattr(sandbox, "stream", lambda *args: pytest.fail("it trained"))
    verdict = milestones.validate(ws, WRITTEN[1])
    assert verdict is not None and verdict.ok and verdict.figures == figures
    file = ws.milestones_dir / "1969_xor" / "weights.safetensors"
    arrays = safetensors.numpy.load(file.read_bytes())
    arrays["hidden/after/2.weight"] *= -1
    file.write_bytes(safetensors.numpy.save(arrays))
    again = milestones.validate(ws, WRITTEN[1])
    assert again is not None and again.blame is not None
    assert again.blame.where == "finding outputs"


@pytest.mark.parametrize("name", ["record.json", "weights.safetensors"])
@pytest.mark.parametrize("damage", [None, b"", b"{}", b"\xff\x00 not this"])
def test_validation_of_a_damaged_record_asks_for_a_run(
    ws: Workspace, tmp_path: Path, name: str, damage: bytes | None
) -> None:
    place = ws.milestones_dir / "1969_xor"
    if not (place / "record.json").is_file():
        run(ws, WRITTEN[1])
    kept = (place / name).read_bytes()
    (place / name).unlink() if damage is None else (place / name).write_bytes(damage)
    assert milestones.validate(ws, WRITTEN[1]) is None
    (place / name).write_bytes(kept)


def test_validation_notices_a_framework_that_broke_since(ws: Workspace) -> None:
    run(ws, WRITTEN[1])
    with broken(ws, "core.layers", "Linear.forward = lambda self, x: x @ self.weight.T"):
        verdict = milestones.validate(ws, WRITTEN[1])
    assert verdict is not None and verdict.blame is not None
    assert verdict.blame.guilty == "03_layers"


def test_milestones_open_with_their_last_module(tmp_path: Path) -> None:
    ws = built(tmp_path / "early", last=4)
    states = {s.milestone.year: s.state for s in milestones.standings(Progress.load(ws))}
    assert states["1958"] == "open" and states["1969"] == states["1986"] == "locked"
    with pytest.raises(WorkspaceError, match=r"built on 05_autograd.*\nNext: tito module start 05"):
        milestones.run(ws, WRITTEN[1], Options(), print)


def test_milestone_of_a_later_release_says_so(ws: Workspace) -> None:
    planned = [m for m in course.milestones() if not m.exists]
    for milestone in planned:
        with pytest.raises(WorkspaceError, match="not part of this release"):
            milestones.run(ws, milestone, Options(), print)


def test_unlock_writes_scripts_once_and_never_over_them(tmp_path: Path) -> None:
    ws = built(tmp_path / "early", last=4)
    script = ws.milestones_dir / "1958_perceptron" / "run.py"
    assert milestones.unlock(ws) == [script]
    script.write_text("mine")
    assert milestones.unlock(ws) == [] and script.read_text() == "mine"


def test_unknown_data_is_refused_before_anything_runs(ws: Workspace) -> None:
    with pytest.raises(CourseError, match="tinydigits, mnist"):
        milestones.run(ws, WRITTEN[2], Options(data="imagenet"), print)
    with pytest.raises(CourseError, match="brings its own data"):
        milestones.run(ws, WRITTEN[0], Options(data="mnist"), print)


def test_run_on_other_data_keeps_what_was_recorded(tmp_path: Path) -> None:
    ws, milestone = workspace.init(tmp_path / "my-torch"), course.find_milestone("1998")

    def keep(name: str, value: float, **options: Any) -> None:
        weights = {"w": np.full(3, value, dtype=np.float32)}
        left = Made(weights, weights, np.full(2, value), {"loss": [value]}, seconds=value)
        milestones._keep(ws, Verdict(milestone, Options(**options)), {name: (None, left)})

    keep("cifar10 cnn", 1.0, data="cifar10", seed=4)
    keep("tinydigits loops", 2.0, data="tinydigits")
    keep("tinydigits loops", 3.0, data="tinydigits")
    record, weights = milestones.read_record(ws, milestone), milestones._read_weights(ws, milestone)
    assert record and weights
    assert {name: told["history"]["loss"] for name, told in record["parts"].items()} == {
        "cifar10 cnn": [1.0], "tinydigits loops": [3.0]}  # fmt: skip
    assert record["parts"]["cifar10 cnn"]["options"]["seed"] == 4
    assert {name: arrays["after/w"][0] for name, arrays in weights.items()} == {
        "cifar10 cnn": 1.0, "tinydigits loops": 3.0}  # fmt: skip


def test_2024_names_the_milestone_whose_networks_are_missing(tmp_path: Path) -> None:
    ws, milestone = workspace.init(tmp_path / "my-torch"), course.find_milestone("2024")
    gate = type("Gate", (), {"EARLIER": ("1998_cnn",)})
    with pytest.raises(WorkspaceError, match=r"1998_cnn.*\nNext: tito milestone run 1998"):
        milestones._parts(ws, milestone, gate, Options())  # type: ignore[arg-type]
