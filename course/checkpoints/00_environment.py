# %% [markdown]
"""
# Checkpoint 0: is the machine ready?

Python, NumPy, the matrix product everything rests on, and the workspace your framework grows in.
"""

# %% given="tools"
import os
import sys
import time

import numpy as np

import tito.checks as check

# %% check="python"
check.true(
    "Python 3.11 or newer",
    sys.version_info >= (3, 11),
    got=sys.version.split()[0],
    why="the course uses tomllib and exact tracebacks",
)

# %% check="numpy"
check.true(
    "NumPy 1.26 or newer",
    tuple(map(int, np.__version__.split(".")[:2])) >= (1, 26),
    got=np.__version__,
    why="older ones round and promote differently",
)
_a = np.arange(6, dtype=np.float32).reshape(2, 3)
check.close(
    "[[0, 1, 2], [3, 4, 5]] times its transpose",
    _a @ _a.T,
    [[5, 14], [14, 50]],
    why="0 + 1 + 4, 0 + 4 + 10, 9 + 16 + 25: small enough to do by hand",
)

# %% check="matrix_product"
_rng = np.random.default_rng(0)
_a, _b = (_rng.standard_normal((384, 384)).astype(np.float32) for _ in range(2))
_seconds = []
for _ in range(5):
    _start = time.perf_counter()
    _product = _a @ _b
    _seconds.append(time.perf_counter() - _start)
check.close(
    "a 384 x 384 product in float32",
    _product,
    _a.astype(np.float64) @ _b,
    atol=1e-3,
    why="a broken BLAS gives wrong numbers on some processors",
)
check.true(
    "it is computed by a BLAS",
    2 * 384**3 / min(_seconds) > 5e8,
    got=f"{2 * 384**3 / min(_seconds) / 1e9:.2f} GFLOP/s",
    why="without one every training in this course takes a hundred times longer",
)

# %% check="workspace"
from tito import workspace

_ws = workspace.find()
check.equal(
    "problems of the workspace",
    [problem.text for problem in workspace.check_health(_ws)],
    [],
    why="a missing file here stops a module later; tito init brings it back",
)
check.true(
    "it can be written to",
    os.access(_ws.root, os.W_OK) and os.access(_ws.package_dir, os.W_OK),
    why="your framework is written into it",
)

# %% check="whose_tinytorch"
import tinytorch

check.equal(
    "whose code `import tinytorch` runs",
    (tinytorch.origin.kind, str(tinytorch.origin.root)),
    ("student", str(_ws.root)),
    why="it has to be yours, in this workspace",
)
