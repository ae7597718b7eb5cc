"""Every module, solved, run from top to bottom in a real Jupyter kernel, demos included."""

import nbformat
import pytest
from nbclient import NotebookClient

from tito import course, journey, proofs, source, workspace

WRITTEN = [module for module in course.modules() if module.exists]


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A workspace whose package grows as the modules are asked for, in order."""
    ws = workspace.init(tmp_path_factory.mktemp("jupyter") / "my-torch")
    yield ws


@pytest.mark.parametrize("module", WRITTEN, ids=lambda module: module.id)
def test_notebook_runs_in_jupyter(grown, module, monkeypatch):
    monkeypatch.delenv("TINYTORCH", raising=False)
    from tito import hints

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
    from tito import hints

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
