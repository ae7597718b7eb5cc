"""A course of two tiny modules and a learner at its command line, for tests of the machinery."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
import threadpoolctl
from click.testing import CliRunner, Result
from hypothesis import settings

from tito import course, solutions, source, workspace
from tito.cli import cli
from tito.workspace import Workspace

# The same examples every time: a red run must mean a change. For new ones:
# pytest --hypothesis-profile=default
settings.register_profile("fixed", derandomize=True)
settings.load_profile("fixed")

COURSE = Path(__file__).resolve().parents[1] / "course"

TABLE = """
version = "0"
[tiers]
foundation = { title = "Foundation", modules = [1, 2] }
capstone = { title = "Capstone", modules = [3, 3] }
[facades]
core = ["core.tensor"]
nn = ["core.activations", "core.layers"]
[[module]]
id = "01_tensor"
title = "Tensor"
export = "core.tensor"
minutes = 60
points = 12
summary = "numbers in a row"
[[module]]
id = "02_activations"
title = "Activations"
export = "core.activations"
minutes = 30
points = 5
summary = "a bend"
[[module]]
id = "03_layers"
title = "Layers"
export = "core.layers"
minutes = 30
points = 5
summary = "planned"
[[milestone]]
id = "1958_perceptron"
title = "Perceptron"
needs = [1, 2]
summary = "one layer learns"
"""
FILES = {
    "milestones/1958_perceptron/run.py": "",
    "modules/01_tensor/tensor.py": '''
        # %% [markdown]
        """
        # 01 · Tensor

        Numbers in a row.
        """

        # %% given="tools"
        #| default_exp core.tensor
        import tito.checks as check
        from tito.notebook import method_of

        # %% exercise="Tensor"
        #| export
        class Tensor:
            """Numbers in a row."""

            def __init__(self, data):
                ### BEGIN SOLUTION
                self.data = list(data)
                ### END SOLUTION

        # %% check="Tensor" points=2
        check.equal("Tensor((1, 2)).data", Tensor((1, 2)).data, [1, 2], why="a list, whatever came")

        # %% exercise="Tensor.total"
        #| export
        @method_of(Tensor)
        def total(self):
            """The sum."""
            ### BEGIN SOLUTION
            return sum(self.data)
            ### END SOLUTION

        # %% check="Tensor.total" points=3
        check.equal("Tensor([1, 2, 3]).total()", Tensor([1, 2, 3]).total(), 6, why="1 + 2 + 3")

        # %% exercise="predict.bytes"
        ### BEGIN SOLUTION
        answer = 12
        ### END SOLUTION

        # %% check="predict.bytes" points=5
        check.prediction("bytes of three float32 numbers", answer, "MTI=", why="4 bytes each")

        # %% [markdown] question="why" points=2
        """
        Why?
        """

        # %% [markdown]
        """
        ## When it fails

        | symptom | cause | where to look |
        |---|---|---|
        | `not iterable` | a number where a list belongs | the call |
        """
        ''',
    "modules/01_tensor/hints.toml": '''
        "Tensor" = ["What came?", "Make a list.", "self.data = list(data)"]
        "Tensor.total" = ["Which function adds?", "Add up self.data.", "sum of self.data"]
        "predict.bytes" = ["How many bytes is one?", "Multiply.", "3 times 4"]
        ''',
    "modules/01_tensor/knockouts.toml": """
        [["Tensor.total"]]
        name = "first"
        code = "return self.data[0]"
        diagnosis = "You returned the first number only."
        """,
    "modules/01_tensor/extra/more.py": '''
        # %% [markdown]
        """
        # More
        """
        ''',
    "modules/02_activations/activations.py": '''
        # %% [markdown]
        """
        # 02 · Activations

        A bend.
        """

        # %% given="imports"
        #| default_exp core.activations
        #| export
        from tinytorch.core.tensor import Tensor

        # %% given="tools"
        import tito.checks as check

        # %% exercise="relu"
        #| export
        def relu(x):
            """The larger of each number and 0."""
            ### BEGIN SOLUTION
            return Tensor(max(value, 0) for value in x.data)
            ### END SOLUTION

        # %% check="relu" points=5
        check.equal("relu(Tensor([-1, 2])).data", relu(Tensor([-1, 2])).data, [0, 2], why="no less")
        ''',
    "modules/02_activations/hints.toml": '"relu" = ["Larger?", "max", "max(value, 0)"]',
}


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """As milestones train: on busy cores a second thread of the BLAS waits more than it works."""
    with threadpoolctl.threadpool_limits(1):
        yield


@pytest.fixture
def tiny_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The course folder, and nothing of the caller's environment."""
    for name in ("TINYTORCH", "TINYTORCH_UPTO", "TINYTORCH_DATA", "CI", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "course"
    shutil.copytree(COURSE / "workspace", folder / "workspace")
    (folder / "course.toml").write_text(TABLE)
    for name, text in FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text).strip() + "\n")
    monkeypatch.setenv("TITO_COURSE", str(folder))
    return folder


Edit = Callable[[str], str]


@dataclass
class Learner:
    """Somebody in a workspace, with tito at hand."""

    ws: Workspace

    def tito(self, *args: str, code: int | None = None, **options: object) -> Result:
        """Run a command; `code` is the exit code it must end with."""
        result = CliRunner().invoke(cli, list(args), **options)  # type: ignore[arg-type]
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        if code is not None:
            assert result.exit_code == code, result.output
        return result

    def notebook(self, module: str | int = 1) -> Path:
        return self.ws.notebook_path(course.find_module(module))

    def solve(self, module: str | int = 1, **answers: str) -> None:
        """Write the course's solutions into the notebook, and `answers` (`Tensor__total`: code)."""
        found = course.find_module(module)
        wanted = {name.replace("__", ".", 1): code for name, code in answers.items()}
        nb = source.read(found.path)
        for number, cell in enumerate(nb.cells):
            if cell.role == "exercise" and cell.name in wanted:
                nb.cells[number] = solutions.fill(cell, wanted[cell.name])
        path = self.notebook(module)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.write(path, nb), encoding="utf-8")

    def edit(self, change: Edit, module: str | int = 1) -> None:
        """Change the notebook's text."""
        path = self.notebook(module)
        path.write_text(change(path.read_text(encoding="utf-8")), encoding="utf-8")


@pytest.fixture
def learner(tiny_course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learner:
    """A learner in a fresh workspace, in which module 01 is started."""
    ws = workspace.init(tmp_path / "my-torch")
    monkeypatch.chdir(ws.root)
    made = Learner(ws)
    made.tito("module", "start", "1", code=0)
    return made


@pytest.fixture
def nowhere(tiny_course: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Learner:
    """A learner outside any workspace."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Learner(Workspace(folder))
