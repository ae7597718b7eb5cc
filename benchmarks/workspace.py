"""A learner's workspace with the reference solutions: what is measured is what learners ship."""

from pathlib import Path

from tito import course, export, source, workspace


def build(folder: Path) -> Path:
    """A workspace in `folder` with every module solved and exported."""
    ws = workspace.init(folder, format="py")
    for module in course.modules():
        solved = source.read(module.path)
        ws.write(ws.export_path(module.export), export.export(solved))
        ws.write(ws.notebook_path(module), source.write_percent(solved))
    workspace.refresh(ws)
    return ws.root


def exports() -> list[str]:
    """Dotted names of the package's modules: `tinytorch.core.tensor` and so on."""
    return [f"tinytorch.{module.export}" for module in course.modules()]
