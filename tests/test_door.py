"""Every row of the door's table, on a clone (installed in place) and on a wheel.

Both are made once, from the real sources and a course of five tiny modules, and run in an
environment of their own: what is tested is the installed thing, in processes of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest

from tito import export, source, workspace
from tito.course import course_dir
from tito.workspace import Workspace

CLONE = Path(__file__).resolve().parents[1]

COURSE_TOML = """
version = "0"
[tiers]
foundation = { title = "Foundation", modules = [1, 5] }
[facades]
core = ["core.tensor", "core.activations", "core.autograd"]
nn = ["core.activations", "nn.conv"]
"""
EXPORTS = {
    "01_tensor": "core.tensor",
    "02_activations": "core.activations",
    "03_autograd": "core.autograd",
    "04_spatial": "nn.conv",
    "05_profiling": "profiling",
}
SOURCES = {
    "01_tensor": '''
        # %% [markdown]
        """
        # 01 · Tensor
        Arrays.
        """

        # %% given="tensor"
        #| default_exp core.tensor
        #| export
        class Tensor:
            """A number."""

            tracked = False

            def __init__(self, data):
                self.data = data

        # %% demo="not_exported"
        raise RuntimeError("a demo runs in notebooks only")

        # %% given="tools"
        from tito.notebook import method_of

        # %% exercise="Tensor.__add__"
        #| export
        @method_of(Tensor)
        def __add__(self, other):
            ### BEGIN SOLUTION
            return Tensor(self.data + other.data)  # HERE
            ### END SOLUTION
        ''',
    "02_activations": """
        # %% exercise="relu"
        #| default_exp core.activations
        #| export
        from tinytorch.core.tensor import Tensor

        def relu(x):
            ### BEGIN SOLUTION
            return Tensor(max(x.data, 0))
            ### END SOLUTION
        """,
    "03_autograd": """
        # %% exercise="enable_autograd"
        #| default_exp core.autograd
        #| export
        from tinytorch.core.tensor import Tensor

        def enable_autograd():
            ### BEGIN SOLUTION
            Tensor.tracked = True
            ### END SOLUTION
        """,
    "04_spatial": """
        # %% exercise="Conv2d"
        #| default_exp nn.conv
        #| export
        from tinytorch import relu

        class Conv2d:
            ### BEGIN SOLUTION
            act = staticmethod(relu)
            ### END SOLUTION
        """,
    "05_profiling": """
        # %% exercise="profile"
        #| default_exp profiling
        #| export
        def profile():
            ### BEGIN SOLUTION
            return "fast"
            ### END SOLUTION
        """,
}


@dataclass
class Install:
    """An environment with tinytorch in it, and the clone it came from."""

    python: Path
    clone: Path
    course: Path

    def run(self, *args: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("TIN", "TITO", "PYT"))}
        return subprocess.run([self.python, *args], cwd=cwd, env={**kept, **env}, text=True,
                              capture_output=True, timeout=60)  # fmt: skip

    def says(self, code: str, cwd: Path, **env: str) -> str:
        done = self.run("-c", dedent(code), cwd=cwd, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fails(self, code: str, cwd: Path, **env: str) -> str:
        done = self.run("-c", dedent(code), cwd=cwd, **env)
        assert done.returncode == 1, done.stdout
        return done.stderr

    def origin(self, cwd: Path, **env: str) -> str:
        return self.says("import tinytorch; print(tinytorch.origin)", cwd, **env)


def write_course(folder: Path) -> None:
    rows = "".join(
        f'[[module]]\nid = "{id}"\ntitle = "T"\nexport = "{dotted}"\n'
        'minutes = 1\npoints = 10\nsummary = "s"\n'
        for id, dotted in EXPORTS.items()
    )
    shutil.copytree(CLONE / "course" / "workspace", folder / "workspace")
    (folder / "course.toml").write_text(COURSE_TOML + rows)
    for id, text in SOURCES.items():
        path = folder / "modules" / id / f"{id[3:]}.py"
        path.parent.mkdir(parents=True)
        path.write_text(dedent(text).lstrip())


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone whose course is tiny."""
    folder = tmp_path_factory.mktemp("door") / "clone"
    shutil.copytree(CLONE / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tinytorch.toml", "README.md", "LICENSE", "LICENSE-course"):
        shutil.copy(CLONE / name, folder)
    write_course(folder / "course")
    return folder


def environment(folder: Path, *paths: Path) -> Path:
    """A virtual environment that finds numpy, pytest and the like where this one has them."""
    venv.create(folder, with_pip=False)
    site = next(folder.glob("[Ll]ib/**/site-packages"))
    libraries = [Path(pytest.__file__).parents[1]]
    (site / "paths.pth").write_text("\n".join(map(str, [*paths, *libraries])))
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture(scope="session")
def in_place(clone: Path) -> Install:
    """`pip install -e .` in an environment inside the clone, where people put it."""
    return Install(environment(clone / ".venv", clone / "src"), clone, clone / "course")


@pytest.fixture(scope="session")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    folder = tmp_path_factory.mktemp("wheel")
    python = environment(folder / "env")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=clone, check=True, capture_output=True)
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps"]
    subprocess.run([*pip, "--no-index", str(next(folder.glob("*.whl")))], check=True,
                   capture_output=True)  # fmt: skip
    course = next((folder / "env").glob("[Ll]ib/**/site-packages/tito/_course"))
    return Install(python, clone, course)


