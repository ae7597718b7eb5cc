"""Every module, solved, run from top to bottom in a real Jupyter kernel, demos included."""

import nbformat
import pytest
from nbclient import NotebookClient

from tito import course, hints, journey, lesson, proofs, source, workspace

WRITTEN = [module for module in course.modules() if module.exists]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A workspace whose package grows as the modules are asked for, in order."""
    ws = workspace.init(tmp_path_factory.mktemp("jupyter") / "my-torch")
    yield ws


@pytest.mark.parametrize("module", WRITTEN, ids=lambda module: module.id)
def test_notebook_runs_in_jupyter(grown, module, monkeypatch):
    monkeypatch.delenv("TINYTORCH", raising=False)
    path = grown.notebook_path(module)
    solved = journey.solved(module, hints.released(module))
    grown.write(path, source.write(path, solved))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(
        notebook, timeout=120, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    proofs.build(grown, module)


def test_failed_check_is_explained_in_jupyter(grown):
    module = WRITTEN[0]
    path = grown.notebook_path(module)
    grown.write(path, source.write(path, hints.released(module)))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute()
    prediction = next(
        c for c in notebook.cells if c.metadata.get("check") == "predict.mnist_megabytes"
    )
    shown = "\n".join(prediction.outputs[0].traceback)
    assert "MNIST's training images" in shown and "not answered yet" in shown
    assert "checks.py" not in shown, "a learner should not see our frames"
    first = next(c for c in notebook.cells if c.metadata.get("check") == "Tensor")
    assert first.outputs[0].output_type == "error", "nbgrader counts error outputs"
    assert first.outputs[0].traceback == [
        "Not written yet: Tensor",
        "Next: replace its line `raise NotImplementedError(...)` by your code",
    ]


def test_passed_check_says_so_in_jupyter(grown):
    module = WRITTEN[0]
    path = grown.notebook_path(module)
    grown.write(path, source.write(path, journey.solved(module, hints.released(module))))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=60, resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    said = {
        cell.metadata["check"]: "".join(output.text for output in cell.outputs)
        for cell in notebook.cells
        if "check" in cell.metadata
    }
    assert len(said) == len(lesson.exercises(module))
    assert all("passed" in text for text in said.values())
    assert said["Tensor.memory_footprint"] == "✓ 4 checks passed\n"
