"""Values and gradients of modules 01-04 against PyTorch's, case by case: the tables are the test.

A case is one function that runs on both libraries (see oracles.py), checked for value, shape,
float32 and the gradient of every input, seeded with a fixed random gradient.
"""

from itertools import permutations

import numpy as np
import pytest

from tests.oracles import Case, array, compare

OPERATORS = {
    "add": (lambda lib, a, b: a + b, "normal"),
    "sub": (lambda lib, a, b: a - b, "normal"),
    "mul": (lambda lib, a, b: a * b, "normal"),
    "div": (lambda lib, a, b: a / b, "nonzero"),
    "pow": (lambda lib, a, b: a**b, "positive"),
}
PAIRS = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((2, 3), (2, 1)),
    ((2, 1), (3,)),
    ((4, 1, 3), (2, 1)),
    ((5,), (2, 4, 5)),
    ((), (2, 3)),
    ((2, 3), ()),
    ((), ()),
    ((1, 1), (3, 2)),
    ((1,), (1, 1, 1)),
    ((0, 3), (3,)),
    ((0, 1), (1, 4)),
    ((2, 1, 3, 1), (4, 1, 5)),
]
BROADCASTING = [
    Case(f"{name} {a} {b}", run, (a, b), draw)
    for name, (run, draw) in OPERATORS.items()
    for a, b in PAIRS
]

NUMBERS = [
    Case(f"number {text}", run, ((2, 3),), "nonzero")
    for text, run in {
        "x + 2": lambda lib, x: x + 2,
        "2 + x": lambda lib, x: 2 + x,
        "x - 2.5": lambda lib, x: x - 2.5,
        "2.5 - x": lambda lib, x: 2.5 - x,
        "x * 3": lambda lib, x: x * 3,
        "3 * x": lambda lib, x: 3 * x,
        "x / 3": lambda lib, x: x / 3,
        "3 / x": lambda lib, x: 3 / x,
        "-x": lambda lib, x: -x,
        "x ** 2": lambda lib, x: x**2,
        "x ** 3": lambda lib, x: x**3,
        "x ** 1": lambda lib, x: x**1,
        "x ** 0": lambda lib, x: x**0,
        "x ** -1": lambda lib, x: x**-1,
        "2 ** x": lambda lib, x: 2**x,
        "array @ x": lambda lib, x: lib.array([[1.0, 2.0]]) @ x,
        "x ** -2": lambda lib, x: x**-2.0,
        "x * True": lambda lib, x: x * True,
        "x + array": lambda lib, x: x + lib.array([1.0, 2.0, 3.0]),
        "x - array": lambda lib, x: x - lib.array([1.0, 2.0, 3.0]),
        "array - x": lambda lib, x: lib.array([1.0, 2.0, 3.0]) - x,
        "array * x": lambda lib, x: lib.array([1.0, 2.0, 3.0]) * x,
        "array / x": lambda lib, x: lib.array([1.0, 2.0, 3.0]) / x,
        "x + constant tensor": lambda lib, x: x + lib.tensor([[1.0], [2.0]]),
        "constant tensor / x": lambda lib, x: lib.tensor([[1.0], [2.0]]) / x,
    }.items()
] + [
    Case("number x ** 0.5", lambda lib, x: x**0.5, ((2, 3),), "positive"),
    Case("number x ** 2 at 0", lambda lib, x: x**2, (array([0.0, -1.0, 2.0]),)),
    Case("number x ** 0 at 0", lambda lib, x: x**0, (array([0.0, -1.0, 2.0]),)),
    Case("number x ** 1 at 0", lambda lib, x: x**1, (array([0.0, -1.0, 2.0]),)),
]

