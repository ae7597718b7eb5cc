"""On what the numbers were measured."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def cpu() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def blas() -> str:
    """NumPy's BLAS library, its version and the kernels it chose for this processor."""
    import numpy  # noqa: F401  (loads the library that is asked about)
    from threadpoolctl import threadpool_info

    found = [part for part in threadpool_info() if part["user_api"] == "blas"]
    return "; ".join(f"{p['internal_api']} {p['version']} ({p.get('architecture')})" for p in found)


def describe() -> dict[str, Any]:
    """Machine, versions and load, for the head of the table and the JSON file."""
    names = ("numpy", "torch", "tinytorch")
    return {
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "blas": blas(),
        "versions": {name: version(name) for name in names},
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }
