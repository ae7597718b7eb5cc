"""The door's decision as tito sees it: asked without opening the framework behind it."""

from __future__ import annotations

import sys
from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinytorch import Origin


def door_path() -> Path:
    """The door that belongs to this tito; a workspace's copy has the same text."""
    return Path(__file__).resolve().parents[1] / "tinytorch" / "__init__.py"


@lru_cache(maxsize=1)
def door() -> ModuleType:
    """The door's functions (`decide`, `exported_names`, `shorten`), with the door kept shut."""
    spec = spec_from_file_location("tito._door", door_path())
    assert spec is not None and spec.loader is not None
    module = sys.modules["tito._door"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decide() -> Origin:
    """Whose framework `import tinytorch` would open here, without importing it.

    Raises: ImportError as the door would.
    """
    return door().decide()  # type: ignore[no-any-return]


def shorten(path: Path) -> str:
    """The path as people write it: below the home folder it begins with `~`."""
    return door().shorten(path)  # type: ignore[no-any-return]


def exported_names(path: Path) -> list[str]:
    """Names in the `__all__` of a module's text, read without running it; [] if it has none."""
    return door().exported_names(path)  # type: ignore[no-any-return]