FUNCTIONS = {
    "exp": (lambda lib, x: x.exp(), "normal"),
    "log": (lambda lib, x: x.log(), "positive"),
    "sqrt": (lambda lib, x: x.sqrt(), "positive"),
    "abs": (lambda lib, x: x.abs(), "normal"),
    "clamp both": (lambda lib, x: x.clamp(-0.5, 0.5), "normal"),
    "clamp min": (lambda lib, x: x.clamp(min=0.1), "normal"),
    "clamp max": (lambda lib, x: x.clamp(max=0.1), "normal"),
    "clone": (lambda lib, x: x.clone(), "normal"),
}
UNARY = [
    Case(f"{name} {shape}", run, (shape,), draw)
    for name, (run, draw) in FUNCTIONS.items()
    for shape in [(), (3,), (2, 3), (0, 3)]
] + [
    Case("abs at 0", lambda lib, x: x.abs(), (array([-1.0, 0.0, -0.0, 2.0]),)),
    Case("clamp at its borders", lambda lib, x: x.clamp(-1, 1), (array([-2, -1, 0, 1, 2]),)),
    Case("clamp with min > max", lambda lib, x: x.clamp(2, 1), (array([0, 1, 1.5, 2, 3]),)),
    Case("exp of large negatives", lambda lib, x: x.exp(), (array([-1000, -100, -80, 0, 80]),)),
    Case("log of tiny numbers", lambda lib, x: x.log(), (array([1e-30, 1e-10, 1e10, 1e30]),)),
    Case("sqrt of tiny numbers", lambda lib, x: x.sqrt(), (array([1e-30, 1e-10, 1e10, 1e30]),)),
]

