"""A learner's workspace with the reference solutions: what is measured is what learners ship."""

from pathlib import Path

from tito import course, export, source, workspace

LAST = 13
BEYOND = (17, 18)  # modules after LAST that single rows need


def build(folder: Path, last: int = LAST) -> Path:
    """A workspace in `folder` with modules 1 to `last`, and BEYOND, solved and exported."""
    ws = workspace.init(folder, format="py")
    for module in course.modules():
        if module.number > last and module.number not in BEYOND:
            continue
        solved = source.read(module.path)
        ws.write(ws.export_path(module.export), export.export(solved))
        ws.write(ws.notebook_path(module), source.write_percent(solved))
    workspace.refresh(ws)
    return ws.root


def exports(last: int = LAST) -> list[str]:
    """Dotted names of the package's modules: `tinytorch.core.tensor` and so on."""
    return [f"tinytorch.{module.export}" for module in course.modules()[:last]]