@pytest.fixture(params=["in_place", "wheel"])
def install(request: pytest.FixtureRequest) -> Install:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Install)
    return found


@pytest.fixture
def course(clone: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The tiny course, for this process too."""
    monkeypatch.setenv("TITO_COURSE", str(clone / "course"))
    monkeypatch.delenv("TINYTORCH", raising=False)
    yield clone / "course"


def complete(ws: Workspace, *ids: str) -> Workspace:
    """What `tito module complete` leaves in the package."""
    for id in ids:
        notebook = source.read(course_dir() / "modules" / id / f"{id[3:]}.py")
        ws.write(ws.export_path(EXPORTS[id]), export.export(notebook))
    workspace.refresh(ws)
    return ws


@pytest.fixture
def ws(course: Path, tmp_path: Path) -> Workspace:
    """A workspace with two modules completed, and a notebook folder."""
    made = workspace.init(tmp_path / "my-torch")
    (made.modules_dir / "01_tensor").mkdir()
    return complete(made, "01_tensor", "02_activations")


def script(path: Path, code: str = "import tinytorch; print(tinytorch.origin)") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(code))
    return path


# Rule 1: TINYTORCH -------------------------------------------------------------------------------


def test_door_reference_by_name_wins_over_the_workspace(install: Install, ws: Workspace) -> None:
    assert install.origin(ws.root, TINYTORCH="reference") == f"reference ({install.course})"


def test_door_path_wins_over_script_and_directory(install: Install, ws: Workspace) -> None:
    other = workspace.init(ws.root.parent / "other")
    run = script(other.root / "run.py")
    done = install.run(run, cwd=other.root, TINYTORCH=str(ws.root))
    assert done.stdout.strip() == f"student ({ws.root})"
    assert install.origin(ws.root.parent, TINYTORCH="my-torch") == f"student ({ws.root})"


def test_door_home_is_written_as_a_tilde(install: Install, ws: Workspace) -> None:
    home = str(ws.root.parent)
    assert install.origin(Path("/"), TINYTORCH="~/my-torch", HOME=home) == "student (~/my-torch)"


def test_door_path_without_workspace_is_an_error(install: Install, tmp_path: Path) -> None:
    error = install.fails("import tinytorch", tmp_path, TINYTORCH="nowhere")
    assert f"TINYTORCH=nowhere: there is no tinytorch.toml in {tmp_path / 'nowhere'}" in error
    assert "Next: tito init nowhere" in error


# Rule 2: the script, else the current directory --------------------------------------------------


def test_door_script_started_from_the_root_folder(install: Install, ws: Workspace) -> None:
    done = install.run(script(ws.milestones_dir / "1958_perceptron/run.py"), cwd=Path("/"))
    assert done.stdout.strip() == f"student ({ws.root})", done.stderr


def test_door_directory_of_a_notebook(install: Install, ws: Workspace) -> None:
    assert install.origin(ws.modules_dir / "01_tensor") == f"student ({ws.root})"


def test_door_two_workspaces_script_wins_over_directory(install: Install, ws: Workspace) -> None:
    other = workspace.init(ws.root.parent / "other")
    here, there = script(ws.root / "run.py"), script(other.root / "run.py")
    assert install.run(here, cwd=other.root).stdout.strip() == f"student ({ws.root})"
    assert install.run(there, cwd=ws.root).stdout.strip() == f"student ({other.root})"


def test_door_workspace_inside_the_clone(install: Install, course: Path) -> None:
    root = install.clone / "my-torch"
    made = workspace.init(root)
    try:
        assert install.origin(install.clone) == f"reference ({install.clone / 'course'})"
        assert install.origin(made.modules_dir) == f"student ({root})"
        run = script(root / "run.py")
        assert install.run(run, cwd=install.clone).stdout.strip() == f"student ({root})"
    finally:
        shutil.rmtree(root)


def test_door_programs_of_an_environment_are_not_scripts(install: Install, ws: Workspace) -> None:
    """The environment stands in the clone; a tool in it runs for the directory it is used in."""
    tool = script(install.python.parent / "tool")
    assert install.run(tool, cwd=ws.root).stdout.strip() == f"student ({ws.root})"


def test_door_tito_itself_is_not_a_script(in_place: Install, ws: Workspace) -> None:
    """`python -m tito.…` lies in the clone, below the clone's tinytorch.toml."""
    probe = script(in_place.clone / "src/tito/probe.py")
    done = in_place.run("-m", "tito.probe", cwd=ws.root)
    probe.unlink()
    assert done.stdout.strip() == f"student ({ws.root})", done.stderr


def test_door_environment_made_in_the_workspace_itself(clone: Path, ws: Workspace) -> None:
    own = Install(environment(ws.root, clone / "src"), clone, clone / "course")
    assert own.run(script(ws.root / "run.py"), cwd=Path("/")).stdout == f"student ({ws.root})\n"


def test_door_symlinked_workspace_is_the_same_workspace(install: Install, ws: Workspace) -> None:
    link = ws.root.parent / "link"
    link.symlink_to(ws.root)
    assert install.origin(link) == f"student ({ws.root})"


def test_door_jupyter_kernel_in_a_module_folder(install: Install, ws: Workspace) -> None:
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager

    manager = KernelManager()
    argv = [str(install.python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=argv, language="python", display_name="t")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TIN", "TITO", "PYT"))}
    manager.start_kernel(cwd=str(ws.modules_dir / "01_tensor"), env=kept)
    client = manager.blocking_client()
    printed: list[str] = []
    try:
        client.start_channels()
        client.wait_for_ready(timeout=30)
        client.execute_interactive(
            "from tinytorch import Tensor, origin; print(origin)",
            timeout=30,
            output_hook=lambda m: printed.append(str(m["content"].get("text", m["content"]))),
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert f"student ({ws.root})\n" in printed


def test_door_unreadable_and_unknown_markers_are_errors(install: Install, tmp_path: Path) -> None:
    (tmp_path / "tinytorch.toml").write_text("origin = ")
    assert "not readable" in install.fails("import tinytorch", tmp_path)
    (tmp_path / "tinytorch.toml").write_text('origin = "teacher"')
    error = install.fails("import tinytorch", tmp_path)
    assert "origin is 'teacher'" in error and 'Next: make it one line: origin = "student"' in error


# Rule 3: nothing ---------------------------------------------------------------------------------


def test_door_without_a_workspace_names_where_it_looked(install: Install, tmp_path: Path) -> None:
    run = script(tmp_path / "scripts/run.py")
    error = install.run(run, cwd=tmp_path).stderr
    assert f"above the script {run} and above the current directory {tmp_path}" in error
    for way_out in ("tito init my-torch", "cd my-torch", "TINYTORCH=reference"):
        assert way_out in error
    assert "ImportError" in error


def test_door_in_a_deleted_directory_is_an_error(install: Install, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.rmdir({str(gone)!r}); import tinytorch"
    assert "which no longer exists" in install.fails(code, gone)


def test_door_built_package_shipped_without_its_workspace(clone: Path, ws: Workspace) -> None:
    """A learner's framework as a wheel: no tinytorch.toml anywhere, no tito."""
    shipped = ws.root.parent / "site"
    shutil.copytree(ws.package_dir, shipped / "tinytorch")
    bare = Install(Path(sys.executable), clone, clone / "course")
    code = "from tinytorch import Tensor, origin, relu; print(origin.why, relu(Tensor(-1)).data)"
    said = bare.run("-S", "-c", code, cwd=Path("/"), PYTHONPATH=str(shipped)).stdout
    assert said == "the built package found on sys.path 0\n"


# What the door opens -----------------------------------------------------------------------------


def test_origin_states_its_reasons_and_cannot_be_changed(install: Install, ws: Workspace) -> None:
    code = """
        import pickle
        from tinytorch import origin
        print(origin.kind, origin.root, origin.why, sep="|")
        assert pickle.loads(pickle.dumps(origin)) == origin
        origin.kind = "reference"
        """
    done = install.run("-c", dedent(code), cwd=ws.root)
    why = f"tinytorch.toml above the current directory {ws.root}"
    assert done.stdout == f"student|{ws.root}|{why}\n"
    assert "it cannot be set" in done.stderr


def test_door_is_light(install: Install, ws: Workspace) -> None:
    code = """
        import sys, tinytorch
        print([name for name in ("numpy", "tito", "dataclasses", "typing_extensions", "inspect")
               if name in sys.modules])
        """
    assert install.says(code, ws.root) == "[]"


def test_names_resolve_to_the_learners_files(install: Install, ws: Workspace) -> None:
    code = """
        import sys
        from tinytorch import relu
        from tinytorch.nn import relu as same
        import tinytorch
        assert relu is same is tinytorch.nn.relu
        print(sys.modules[relu.__module__].__file__, tinytorch.__file__, sep="|")
        print(dir(tinytorch))
        """
    first, names = install.says(code, Path("/"), TINYTORCH=str(ws.root)).splitlines()
    assert first == f"{ws.export_path('core.activations')}|{ws.package_dir / '__init__.py'}"
    assert names == "['Tensor', 'origin', 'relu']"


def test_names_of_a_module_do_not_import_the_others(install: Install, ws: Workspace) -> None:
    ws.write(ws.export_path("profiling"), '__all__ = ["profile"]\nraise RuntimeError("imported")\n')
    assert install.says("import tinytorch; print(tinytorch.Tensor(3).data)", ws.root) == "3"
    assert "RuntimeError: imported" in install.fails("from tinytorch import profile", ws.root)


def test_star_import_brings_every_name(install: Install, ws: Workspace) -> None:
    assert install.says("from tinytorch import *; print(relu(Tensor(2)).data)", ws.root) == "2"


def test_names_appear_as_modules_are_completed(install: Install, ws: Workspace) -> None:
    code = """
        import sys, tinytorch
        print(hasattr(tinytorch, "profile"), flush=True)
        sys.stdin.readline()
        print(tinytorch.profile())
        """
    command = [str(install.python), "-c", dedent(code)]
    with subprocess.Popen(command, cwd=ws.root, text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout and process.stdin
        assert process.stdout.readline() == "False\n"
        complete(ws, "05_profiling")
        assert process.communicate("\n")[0] == "fast\n"


def test_unbuilt_modules_name_who_builds_them(install: Install, ws: Workspace) -> None:
    error = install.fails("import tinytorch.core.autograd", ws.root)
    assert (
        f"ModuleNotFoundError: tinytorch.core.autograd: built by module 03_autograd, not completed "
        f"in {ws.root}\nNext: tito module start 03"
    ) in error
    (ws.modules_dir / "03_autograd").mkdir()
    assert "Next: tito module complete 03" in install.fails(
        "from tinytorch.core import autograd", ws.root
    )


@pytest.mark.parametrize("package", ["tinytorch", "tinytorch.nn"])
def test_unbuilt_names_name_who_builds_them(install: Install, ws: Workspace, package: str) -> None:
    error = install.fails(f"from {package} import Conv2d", ws.root)
    assert f"ImportError: {package}.Conv2d: built by module 04_spatial, not completed" in error
    assert "Next: tito module start 03" in error, "the first one missing: 04 builds on it"


def test_unbuilt_attribute_is_an_attribute_error(install: Install, ws: Workspace) -> None:
    error = install.fails("import tinytorch; tinytorch.Conv2d", ws.root)
    assert "AttributeError: tinytorch.Conv2d: built by module 04_spatial" in error
    error = install.fails("import tinytorch; tinytorch.Tenser", ws.root)
    assert "module 'tinytorch' has no attribute 'Tenser'. Did you mean: 'Tensor'?" in error


def test_name_of_another_package_says_where_it_is(install: Install, ws: Workspace) -> None:
    error = install.fails("from tinytorch.nn import Tensor", ws.root)
    assert "Tensor belongs to tinytorch.core.tensor\nNext: from tinytorch import Tensor" in error


@pytest.mark.parametrize("code", ["import tinytorch.unknown", "from tinytorch.nn import unknown"])
def test_unknown_names_fail_as_python_does(install: Install, ws: Workspace, code: str) -> None:
    error = install.fails(code, ws.root)
    assert "No module named 'tinytorch.unknown'" in error or "cannot import name" in error


def test_autograd_is_on_once_it_is_built(install: Install, ws: Workspace) -> None:
    code = "from tinytorch import Tensor; print(Tensor.tracked)"
    assert install.says(code, ws.root) == "False"
    complete(ws, "03_autograd")
    assert install.says(code, ws.root) == "True"
    assert install.says(code, ws.root, TINYTORCH="reference") == "True"


@pytest.mark.parametrize("origin", ["student", "reference"])
def test_upto_hides_the_module_and_later_ones(install: Install, ws: Workspace, origin: str) -> None:
    complete(ws, "03_autograd", "04_spatial", "05_profiling")
    env = {"TINYTORCH": origin.replace("student", str(ws.root)), "TINYTORCH_UPTO": "03"}
    code = """
        import tinytorch, tinytorch.core, tinytorch.nn
        print(dir(tinytorch), tinytorch.nn.__all__, tinytorch.Tensor.tracked)
        """
    assert install.says(code, ws.root, **env) == "['Tensor', 'origin', 'relu'] ['relu'] False"
    for hidden in ("import tinytorch.core.autograd", "from tinytorch.nn import Conv2d",
                   "import tinytorch.profiling", "from tinytorch import profile"):  # fmt: skip
        assert "hidden while an earlier module is checked" in install.fails(hidden, ws.root, **env)
    assert "tinytorch.nn: built by" in install.fails(
        "import tinytorch.nn", ws.root, **{**env, "TINYTORCH_UPTO": "2"}
    )


def test_workspace_works_where_tito_is_not_installed(clone: Path, ws: Workspace) -> None:
    bare = Install(Path(sys.executable), clone, clone / "course")
    code = "from tinytorch import Tensor, origin; print(origin); import tinytorch.core.autograd"
    done = bare.run("-S", "-c", code, cwd=ws.root)
    assert done.stdout == f"student ({ws.root})\n"
    assert "No module named 'tinytorch.core.autograd'" in done.stderr


# Processes, pickles, tools -----------------------------------------------------------------------

SPAWN = """
    import multiprocessing
    import tinytorch

    def child(x):
        return str(tinytorch.origin), tinytorch.relu(x)

    if __name__ == "__main__":
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            origin, y = pool.apply(child, (tinytorch.Tensor(7),))
        print(origin, y.data)
    """


def test_spawned_processes_open_the_same_door(install: Install, ws: Workspace) -> None:
    run = script(ws.root / "run.py", SPAWN)
    assert install.run(run, cwd=Path("/")).stdout == f"student ({ws.root}) 7\n"
    inside = install.run("run.py", cwd=ws.root)
    assert inside.stdout == f"student ({ws.root}) 7\n", inside.stderr
    reference = install.run(run, cwd=Path("/"), TINYTORCH="reference")
    assert reference.stdout == f"reference ({install.course}) 7\n"


def test_pickles_cross_from_the_learners_to_the_reference(install: Install, ws: Workspace) -> None:
    dump = "import pickle, tinytorch; print(pickle.dumps(tinytorch.Tensor(5)).hex())"
    data = install.says(dump, ws.root)
    load = f"import pickle; x = pickle.loads(bytes.fromhex({data!r})); print(type(x), x.data)"
    expected = "<class 'tinytorch.core.tensor.Tensor'> 5"
    assert install.says(load, ws.root) == expected
    assert install.says(load, Path("/"), TINYTORCH="reference") == expected


TEST = "def test_origin():\n    import tinytorch\n    assert tinytorch.origin.kind == 'student'\n"


def test_pytest_by_path_runs_on_the_workspace(install: Install, ws: Workspace) -> None:
    test = script(ws.modules_dir / "01_tensor/test_mine.py", TEST)
    done = install.run("-m", "pytest", "-p", "no:cacheprovider", test, cwd=Path("/"))
    assert done.returncode == 0, done.stdout
    assert f"tinytorch: student ({ws.root})" in done.stdout
    env = {"TINYTORCH": "reference"}
    done = install.run("-m", "pytest", "-p", "no:cacheprovider", test, cwd=ws.root, **env)
    assert done.returncode == 1 and "tinytorch: reference (" in done.stdout


def test_pytest_refuses_two_workspaces_in_one_run(wheel: Install, ws: Workspace) -> None:
    other = workspace.init(ws.root.parent / "other")
    tests = [script(w.root / "test_mine.py", TEST) for w in (ws, other)]
    done = wheel.run("-m", "pytest", "-p", "no:cacheprovider", *tests, cwd=Path("/"))
    assert done.returncode == 4 and "one run of pytest, two workspaces" in done.stderr


def test_mypy_knows_the_names_of_a_workspace(install: Install, ws: Workspace) -> None:
    code = """
        from tinytorch import Tensor, origin
        from tinytorch.nn import relu
        import tinytorch
        reveal_type(Tensor(1))
        reveal_type(origin.root)
        tinytorch.nn.relu(Tensor(1))
        tinytorch.Conv2d
        """
    script(ws.root / "run.py", code)
    cache = f"--cache-dir={ws.root.parent / 'cache'}"
    said = install.run("-m", "mypy", cache, "run.py", cwd=ws.root).stdout
    assert 'Revealed type is "tinytorch.core.tensor.Tensor"' in said
    assert 'Revealed type is "pathlib.Path"' in said
    assert 'Module has no attribute "Conv2d"' in said
    assert said.count("error:") == 1, said


# The reference, in place -------------------------------------------------------------------------


def here(install: Install) -> tuple[Path, int]:
    path = install.course / "modules/01_tensor/tensor.py"
    lines = path.read_text().splitlines()
    return path, next(n for n, line in enumerate(lines, 1) if line.endswith("# HERE"))


def test_reference_tracebacks_name_the_course_source(install: Install, tmp_path: Path) -> None:
    path, line = here(install)
    error = install.fails("from tinytorch import Tensor; Tensor(1) + Tensor('')", tmp_path,
                          TINYTORCH="reference")  # fmt: skip
    assert f'File "{path}", line {line}, in __add__' in error
    assert "return Tensor(self.data + other.data)  # HERE" in error


def test_reference_source_is_there_for_inspect(install: Install, tmp_path: Path) -> None:
    code = "import inspect, tinytorch; print(inspect.getsource(tinytorch.Tensor.__add__))"
    assert "# HERE" in install.says(code, tmp_path, TINYTORCH="reference")


def test_reference_coverage_counts_the_course_source(install: Install, tmp_path: Path) -> None:
    path, line = here(install)
    run = script(tmp_path / "run.py", "from tinytorch import Tensor\nTensor(1) + Tensor(2)\n")
    done = install.run("-m", "coverage", "run", "--include", path, run, cwd=tmp_path,
                       TINYTORCH="reference")  # fmt: skip
    assert done.returncode == 0, done.stderr
    from coverage import CoverageData

    data = CoverageData(str(tmp_path / ".coverage"))
    data.read()
    assert line in (data.lines(str(path)) or [])


def test_reference_resolves_names_and_facades(install: Install, tmp_path: Path) -> None:
    code = """
        from tinytorch import Conv2d, profile, nn
        from tinytorch.nn import Conv2d as same, relu
        import tinytorch, tinytorch.profiling
        assert Conv2d is same and Conv2d.act is relu
        print(dir(tinytorch))
        """
    said = install.says(code, tmp_path, TINYTORCH="reference")
    assert said == "['Conv2d', 'Tensor', 'enable_autograd', 'origin', 'profile', 'relu']"


def test_reference_of_another_course(install: Install, tmp_path: Path) -> None:
    write_course(tmp_path / "mine")
    env = {"TINYTORCH": "reference", "TITO_COURSE": str(tmp_path / "mine")}
    assert install.origin(tmp_path, **env) == f"reference ({tmp_path / 'mine'})"
    shutil.rmtree(tmp_path / "mine/modules/05_profiling")
    error = install.fails("import tinytorch.profiling", tmp_path, **env)
    assert f"built by module 05_profiling, which {tmp_path / 'mine'} does not contain" in error


def test_init_of_an_installed_tito_makes_a_healthy_workspace(
    install: Install, tmp_path: Path
) -> None:
    code = """
        from pathlib import Path
        from tito import workspace
        print(workspace.check_health(workspace.init(Path("my-torch"))))
        """
    assert install.says(code, tmp_path) == "[]"
    assert install.origin(tmp_path / "my-torch") == f"student ({tmp_path / 'my-torch'})"
    hidden = [path.name for path in (tmp_path / "my-torch").glob(".*")]
    assert hidden == [".gitignore"]


def test_tito_asks_the_door_without_opening_it(install: Install, ws: Workspace) -> None:
    code = """
        import sys
        from tito import origin
        print(origin.decide(), "tinytorch" in sys.modules)
        """
    assert install.says(code, ws.modules_dir) == f"student ({ws.root}) False"