MATMUL = [
    Case(f"matmul {a} @ {b}", lambda lib, a, b: a @ b, (a, b))
    for a, b in [
        ((2, 3), (3, 4)),
        ((1, 1), (1, 1)),
        ((1, 3), (3, 1)),
        ((3, 1), (1, 3)),
        ((3,), (3,)),
        ((1,), (1,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (1, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((4, 1, 2, 3), (5, 3, 2)),
        ((5, 1, 2, 3), (1, 4, 3, 2)),
        ((5, 2, 3), (3,)),
        ((3,), (5, 3, 2)),
        ((2, 4, 2, 3), (3,)),
        ((0, 3), (3, 2)),
        ((2, 0), (0, 3)),
        ((2, 3), (3, 0)),
        ((0, 2, 3), (3, 4)),
        ((17, 33), (33, 9)),
    ]
] + [
    Case("matmul a @ b.T", lambda lib, a, b: a @ b.T, ((2, 3), (4, 3))),
    Case("matmul a.T @ b", lambda lib, a, b: a.T @ b, ((3, 2), (3, 4))),
    Case("matmul a.T @ b.T", lambda lib, a, b: a.T @ b.T, ((3, 2), (4, 3))),
    Case("matmul row @ b.T", lambda lib, a, b: a @ b.T, ((1, 3), (4, 3))),
    Case("matmul column @ one.T", lambda lib, a, b: a @ b.T, ((5, 1), (4, 1))),
    Case("matmul x @ x.T", lambda lib, x: x @ x.T, ((3, 4),)),
    Case("matmul x @ x", lambda lib, x: x @ x, ((3, 3),)),
    Case("matmul x @ x @ x", lambda lib, x: x @ x @ x, ((3, 3),)),
    Case(
        "matmul of permuted batches",
        lambda lib, a, b: a.permute(1, 0, 2) @ b.permute(1, 2, 0),
        ((2, 5, 3), (4, 5, 3)),
    ),
    Case("matmul of slices", lambda lib, a, b: a[:, 1:] @ b[1:], ((2, 4), (4, 5))),
    Case("matmul with a constant", lambda lib, x: x @ lib.tensor(np.eye(3) * 2), ((2, 3),)),
    Case("matmul of a constant", lambda lib, x: lib.tensor(np.ones((2, 3))) @ x, ((3, 2),)),
    # Sums of 300 products of size 1: the rounding of a sum is absolute, about 300 * 6e-8.
    Case(
        "matmul (64, 300) @ (300, 20)", lambda lib, a, b: a @ b, ((64, 300), (300, 20)), atol=2e-5
    ),
    Case("matmul in 3 layers", lambda lib, a, b, c: a @ b @ c, ((2, 5), (5, 4), (4, 3))),
]

AXES = {
    (): [None],
    (4,): [None, 0, -1],
    (2, 3): [None, 0, 1, -1, (0, 1), (-1,)],
    (2, 3, 4): [None, 0, -2, (0, 2), (-1, 0), (0, 1, 2)],
}
REDUCERS = {
    "sum": lambda lib, x, axis, keep: lib.sum(x, axis, keep),
    "mean": lambda lib, x, axis, keep: lib.mean(x, axis, keep),
    "max": lambda lib, x, axis, keep: lib.max(x, axis, keep),
    "var": lambda lib, x, axis, keep: lib.var(x, axis, keep),
}


def _reduction(name, shape, axis, keep):
    text = f"{name} {shape} axis={axis}{' keepdims' if keep else ''}"
    return Case(text, lambda lib, x: REDUCERS[name](lib, x, axis, keep), (shape,))


REDUCTIONS = [
    _reduction(name, shape, axis, keep)
    for name in REDUCERS
    for shape, axes in AXES.items()
    for axis in axes
    for keep in (False, True)
    if not (name == "var" and shape == ())  # one number has no variance: see the case below
] + [
    Case("var correction=0", lambda lib, x: lib.var(x, correction=0), ((2, 3),)),
    Case("var correction=0 axis=1", lambda lib, x: lib.var(x, 1, True, 0), ((2, 3),)),
    Case("var correction=2", lambda lib, x: lib.var(x, 1, False, 2), ((2, 5),)),
    # 1e4 + x keeps 3 decimals of x in float32, so 1e-3 relative is what the input itself allows.
    Case("var far from 0", lambda lib, x: lib.var(x + 1e4), ((50,),), rtol=1e-3, atol=1e-3),
    Case("sum (0, 3)", lambda lib, x: lib.sum(x), ((0, 3),)),
    Case("sum (0, 3) axis=0", lambda lib, x: lib.sum(x, 0), ((0, 3),)),
    Case("sum (0, 3) axis=1", lambda lib, x: lib.sum(x, 1), ((0, 3),)),
    Case("mean (0, 3) axis=1", lambda lib, x: lib.mean(x, 1), ((0, 3),)),
    Case("max (0, 3) axis=1", lambda lib, x: lib.max(x, 1), ((0, 3),)),
    Case("sum of 10,000", lambda lib, x: lib.sum(x), ((100, 100),), "positive"),
    Case("max tie", lambda lib, x: lib.max(x), (array([3, 5, 5, 1]),)),
    Case("max tie of all", lambda lib, x: lib.max(x), (array([[2, 2], [2, 2]]),)),
    Case("max ties in rows", lambda lib, x: lib.max(x, 1), (array([[5, 5, 1], [4, 0, 4]]),)),
    Case("max ties in columns", lambda lib, x: lib.max(x, 0, True), (array([[5, 5], [5, 0]]),)),
    Case("max ties over two axes", lambda lib, x: lib.max(x, (0, 2)), (np.ones((2, 3, 2), "f4"),)),
    Case(
        "max of negatives and zeros", lambda lib, x: lib.max(x, 0), (array([[-0.0, -3], [0, -1]]),)
    ),
]

SHAPES = [
    Case(f"permute{axes}", lambda lib, x, axes=axes: x.permute(*axes), ((2, 3, 4),))
    for axes in [*permutations(range(3)), (-1, 0, 1), (0, -1, -2)]
] + [
    Case("permute of a tuple", lambda lib, x: x.permute((2, 0, 1)), ((2, 3, 4),)),
    Case("permute of 4 axes", lambda lib, x: x.permute(3, 1, 0, 2), ((2, 3, 4, 5),)),
    Case("permute twice", lambda lib, x: x.permute(1, 2, 0).permute(1, 2, 0), ((2, 3, 4),)),
    Case("T", lambda lib, x: x.T, ((2, 3),)),
    Case("transpose(0, 2)", lambda lib, x: x.transpose(0, 2), ((2, 3, 4),)),
    Case("transpose(-2, -1)", lambda lib, x: x.transpose(-2, -1), ((2, 3, 4),)),
    Case("transpose(0, -1)", lambda lib, x: x.transpose(0, -1), ((2, 3, 4),)),
    Case("reshape(3, 2)", lambda lib, x: x.reshape(3, 2), ((2, 3),)),
    Case("reshape((6,))", lambda lib, x: x.reshape((6,)), ((2, 3),)),
    Case("reshape(-1)", lambda lib, x: x.reshape(-1), ((2, 3, 4),)),
    Case("reshape(2, -1, 2)", lambda lib, x: x.reshape(2, -1, 2), ((2, 3, 4),)),
    Case("reshape(1)", lambda lib, x: x.reshape(1), ((),)),
    Case("reshape to ()", lambda lib, x: x.reshape(()), ((1, 1),)),
    Case("reshape (0, 3) to (3, 0)", lambda lib, x: x.reshape(3, 0), ((0, 3),)),
    Case("reshape of a permuted", lambda lib, x: x.permute(2, 0, 1).reshape(4, 6), ((2, 3, 4),)),
    Case("flatten()", lambda lib, x: x.flatten(), ((2, 3, 4),)),
    Case("flatten(1)", lambda lib, x: x.flatten(1), ((2, 3, 4),)),
    Case("unsqueeze(0)", lambda lib, x: x.unsqueeze(0), ((2, 3),)),
    Case("unsqueeze(1)", lambda lib, x: x.unsqueeze(1), ((2, 3),)),
    Case("unsqueeze(-1)", lambda lib, x: x.unsqueeze(-1), ((2, 3),)),
    Case("cat axis=0", lambda lib, a, b: lib.cat([a, b]), ((1, 2), (3, 2))),
    Case("cat axis=1", lambda lib, a, b: lib.cat([a, b], 1), ((2, 1), (2, 3))),
    Case("cat axis=-1", lambda lib, a, b: lib.cat([a, b], -1), ((2, 1, 2), (2, 1, 3))),
    Case("cat of three", lambda lib, a, b, c: lib.cat([a, b, c]), ((2,), (1,), (3,))),
    Case("cat of one", lambda lib, a: lib.cat([a]), ((2, 2),)),
    Case("cat with an empty one", lambda lib, a, b: lib.cat([a, b]), ((0, 2), (3, 2))),
    Case("cat of the same twice", lambda lib, a: lib.cat([a, a], 1), ((2, 3),)),
    Case("cat with a constant", lambda lib, a: lib.cat([lib.tensor([[1, 2]]), a]), ((2, 2),)),
    Case("cat of its own views", lambda lib, a: lib.cat([a[1:], a[:1], a.T]), ((3, 3),)),
    Case("stack axis=0", lambda lib, a, b: lib.stack([a, b]), ((2, 3), (2, 3))),
    Case("stack axis=1", lambda lib, a, b: lib.stack([a, b], 1), ((2, 3), (2, 3))),
    Case("stack axis=-1", lambda lib, a, b: lib.stack([a, b], -1), ((2, 3), (2, 3))),
    Case("stack of numbers", lambda lib, a, b: lib.stack([a, b]), ((), ())),
    Case("stack of the same twice", lambda lib, a: lib.stack([a, a * 2, a]), ((2,),)),
]

KEYS = {
    "1": 1,
    "-1": -1,
    "0:2": slice(0, 2),
    "::2": slice(None, None, 2),
    "1:1": slice(1, 1),
    "...": Ellipsis,
    "None": None,
    "1, 0": (1, 0),
    ":, 1": (slice(None), 1),
    "..., -1": (Ellipsis, -1),
    "None, 1": (None, 1),
    ":, None, 0": (slice(None), None, 0),
    "1:, :, ::3": (slice(1, None), slice(None), slice(None, None, 3)),
    "[0, 2]": [0, 2],
    "[0, 2, 2, 0, 2]": [0, 2, 2, 0, 2],
    "[-1, 0]": [-1, 0],
    "[0, 1], [1, 1]": ([0, 1], [1, 1]),
    "[0, 0, 0], [1, 1, 1]": ([0, 0, 0], [1, 1, 1]),
    "[0, 0], 1, [2, 2]": ([0, 0], 1, [2, 2]),
    ":, [0, 0, 1]": (slice(None), [0, 0, 1]),
    "..., [3, 3, 0]": (Ellipsis, [3, 3, 0]),
    "1:, [0, 0], 2": (slice(1, None), [0, 0], 2),
}
INDEXING = [
    Case(f"x[{text}]", lambda lib, x, key=key: x[key], ((3, 2, 4),)) for text, key in KEYS.items()
] + [
    Case("x[tensor]", lambda lib, x: x[lib.index([0, 2, 2])], ((3, 2),)),
    Case("x[tensor (2, 2)]", lambda lib, x: x[lib.index([[0, 1], [1, 2]])], ((3, 2),)),
    Case("x[:, tensor]", lambda lib, x: x[:, lib.index([1, 1])], ((3, 2),)),
    Case("x[tensor, tensor]", lambda lib, x: x[lib.index([0, 0]), lib.index([1, 1])], ((3, 2),)),
    Case("x[mask]", lambda lib, x: x[lib.array([1, 0, 1]) > 0], ((3, 2),)),
    Case("x[mask of x]", lambda lib, x: x[lib.array([[1, 0], [1, 1], [0, 0]]) > 0], ((3, 2),)),
    Case("x[mask of nothing]", lambda lib, x: x[lib.array([0, 0, 0]) > 0], ((3, 2),)),
    Case("x[1][0]", lambda lib, x: x[1][0], ((3, 2),)),
    Case("x[1:][0] + x[0]", lambda lib, x: x[1:][0] + x[0], ((3, 2),)),
    Case("x[[0, 0]] used twice", lambda lib, x: x[[0, 0]] * x[[1, 0]], ((3, 2),)),
]


def _many(lib, x):
    total = x
    for step in range(50):
        total = total + x * (step + 1) * 0.01
    return total


def _fan(lib, x):
    parts = [x * (k + 1) for k in range(20)]
    return lib.stack(parts).sum(0) * x


def _softmax(lib, x):
    e = (x - lib.max(x, -1, True)).exp()
    return e / lib.sum(e, -1, True)


def _layer_norm(lib, x, gain, shift):
    centred = x - lib.mean(x, -1, True)
    return centred / (lib.var(x, -1, True, 0) + 1e-5).sqrt() * gain + shift


def _attention(lib, q, k, v):
    scores = q @ k.transpose(-2, -1) / 2.0
    return lib.nn.Softmax(dim=-1)(scores) @ v


def _chain_of_views(lib, x):
    return x.permute(1, 0, 2).reshape(6, 4)[1:5].T.reshape(2, -1)[:, ::2]


GRAPHS = [
    Case("x + x", lambda lib, x: x + x, ((2, 3),)),
    Case("x * x", lambda lib, x: x * x, ((2, 3),)),
    Case("x - x", lambda lib, x: x - x, ((2, 3),)),
    Case("x / x", lambda lib, x: x / x, ((2, 3),), "nonzero"),
    Case("x ** x", lambda lib, x: x**x, ((2, 3),), "positive"),
    Case("x + x.T", lambda lib, x: x + x.T, ((3, 3),)),
    Case("x * x[0]", lambda lib, x: x * x[0], ((3, 3),)),
    Case("x + x.sum()", lambda lib, x: x + lib.sum(x), ((3, 2),)),
    Case("x * x.max(1)", lambda lib, x: x * lib.max(x, 1, True), ((3, 2),)),
    Case("diamond", lambda lib, x: x * 2 + x * 5, ((3,),)),
    Case("diamond of diamonds", lambda lib, x: ((x + x) * (x - 1)) * ((x + x) * x), ((3,),)),
    Case("a long and a short way", lambda lib, x: ((x * 2).exp() * 3).sqrt() + x, ((3,),)),
    Case("a node used 50 times", _many, ((3,),)),
    Case("fan out and in", _fan, ((3,),)),
    Case("operands at both ends", lambda lib, a, b: (a + b) * (b + a) - a * b, ((2, 3), (3,))),
    Case("an unused input", lambda lib, a, b: a * 2, ((2,), (3,))),
    Case("views of views", _chain_of_views, ((2, 3, 4),)),
    Case("a view and its base", lambda lib, x: x.reshape(6) * x.T.reshape(6), ((2, 3),)),
    Case("a view twice", lambda lib, x: x.T[0] * x.T[0] + x.T[1], ((2, 3),)),
    Case("softmax by hand", _softmax, ((4, 5),)),
    Case("softmax of ±1000 by hand", _softmax, ((4, 5),), "large"),
    Case("log of softmax by hand", lambda lib, x: _softmax(lib, x).log(), ((4, 5),)),
    Case("layer norm by hand", _layer_norm, ((4, 6), (6,), (6,))),
    Case("attention", _attention, ((2, 5, 4), (2, 5, 4), (2, 5, 3))),
    Case("attention on itself", lambda lib, x: _attention(lib, x, x, x), ((2, 5, 4),)),
    Case("norm", lambda lib, x: lib.sum(x * x).sqrt(), ((3, 4),)),
    Case("distances", lambda lib, a, b: lib.sum((a[:, None] - b[None]) ** 2, -1), ((3, 2), (4, 2))),
    Case("x / norm", lambda lib, x: x / lib.sum(x * x, 1, True).sqrt(), ((3, 4),)),
]

ACTIVATIONS = {
    "ReLU": lambda lib: lib.nn.ReLU(),
    "Sigmoid": lambda lib: lib.nn.Sigmoid(),
    "Tanh": lambda lib: lib.nn.Tanh(),
    "GELU": lambda lib: lib.nn.GELU(),
    "GELU tanh": lambda lib: lib.nn.GELU(approximate="tanh"),
    "SiLU": lambda lib: lib.nn.SiLU(),
    "Softmax": lambda lib: lib.nn.Softmax(dim=-1),
    "LogSoftmax": lambda lib: lib.nn.LogSoftmax(dim=-1),
}
ACTIVATION_INPUTS = {
    "()": ((), "normal"),
    "(5,)": ((5,), "normal"),
    "(2, 3, 4)": ((2, 3, 4), "normal"),
    "(0, 3)": ((0, 3), "normal"),
    "±1000": ((6, 7), "large"),
    "zeros": (np.zeros((2, 3), np.float32), "normal"),
    "-6 to 6": (np.linspace(-6, 6, 49, dtype=np.float32), "normal"),
    "tiny": (array([1e-20, -1e-20, 1e-7, -1e-7, 1e-3]), "normal"),
}
ACTIVATION_CASES = (
    [
        Case(f"{name} {text}", lambda lib, x, make=make: make(lib)(x), (given,), draw)
        for name, make in ACTIVATIONS.items()
        for text, (given, draw) in ACTIVATION_INPUTS.items()
        if (name, text) != ("GELU tanh", "-6 to 6")  # looser, below
    ]
    + [
        # Near -5 the slope is a difference of numbers of size 10: 1e-6 is their last digit.
        Case(
            "GELU tanh -6 to 6",
            lambda lib, x: lib.nn.GELU(approximate="tanh")(x),
            (np.linspace(-6, 6, 49, dtype=np.float32),),
            atol=3e-6,
        ),
    ]
    + [
        Case(
            f"{name}(dim={dim})",
            lambda lib, x, name=name, dim=dim: getattr(lib.nn, name)(dim=dim)(x),
            ((2, 3, 4),),
        )
        for name in ("Softmax", "LogSoftmax")
        for dim in (0, 1, -2, -3)
    ]
)

CLASSES = [2, 0, 1, 1]
ONES_AND_ZEROS = [[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
SOFT = [[0.9, 0.1, 0.5], [0.0, 0.3, 1.0]]
REDUCES = ("mean", "sum", "none")


def _loss(name, text, shape, target, draw="normal", **options):
    return [
        Case(
            f"{name} {text} {reduction}",
            lambda lib, x, reduction=reduction: getattr(lib.nn, name)(
                reduction=reduction, **options
            )(x, target(lib)),
            (shape,),
            draw,
        )
        for reduction in REDUCES
    ]


LOSSES = [
    *_loss("MSELoss", "(2, 3)", (2, 3), lambda lib: lib.tensor(SOFT)),
    *_loss("MSELoss", "()", (), lambda lib: lib.tensor(0.5)),
    *_loss("MSELoss", "large", (2, 3), lambda lib: lib.tensor(SOFT), "large"),
    *_loss("CrossEntropyLoss", "(4, 3)", (4, 3), lambda lib: lib.classes(CLASSES)),
    *_loss("CrossEntropyLoss", "(1, 2)", (1, 2), lambda lib: lib.classes([1])),
    *_loss("CrossEntropyLoss", "(4, 1)", (4, 1), lambda lib: lib.classes([0, 0, 0, 0])),
    *_loss("CrossEntropyLoss", "±1000", (4, 3), lambda lib: lib.classes(CLASSES), "large"),
    *_loss("CrossEntropyLoss", "smoothing 0.1", (4, 3), lambda lib: lib.classes(CLASSES),
           label_smoothing=0.1),
    *_loss("CrossEntropyLoss", "smoothing 1", (4, 3), lambda lib: lib.classes(CLASSES),
           label_smoothing=1.0),
    *_loss("CrossEntropyLoss", "±1000 smoothing 0.1", (4, 3), lambda lib: lib.classes(CLASSES),
           "large", label_smoothing=0.1),
    *_loss("BCELoss", "0 and 1", (2, 3), lambda lib: lib.tensor(ONES_AND_ZEROS), "probability"),
    *_loss("BCELoss", "soft", (2, 3), lambda lib: lib.tensor(SOFT), "probability"),
    *_loss("BCELoss", "p of 0 and 1", array([[0, 1, 0.5], [0, 1, 1]]),
           lambda lib: lib.tensor(ONES_AND_ZEROS)),
    *_loss("BCEWithLogitsLoss", "0 and 1", (2, 3), lambda lib: lib.tensor(ONES_AND_ZEROS)),
    *_loss("BCEWithLogitsLoss", "soft", (2, 3), lambda lib: lib.tensor(SOFT)),
    *_loss("BCEWithLogitsLoss", "±1000", (2, 3), lambda lib: lib.tensor(SOFT), "large"),
    *_loss("BCEWithLogitsLoss", "()", (), lambda lib: lib.tensor(1.0)),
    Case("MSELoss of two that learn", lambda lib, a, b: lib.nn.MSELoss()(a, b), ((2, 3), (2, 3))),
    Case("CrossEntropyLoss twice", lambda lib, x: (
        lib.nn.CrossEntropyLoss()(x, lib.classes(CLASSES))
        + 0.5 * lib.nn.CrossEntropyLoss()(x * 2, lib.classes([0, 0, 0, 0]))), ((4, 3),)),
]  # fmt: skip


def _mlp(lib, x, w1, b1, w2, b2):
    hidden = lib.nn.Tanh()(lib.linear(x, w1, b1))
    return lib.nn.CrossEntropyLoss()(lib.linear(hidden, w2, b2), lib.classes(CLASSES))


def _tied(lib, x, w):
    return lib.linear(lib.linear(x, w).exp(), w.T)


LAYERS = [
    Case(f"Linear {shape}", lambda lib, x, w, b: lib.linear(x, w, b), (shape, (4, 3), (4,)))
    for shape in [(3,), (1, 3), (5, 3), (2, 5, 3), (0, 3)]
] + [
    Case("Linear without bias", lambda lib, x, w: lib.linear(x, w), ((5, 3), (4, 3))),
    Case("Linear 1 to 1", lambda lib, x, w, b: lib.linear(x, w, b), ((5, 1), (1, 1), (1,))),
    Case("Linear to 1", lambda lib, x, w, b: lib.linear(x, w, b), ((5, 3), (1, 3), (1,))),
    Case("Linear twice with one weight", _tied, ((5, 3), (4, 3))),
    Case("Linear 784 to 9", lambda lib, x, w, b: lib.linear(x, w, b), ((16, 784), (9, 784), (9,)),
         atol=1e-4),  # sums of 784 products of size 1: the rounding of the sum is absolute
    Case("MLP with loss", _mlp, ((4, 5), (6, 5), (6,), (3, 6), (3,))),
    Case("Flatten", lambda lib, x: lib.nn.Flatten()(x), ((2, 3, 4),)),
    Case("Flatten(0)", lambda lib, x: lib.nn.Flatten(0)(x), ((2, 3, 4),)),
    Case("Flatten(2)", lambda lib, x: lib.nn.Flatten(2)(x), ((2, 3, 4, 5),)),
    Case("Dropout in use", lambda lib, x: lib.nn.Dropout(0.5).eval()(x), ((5, 3),)),
    Case("Dropout(0)", lambda lib, x: lib.nn.Dropout(0.0)(x), ((5, 3),)),
    Case("Sequential of activations", lambda lib, x: lib.nn.Sequential(
        lib.nn.Tanh(), lib.nn.Flatten(), lib.nn.SiLU())(x), ((2, 3, 4),)),
]  # fmt: skip

CASES = [
    *BROADCASTING,
    *NUMBERS,
    *UNARY,
    *MATMUL,
    *REDUCTIONS,
    *SHAPES,
    *INDEXING,
    *GRAPHS,
    *ACTIVATION_CASES,
    *LOSSES,
    *LAYERS,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_operation_agrees_with_torch(case):
    compare(case)


def test_table_is_large_and_its_names_are_unique():
    assert len(CASES) >= 300
    assert len({case.id for case in CASES}) == len(CASES)
