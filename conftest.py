"""TINYTORCH_ACCELERATION=1 runs every test on the fast kernels of module 18."""

import os

import pytest

ON = os.environ.get("TINYTORCH_ACCELERATION") == "1"


def pytest_configure(config: pytest.Config) -> None:
    """Switch the kernels on before any test is collected."""
    if ON:
        from tinytorch.core.acceleration import enable_acceleration

        enable_acceleration()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say so, and prove that it still holds at the end."""
    if ON:
        from tinytorch.core.acceleration import acceleration_enabled

        state = "on" if acceleration_enabled() else "off"
        terminalreporter.write_line(f"acceleration is {state}")
