"""`tito benchmark` on real model files, in real child processes: saved, loaded, measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tito import bench_records, workspace
from tito.workspace import Workspace

MAKE = """
import sys
from tinytorch import GPT, GPTConfig, Linear, ReLU, Sequential, manual_seed
from tinytorch.optim.quantization import quantize, save
manual_seed(0)
net = Sequential(Linear(64, 16), ReLU(), Linear(16, 10))
save(net, sys.argv[1] + "/net.pt")
save(quantize(net), sys.argv[1] + "/small.pt")
save(GPT(GPTConfig(300, 24, dim=16, heads=2, layers=1, bias=False)), sys.argv[1] + "/gpt.pt")
"""


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = workspace.init(tmp_path_factory.mktemp("models") / "my-torch")
    environment = {**os.environ, "TINYTORCH": "reference"}
    subprocess.run([sys.executable, "-c", MAKE, str(made.root)], env=environment, check=True)
    return made


def measure(ws: Workspace, *args: str, code: int = 0) -> Any:
    kept = {k: v for k, v in os.environ.items() if k not in ("TINYTORCH", "TINYTORCH_UPTO")}
    done = subprocess.run([sys.executable, "-m", "tito", "benchmark", *args, "--json"], env=kept,
                          cwd=ws.root, capture_output=True, text=True, timeout=300)  # fmt: skip
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr.splitlines()


def test_accuracy_is_counted_from_the_files_predictions(ws: Workspace) -> None:
    found = measure(ws, "accuracy", "--model", "net.pt", "--dataset", "digits")
    pairs = list(zip(found["predictions"], found["answers"]))
    assert len(pairs) == 1000 and found["right"] == sum(a == b for a, b in pairs)
    assert found["origin"] == "reference"  # nothing is built in this workspace
    again = measure(ws, "accuracy", "--model", "net.pt", "--dataset", "digits")
    assert again["predictions"] == found["predictions"]
    assert bench_records.read(Path(found["file"]))["sha256"] == again["sha256"]


def test_size_tells_the_types_of_a_quantized_file(ws: Workspace) -> None:
    whole, small = (measure(ws, "size", "--model", name) for name in ("net.pt", "small.pt"))
    assert whole["parameters"] == small["parameters"] == 64 * 16 + 16 + 16 * 10 + 10
    assert whole["bytes"] == (ws.root / "net.pt").stat().st_size
    assert small["types"]["I8"]["numbers"] == 64 * 16 + 16 * 10
    assert whole["types"]["F32"]["bytes"] == 4 * whole["parameters"]


def test_speed_and_memory_of_text_and_images(ws: Workspace) -> None:
    found = measure(ws, "speed", "--model", "gpt.pt", "--input-length", "8", "--tokens", "2",
                    "--seconds", "1")  # fmt: skip
    assert found["unit"] == "tokens" and found["queries"]["write"]["rate"] > 0
    assert measure(ws, "speed", "--model", "small.pt", "--seconds", "1")["unit"] == "inputs"
    assert measure(ws, "memory", "--model", "net.pt")["held"] == 4 * (64 * 16 + 16 + 160 + 10)
    assert min(measure(ws, "memory", "--model", "gpt.pt")["peak"]) > 0


def test_damaged_files_are_two_lines(ws: Workspace) -> None:
    raw = bytearray((ws.root / "net.pt").read_bytes())
    raw[-3] ^= 1
    for name, content in (("bent.pt", bytes(raw)), ("cut.pt", bytes(raw[:100])), ("no.pt", b"")):
        (ws.root / name).write_bytes(content)
        lines = measure(ws, "size", "--model", name, code=2)
        assert len(lines) == 2 and name in lines[0] and lines[1].startswith("Next: ")
