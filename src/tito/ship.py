"""What the course gives to others, written into a folder: the same course gives the same bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tito import course, hints, proofs, source, workspace


def notebooks(folder: Path) -> list[Path]:
    """The learner's notebook of every module: `01_tensor/tensor.ipynb`, holes and all."""
    written = []
    for module in course.modules():
        if module.exists:
            path = folder / module.id / f"{module.name}.ipynb"
            _write(path, source.write(path, hints.released(module)).encode())
            written.append(path)
    return written


def package(folder: Path) -> list[Path]:
    """The reference as a package that needs no tito: `tinytorch/core/tensor.py` …"""
    with tempfile.TemporaryDirectory(prefix="tito-build-") as place:
        ws = workspace.init(Path(place, "reference"))
        for module in course.modules():
            if module.exists:
                proofs.build(ws, module)
        files = sorted(path for path in ws.package_dir.rglob("*") if path.is_file())
        written = []
        for file in files:
            path = folder / "tinytorch" / file.relative_to(ws.package_dir)
            _write(path, file.read_bytes())
            written.append(path)
    return written


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
