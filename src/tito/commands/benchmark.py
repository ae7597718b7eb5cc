"""`tito benchmark`: measure your framework, and the models it made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tito import screen
from tito.console import FAILED, Group, here, json_option

if TYPE_CHECKING:
    from tito.bench import Result
    from tito.workspace import Workspace

FILE = click.Path(path_type=Path, dir_okay=False)
DATASETS = ("cifar10", "digits", "mnist", "tinytalks")
model_option = click.option("--model", type=FILE, required=True, metavar="FILE",
                            help="A model that tinytorch.save wrote.")  # fmt: skip
length_option = click.option(
    "--input-length",
    type=click.IntRange(1),
    metavar="TOKENS",
    help="Tokens that a text model reads; else half its context.",
)


@click.group(cls=Group)
def group() -> None:
    """Measure your framework, and the models it made.

    The course's own harness of module 19 measures, on one BLAS thread. Every figure is measured in
    that run on this machine, has its spread, and goes into benchmarks/. Nothing is sent anywhere.
    """


@group.command()
@json_option
def baseline(as_json: bool) -> None:
    """Verify the set-up, and score this machine and your framework.

    A small fixed suite in about a second: NumPy, and what of your framework is built. The score is
    the geometric mean of the ratios to a reference machine, times 100.
    """
    from tito import bench, bench_views

    ws, _ = here()
    result = _measured(ws, as_json, lambda: bench.baseline(ws, _show))
    every = bench.suite()["benchmark"]
    _tell(ws, result, as_json, lambda: bench_views.baseline(ws, result, every))
    if result.failed or result.problems:
        click.get_current_context().exit(FAILED)


@group.command()
@model_option
@click.option("--dataset", type=click.Choice(DATASETS), required=True, help="Whose test set.")
@json_option
def accuracy(model: Path, dataset: str, as_json: bool) -> None:
    """How much of a test set a model gets right.

    Your framework predicts without the answers; its raw predictions are counted outside it.

    \b
    Examples:
      tito benchmark accuracy --model model.pt --dataset digits
    """
    from tito import bench, bench_views

    ws, _ = here()

    def run() -> Result:
        return bench.keep(ws, bench.accuracy(ws, model, dataset, _show))

    result = _measured(ws, as_json, run)
    _tell(ws, result, as_json, lambda: bench_views.accuracy(ws, result))


@group.command()
@model_option
@length_option
@click.option("--tokens", type=click.IntRange(1), default=16, show_default=True,
              help="Tokens that a text model writes.")  # fmt: skip
@click.option("--seconds", type=click.FloatRange(1), default=10.0, show_default=True,
              help="About how long to measure.")  # fmt: skip
@json_option
def speed(
    model: Path, input_length: int | None, tokens: int, seconds: float, as_json: bool
) -> None:
    """How fast a model answers, one query after the other.

    \b
    Examples:
      tito benchmark speed --model model.pt
      tito benchmark speed --model gpt.pt --input-length 512
    """
    from tito import bench, bench_views

    ws, _ = here()

    def run() -> Result:
        return bench.keep(ws, bench.speed(ws, model, _show, input_length, tokens, seconds))

    result = _measured(ws, as_json, run)
    _tell(ws, result, as_json, lambda: bench_views.speed(ws, result))


@group.command()
@model_option
@json_option
def size(model: Path, as_json: bool) -> None:
    """How large a model's file is, and of what."""
    from tito import bench, bench_views

    ws, _ = here()
    result = _measured(ws, as_json, lambda: bench.keep(ws, bench.size(ws, model, _show)))
    _tell(ws, result, as_json, lambda: bench_views.size(ws, result))


@group.command()
@model_option
@length_option
@json_option
def memory(model: Path, input_length: int | None, as_json: bool) -> None:
    """How much memory one inference takes, and the model."""
    from tito import bench, bench_views

    ws, _ = here()

    def run() -> Result:
        return bench.keep(ws, bench.memory(ws, model, _show, input_length))

    result = _measured(ws, as_json, run)
    _tell(ws, result, as_json, lambda: bench_views.memory(ws, result))


@group.command()
@click.option(
    "--model",
    "models",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="A model to enter; repeatable. Else olympics/*/after.pt, milestones/*/model.pt.",
)
@json_option
def capstone(models: tuple[Path, ...], as_json: bool) -> None:
    """The Olympics score of your trained models, in three sessions.

    Vision and language by their accuracy (20 points each), speed and compression (20 each) against
    the milestones' plain models. The last 20 points are given by people, and are pending here. A
    track without a trained model says so. Takes some minutes.
    """
    from tito import bench, bench_capstone, bench_views

    ws, _ = here()

    def run() -> Result:
        return bench.keep(ws, bench_capstone.run(ws, models, _show))

    result = _measured(ws, as_json, run)
    _tell(ws, result, as_json, lambda: bench_views.capstone(ws, result))


@group.command()
@click.argument("a", type=FILE, metavar="A")
@click.argument("b", type=FILE, metavar="B")
@json_option
def compare(a: Path, b: Path, as_json: bool) -> None:
    """What may be said about two records: A against B, figure by figure.

    Rounds are compared in pairs, each beside the calibration kernel of its own run. What the
    samples cannot tell apart is called no difference.
    """
    from tito import bench_compare, bench_records, bench_views

    found = bench_compare.compare(bench_records.read(a), bench_records.read(b))
    alone = found.kind in ("baseline", "capstone")
    command = f"tito benchmark {found.kind}{'' if alone else ' --help'}"
    if as_json:
        return screen.say_json({**found.as_dict(), "next": command})
    screen.say_lines(bench_views.comparison((a.name, b.name), found))
    screen.next_step(command)


def _show(line: str) -> None:
    screen.say(line, err=True)


def _measured(ws: Workspace, as_json: bool, run: Callable[[], Any]) -> Any:
    """What the run gives; a framework that failed is told as a milestone tells it, with code 1."""
    from tito import bench, exhibits, explain

    if not as_json:
        screen.say(explain.header(ws))
    try:
        return run()
    except bench.BenchFailure as error:
        blame = error.blame
        if as_json:
            screen.say_json({"ok": False, "blame": vars(blame), "next": blame.next})
        else:
            screen.say_lines(exhibits.blame(blame))
            screen.next_step(blame.next)
        click.get_current_context().exit(FAILED)


def _tell(ws: Workspace, result: Result, as_json: bool, words: Callable[[], list[str]]) -> None:
    """Print a result and the next command."""
    command = _next(ws, result)
    if as_json:
        return screen.say_json({**result.as_dict(), "next": command})
    screen.say_lines(words())
    screen.next_step(command)


def _next(ws: Workspace, result: Result) -> str:
    """Mend what failed, measure again what was noisy, compare two of a kind, else go on."""
    from tito import bench_records, overview
    from tito.progress import Progress

    record = result.record
    if result.failed or result.problems:
        return next((blame.next for blame in result.failed.values()), "tito system doctor")
    if record["kind"] == "baseline" and not record["verdict"]["valid"]:
        return "tito benchmark baseline"
    if earlier := bench_records.comparable(ws, record, result.path):
        names = " ".join(str(ws.relative(path)) for path in (result.path, earlier))
        return f"tito benchmark compare {names}"
    return overview.next_command(Progress.load(ws))
