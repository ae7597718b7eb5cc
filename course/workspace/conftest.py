"""Tests below this folder run on this workspace's framework, wherever pytest is started.

Set TINYTORCH (to `reference`, or to another workspace) to run them on other code.
"""

import os
from pathlib import Path

import pytest

HERE = str(Path(__file__).resolve().parent)

if os.environ.get("TINYTORCH_PYTEST", HERE) != HERE:
    raise pytest.UsageError(
        f"one run of pytest, two workspaces: {os.environ['TINYTORCH_PYTEST']} and {HERE}\n"
        "Next: run pytest once for each"
    )
if "TINYTORCH" not in os.environ:
    os.environ["TINYTORCH"] = os.environ["TINYTORCH_PYTEST"] = HERE


def pytest_report_header() -> str:
    import tinytorch

    return f"tinytorch: {tinytorch.origin}"
