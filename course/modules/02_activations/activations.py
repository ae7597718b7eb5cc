# %% [markdown]
"""
# 02 · Activations

Functions without parameters that bend what a layer computes: without a bend, a hundred layers are
worth no more than one.

```
you have built     01 Tensor: arithmetic, matmul, reductions, shapes
        |
        v
you build now      ReLU, Sigmoid, Tanh, SiLU, GELU, Softmax, LogSoftmax
        |
        v
this unlocks       03 layers, then losses (log-softmax) and, much later, attention (softmax)
```

Time: about 2 hours. The formulas are short. What takes care is that float32 numbers end: half of
this module is about writing a formula so that it survives an input of 1000.
"""

# %% given="imports"
#| default_exp core.activations
#| export
import numpy as np

from tinytorch.core.tensor import Tensor

# %% given="tools"
import time
import warnings

import tito.checks as check


def complaints(call):
    """What NumPy warns about while `call()` runs, as a tuple of texts."""
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="warn", under="ignore"):
        warnings.simplefilter("always")
        call()
    return tuple(str(warning.message) for warning in caught)


def largest_exponent(call):
    """The largest number that np.exp is given while `call()` runs; 0.0 if none is above 0."""
    seen, exp = [0.0], np.exp

    def watched(x, *args, **options):
        where = options.get("where", True)
        seen.append(float(np.max(np.asarray(x), initial=0.0, where=where)))
        return exp(x, *args, **options)

    np.exp = watched
    try:
        call()
    finally:
        np.exp = exp
    return max(seen)


def runs(layer, call):
    """How often the `forward` of the class `layer` runs while `call()` runs."""
    count, forward = [], layer.forward
    layer.forward = lambda self, x: (count.append(1), forward(self, x))[1]
    try:
        call()
    finally:
        layer.forward = forward
    return len(count)

# %% [markdown]
"""
## Why: ten layers that are one layer

A layer multiplies by a matrix. So stack ten of them, and the network should be able to compute more
than one of them can. Run the next cell: it cannot. The ten matrices multiply out to a single one.

The second half asks for something small: XOR, which answers 1 when exactly one of its two inputs is
1 and 0 otherwise. The best straight formula `a*x1 + b*x2 + c`, found by least squares, answers the
same thing to all four questions. Stacking more matrices on top of it would change nothing.
"""

# %% demo="why_a_bend"
rng = np.random.default_rng(0)
x = Tensor(rng.normal(size=(1, 4)))
layers = [Tensor(rng.normal(size=(4, 4)) / 2) for _ in range(10)]
deep, product = x, Tensor(np.eye(4))
for weight in layers:
    deep, product = deep @ weight, product @ weight
print("through ten matrices:", deep.data.round(4))
print("through one matrix:  ", (x @ product).data.round(4))

corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=float)
wanted = np.array([0, 1, 1, 0])
with_constant = np.hstack([corners, np.ones((4, 1))])
best, *_ = np.linalg.lstsq(with_constant, wanted, rcond=None)
print("XOR wanted:          ", wanted)
print("best straight answer:", (with_constant @ best).round(4) + 0.0)

# %% [markdown]
"""
What is missing is a **nonlinearity**: any function between the matrices whose graph is not a
straight line. The simplest has one bend, and with two of those bends you will solve XOR by hand
before this module is over.

## Foundations: where float32 ends

Most bends are made of `exp`, and `exp` grows fast. A float32 number holds at most about 3.4e38:

```
x          1      10       80       88        89       100
exp(x)   2.72   22026   5.5e34   1.7e38      inf       inf
```

From there on the arithmetic goes wrong in a fixed order: **inf** first, and then, because
`inf / inf` and `inf - inf` have no answer, **nan** (not a number). A nan spreads: every sum it
touches becomes nan, one bad entry ruins the batch, and one bad batch ruins the weights.

The other direction is harmless: `exp(-1000)` is rounded to 0, which is off by less than any number
you will ever use. So the rule for this whole module is: **only ever take `exp` of something that is
zero or negative**. See what happens when that rule is broken: NumPy prints a warning, and goes on.
"""

# %% demo="overflow"
x = np.array([-1000.0, -1.0, 1.0, 80.0, 1000.0], dtype=np.float32)
print("x                    ", x)
print("exp(x)               ", np.exp(x))
print("exp(x) / (1 + exp(x))", np.exp(x) / (1 + np.exp(x)))
print("exp(-1000)           ", np.exp(np.float32(-1000)))

# %% [markdown]
"""
## Build

All activations share a little bookkeeping, given here: calling one runs its `forward`, it has no
parameters to learn, and it prints itself as PyTorch does.
"""

# %% given="Activation"
#| export
class Activation:
    """A fixed function of a tensor. Subclasses define `forward(x)`, Tensor to Tensor."""

    def __call__(self, x):
        """`forward(x)`. Raises TypeError if `x` is not a Tensor."""
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{self}: expected a Tensor, got {type(x).__name__}. Wrap it: Tensor(x)."
            )
        return self.forward(x)

    def parameters(self):
        """Nothing to learn: an empty list."""
        return []

    def __repr__(self):
        options = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({options})"

# %% [markdown]
"""
### ReLU: one bend

The rectified linear unit keeps what is positive and replaces what is negative by 0:

```
x         -2  -0.5   0   0.5   2              /
relu(x)    0    0    0   0.5   2        _____/
```

One comparison per entry is all it takes. Write `forward`: unwrap (`x.data`), compute with NumPy,
wrap in a new `Tensor`. (NumPy's functions refuse a Tensor, and `x > 0` is for arrays only.)

Two inputs are there to catch shortcuts. `-inf` is negative, so its result is 0. And `nan` must stay
`nan`: if a computation went wrong earlier, the activation must not hide it.
"""

# %% exercise="ReLU"
#| export
class ReLU(Activation):
    """max(x, 0), entry by entry.

    Source: Nair & Hinton 2010, Rectified linear units improve restricted Boltzmann machines.

    >>> ReLU()(Tensor([-2.0, 0.0, 3.0])).tolist()
    [0.0, 0.0, 3.0]
    """

    def forward(self, x):
        """Negative entries become 0, nan stays nan; the shape of x. Cost: 1 FLOP per entry."""
        ### BEGIN SOLUTION
        return Tensor(np.maximum(x.data, 0))
        ### END SOLUTION

# %% check="ReLU" points=3
_x = Tensor([[-2.0, -0.5, 0.0], [0.5, 2.0, -1e-3]])
check.tensor("ReLU()([[-2, -0.5, 0], [0.5, 2, -0.001]])", ReLU()(_x), [[0, 0, 0], [0.5, 2, 0]],
             why="positive entries pass unchanged, all others become 0")
check.tensor("the input afterwards", _x, [[-2, -0.5, 0], [0.5, 2, -1e-3]],
             why="the gradient will need x itself: never write into the input")
check.tensor("ReLU()([-inf, inf])", ReLU()(Tensor([-np.inf, np.inf])), [0, np.inf],
             why="-inf is negative, so it becomes 0; multiplying by a mask gives -inf * 0 = nan")
check.tensor("ReLU()([nan, 1])", ReLU()(Tensor([np.nan, 1.0])), [np.nan, 1],
             why="nan says that something failed earlier; turned into 0 it would never be found")

# %% [markdown]
"""
### Sigmoid: any number to a probability

```
sigmoid(x) = 1 / (1 + exp(-x))                       1 |          ______
                                                       |       __/
x              -1000   -1.1   0   1.1   1000       0.5 |      /
sigmoid(x)         0   0.25  0.5  0.75     1         0 |_____/
```

(1.1 is nearly ln 3, and exp(ln 3) = 3: check the 0.75.) Written like that it takes `exp(1000)` for
`x = -1000`. Multiply numerator and denominator by `exp(x)`, and you get `exp(x) / (1 + exp(x))`:
the same function, which takes `exp(1000)` for `x = +1000`. So each form is safe on one side:

```
x >= 0       1    / (1 + exp(-x))
x <  0    exp(x)  / (1 + exp(x))
```

Picking with `np.where(x >= 0, a, b)` is no way out: it computes **both** `a` and `b` for every entry
and picks afterwards, overflow included. Find one expression that is safe everywhere instead. The two
denominators are one already, `1 + exp(-|x|)`. Now the numerators: 1 is `exp(0)`, the other is
`exp(x)`. Which number, made of x and 0, must go into `exp` so that both lines come out right?

Write it with NumPy, an array in and an array out, so that the other activations can use it. Three
shortcuts do not lead there. Clipping x gives every input beyond the limit the limit's value.
Silencing the warning leaves the overflow where it is (the check looks at what `exp` is given). And
`sigmoid(x) = 1 - sigmoid(-x)` is true, but float32 keeps 7 digits: `sigmoid(-20)` is 2.06e-9, and
`1 - 0.999999998` rounds to 0.
"""

# %% exercise="sigmoid"
#| export
def sigmoid(x):
    """1 / (1 + exp(-x)) of a NumPy array, entry by entry, for any finite x without overflow.

    Precise at both ends: sigmoid(-20) is 2.06e-9, not 0. Cost: two exp per entry.

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0])).tolist()
    [0.0, 0.5, 1.0]
    """
    ### BEGIN SOLUTION
    return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
    ### END SOLUTION

# %% check="sigmoid" points=6
_x = np.log(np.array([[1.0, 3.0], [1 / 3, 9.0]], dtype=np.float32))
_y = sigmoid(_x)
check.close("sigmoid of ln [[1, 3], [1/3, 9]]", _y, [[0.5, 0.75], [0.25, 0.9]],
            why="exp(-ln 3) = 1/3 and 1 / (1 + 1/3) = 3/4; for ln(1/3) it is 1 / (1 + 3) = 1/4")
check.equal("type of sigmoid(array)", type(_y).__name__, "ndarray",
            why="an array in, an array out: the class Sigmoid, below, does the wrapping")
check.close("the input afterwards", _x, np.log([[1, 3], [1 / 3, 9]]),
            why="the array belongs to the tensor that was passed: never write into it")
_far = np.array([-1000.0, 700.0, -90.0, 90.0], dtype=np.float32)
check.close("sigmoid([-1000, 700, -90, 90])", sigmoid(_far), [0, 1, 0, 1],
            why="a confident network really produces such numbers; nan here is inf / inf")
check.equal("the largest number that exp was given for these, or 0",
            largest_exponent(lambda: sigmoid(_far)), 0.0,
            why="exp of a positive number overflows from 89 on: only ever give it zero or less")
check.equal("NumPy's warnings for these four", complaints(lambda: sigmoid(_far)), (),
            why="a warning says that something went wrong on the way, though the result looks right")
_tail = np.array([-20.0, -30.0, -60.0, -85.0], dtype=np.float32)
check.close("sigmoid([-20, -30, -60, -85])", sigmoid(_tail),
            [2.0611537e-9, 9.3576230e-14, 8.756511e-27, 1.2160993e-37], rtol=1e-4, atol=0,
            why="for x << 0 the sigmoid is about exp(x): small, but not 0, and its logarithm (a "
                "loss, in module 04) is -20, not -inf")

# %% given="Sigmoid"
#| export
class Sigmoid(Activation):
    """1 / (1 + exp(-x)), entry by entry: between 0 and 1.

    >>> Sigmoid()(Tensor([0.0, 1000.0])).tolist()
    [0.5, 1.0]
    """

    def forward(self, x):
        """Entries between 0 and 1; the shape is that of x. Cost: two exp per entry."""
        return Tensor(sigmoid(x.data))

# %% [markdown]
"""
### Tanh: the sigmoid around zero

`tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))` runs from -1 to 1 and goes through the origin.
It is a stretched sigmoid, `2 * sigmoid(2x) - 1`.

```
x          -1000   -1.1   0   1.1   1000
tanh(x)       -1   -0.8   0   0.8      1
```

You now know two ways to lose digits with these formulas: the first overflows for large x, and the
second subtracts two nearly equal numbers for x near 0, where tanh(x) is about x. NumPy's own
`np.tanh` does neither. This is a lesson too: know what can go wrong, and then use the function
whose author took care of it.
"""

# %% exercise="Tanh"
#| export
class Tanh(Activation):
    """Hyperbolic tangent, entry by entry: between -1 and 1, and about x near 0.

    >>> Tanh()(Tensor([-1000.0, 0.0, 1000.0])).tolist()
    [-1.0, 0.0, 1.0]
    """

    def forward(self, x):
        """Entries between -1 and 1; the shape is that of x. Cost: about two exp per entry."""
        ### BEGIN SOLUTION
        return Tensor(np.tanh(x.data))
        ### END SOLUTION

# %% check="Tanh" points=2
check.tensor("Tanh()(ln [[1, 2], [3, 1/3]])", Tanh()(Tensor(np.log([[1, 2], [3, 1 / 3]]))),
             [[0, 0.6], [0.8, -0.8]], why="exp(ln 3) = 3, so (3 - 1/3) / (3 + 1/3) = 8/10")
check.tensor("Tanh()([-1000, 1000])", Tanh()(Tensor([-1000.0, 1000.0])), [-1, 1],
             why="the formula with exp gives inf / inf = nan here")
check.tensor("Tanh()([1e-4, -1e-4])", Tanh()(Tensor([1e-4, -1e-4])), [1e-4, -1e-4], atol=1e-9,
             why="near 0 tanh(x) is x to 8 digits; 2 * sigmoid(2x) - 1 keeps only 3 of them")

# %% [markdown]
"""
### SiLU: a smooth ReLU

ReLU has a corner at 0 and is dead flat on the left: there the slope is 0, and a unit that only ever
sees negative inputs learns nothing (a *dead* ReLU). Multiply x by a gate between 0 and 1 instead:

```
silu(x) = x * sigmoid(x)

x         -1000    -1.1     0    1.1    1000
silu(x)       0   -0.27     0   0.82    1000
```

Far right the gate is open, far left it is shut, and in between there is a soft dip below zero. This
is the activation inside Llama's layers, and one line with what you have.
"""

# %% exercise="SiLU"
#| export
class SiLU(Activation):
    """x * sigmoid(x), entry by entry; also called swish.

    Source: Elfwing, Uchibe & Doya 2017, arXiv:1702.03118.

    >>> SiLU()(Tensor([0.0, 1000.0])).tolist()
    [0.0, 1000.0]
    """

    def forward(self, x):
        """x where the gate is open, about 0 where it is shut. Cost: two exp per entry."""
        ### BEGIN SOLUTION
        return Tensor(x.data * sigmoid(x.data))
        ### END SOLUTION

# %% check="SiLU" points=3
_x = Tensor(np.log([[1, 3], [1 / 3, 9]]))
check.tensor("SiLU()(ln [[1, 3], [1/3, 9]])", SiLU()(_x),
             [[0, 0.75 * np.log(3)], [-0.25 * np.log(3), 0.9 * np.log(9)]],
             why="the sigmoids are 1/2, 3/4, 1/4, 9/10, each times x itself")
check.tensor("the input afterwards", _x, np.log([[1, 3], [1 / 3, 9]]),
             why="the gradient will need x itself: never write into the input")
_far = Tensor([-1000.0, 1000.0])
check.tensor("SiLU()([-1000, 1000])", SiLU()(_far), [0, 1000],
             why="the gate is shut on the left and open on the right")
check.equal("the largest number that exp was given for these two, or 0",
            largest_exponent(lambda: SiLU()(_far)), 0.0,
            why="a second formula for the sigmoid would overflow again: use your own")

# %% [markdown]
"""
### GELU: a gate from the bell curve

GELU has the same shape with another gate: the probability that a standard normal number is below x.

```
gelu(x) = x * P(normal < x) = x * (1 + erf(x / sqrt(2))) / 2

x          -2        -1       0        1        2
gelu(x)  -0.0455  -0.1587     0     0.8413   1.9545
```

`erf` (the *error function*) is the integral of the bell curve. NumPy does not have it, so the next
cell gives it: a polynomial from a handbook of 1964, wrong by at most 1.5e-7, which is about the last
digit that float32 can see.
"""

# %% given="erf"
#| export
def erf(x):
    """Error function of an array, computed and returned in float64; |error| <= 1.5e-7.

    Source: Abramowitz & Stegun 1964, Handbook of Mathematical Functions, 7.1.26.

    >>> erf(np.array([-1.0, 0.0, 1.0])).round(6).tolist()
    [-0.842701, 0.0, 0.842701]
    """
    z = np.abs(np.asarray(x, dtype=np.float64))
    t = 1 / (1 + 0.3275911 * z)
    tail = np.zeros_like(z)
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        tail += coefficient  # in place: new arrays would cost more than the arithmetic
        tail *= t
    tail *= np.exp(-z * z)
    return np.sign(x) * (1 - tail)

# %% [markdown]
"""
`erf` used to be slow or missing, so GELU's authors also gave an approximation by tanh:

```
gelu(x) ~ x/2 * (1 + tanh( sqrt(2/pi) * (x + 0.044715 * x^3) ))
```

The two differ in the fourth decimal. GPT-2 was trained with the second, so whoever loads its weights
needs exactly that one. PyTorch offers both, `approximate="none"` and `"tanh"`, and so do you:
`self.approximate` says which formula `forward` must use.

When you type them in, write x³ as `x * x * x` (the measurement below shows why), and roots as
`2**0.5`, not `np.sqrt(2)`. The latter is a NumPy float64, which turns float32 arrays into float64, at
twice the bytes; Python's own numbers adapt to the array.
"""

# %% exercise="GELU"
#| export
class GELU(Activation):
    """x times the probability that a standard normal number is below x, entry by entry.

    approximate: "none" for the exact form by erf, "tanh" for GPT-2's.
    Raises ValueError for any other `approximate`.
    Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.

    >>> round(GELU()(Tensor(1.0)).item(), 4)
    0.8413
    """

    def __init__(self, approximate="none"):
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU: approximate={approximate!r} must be 'none' or 'tanh'.")
        self.approximate = approximate

    def forward(self, x):
        """x gated by the bell curve; the shape is that of x. Cost: one exp or tanh per entry."""
        ### BEGIN SOLUTION
        a = x.data
        if self.approximate == "tanh":
            inner = (2 / np.pi) ** 0.5 * (a + 0.044715 * a * a * a)
            return Tensor(0.5 * a * (1 + np.tanh(inner)))
        return Tensor(0.5 * a * (1 + erf(a / 2**0.5)))
        ### END SOLUTION

# %% check="GELU" points=6
_x = Tensor([[-2.0, -1.0, -0.5], [0.5, 1.0, 2.0]])
check.tensor("GELU()([[-2, -1, -0.5], [0.5, 1, 2]])", GELU()(_x),
             [[-0.0455003, -0.1586553, -0.1542688], [0.3457312, 0.8413447, 1.9544997]],
             why="a normal number is below 1 with probability 0.8413447, and 1 * 0.8413447 remains")
check.tensor('GELU("tanh") of the same', GELU("tanh")(_x),
             [[-0.0454023, -0.1588080, -0.1542860], [0.3457140, 0.8411920, 1.9545977]],
             why="at 1: inner = 0.797885 * 1.044715 = 0.833562, tanh 0.682384, (1 + 0.682384) / 2")
check.tensor("GELU()([-1000, 0, 1000])", GELU()(Tensor([-1000.0, 0.0, 1000.0])), [0, 0, 1000],
             why="the gate is shut far left and open far right")

# %% [markdown]
"""
### Softmax: scores to probabilities

A classifier's last layer gives one score (a **logit**) per class. Softmax turns the scores into
probabilities: exponentiate, so that all are positive, then divide by the sum, so that together
they make 1.

```
scores         0      ln 2     ln 5
exp            1        2        5       sum 8
softmax      1/8      2/8      5/8       sum 1
```

`exp` again, and scores of 1000 do occur. The way out is the **max trick**. Add the same number c to
all scores: numerator and denominator are both multiplied by `exp(c)`, and the quotient is what it
was. So you may choose c, and the choice is minus the largest score:

```
scores             1000     1001     1002
minus the max        -2       -1        0      never positive: no overflow
exp               0.135    0.368        1      the sum is at least 1: no division by 0
softmax           0.090    0.245    0.665      exactly what [0, 1, 2] gives
```

For a batch of shape `(N, C)` each row has its own maximum and its own sum: `dim` is the axis along
which the result adds to 1, and `keepdims=True` is what lets the division broadcast. Use the row's
own maximum, not that of the whole batch: a row far below the batch's maximum would become 0/0.

A score of `-inf` must give the probability 0: that is how attention will mask words.

Like `sigmoid`, this is a function of arrays: an array in, an array out.
"""

# %% exercise="softmax"
#| export
def softmax(x, dim=-1):
    """exp(x) / sum of exp(x) along axis `dim` of a NumPy array, for any finite x without overflow.

    The result has the shape of x and adds to 1 along `dim`; an entry of -inf gives 0.
    Cost: one exp per entry, and several passes over the array.

    >>> softmax(np.array([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    ### BEGIN SOLUTION
    e = np.exp(x - x.max(axis=dim, keepdims=True))
    return e / e.sum(axis=dim, keepdims=True)
    ### END SOLUTION

# %% check="softmax" points=8
check.close("softmax of [0, ln 2, ln 5]", softmax(np.log(np.array([1.0, 2.0, 5.0]))),
            [0.125, 0.25, 0.625], rtol=1e-9, atol=0, why="the exps are 1, 2, 5 and their sum is 8")
_x = np.log(np.array([[1.0, 3.0], [4.0, 1.0]]))
check.close("softmax of ln [[1, 3], [4, 1]], dim=-1", softmax(_x, dim=-1),
            [[0.25, 0.75], [0.8, 0.2]], why="each row has its own sum: 1 + 3 and 4 + 1")
check.equal("type of softmax(array)", type(softmax(_x)).__name__, "ndarray",
            why="an array in, an array out: the class Softmax, below, does the wrapping")
check.close("the input afterwards", _x, np.log([[1, 3], [4, 1]]),
            why="x -= ... writes into the caller's array; x - ... makes a new one")
check.close("the same, dim=0", softmax(_x, dim=0), [[0.2, 0.75], [0.8, 0.25]],
            why="now each column adds to 1: 1 + 4 and 3 + 1")
check.close("softmax of ln of a (2, 2, 2), dim=1",
            softmax(np.log(np.array([[[1.0, 1.0], [3.0, 4.0]], [[1.0, 9.0], [1.0, 1.0]]])), dim=1),
            [[[0.25, 0.2], [0.75, 0.8]], [[0.5, 0.9], [0.5, 0.1]]],
            why="dim=1 is the middle axis here: entries (i, 0, k) and (i, 1, k) add to 1")
_far = np.array([[1000.0, 1001.0], [-1001.0, -1000.0], [0.0, 100.0]], dtype=np.float32)
check.close("softmax of [[1000, 1001], [-1001, -1000], [0, 100]]", softmax(_far),
            [[0.26894142, 0.73105858], [0.26894142, 0.73105858], [0, 1]],
            why="only differences count, so rows 0 and 1 equal softmax([0, 1]); a nan is inf / inf or "
                "0 / 0: subtract each row's own maximum first")
check.equal("the largest number that exp was given for these, or 0",
            largest_exponent(lambda: softmax(_far)), 0.0, why="exp of zero or less cannot overflow")
check.close("softmax([0, -inf, 0])", softmax(np.array([0.0, -np.inf, 0.0])), [0.5, 0, 0.5], atol=0,
            why="a masked score has probability exactly 0")

# %% given="Softmax"
#| export
class Softmax(Activation):
    """Probabilities along axis `dim`: positive and adding to 1.

    >>> Softmax()(Tensor([[1000.0, 1000.0]])).tolist()
    [[0.5, 0.5]]
    """

    def __init__(self, dim=-1):
        self.dim = dim

    def forward(self, x):
        """exp(x) over its sum along `dim`; the shape is that of x."""
        return Tensor(softmax(x.data, self.dim))

# %% [markdown]
"""
### LogSoftmax: the logarithm without the detour

Losses want the **logarithm** of a probability. Take it of the softmax, and it is too late: with
scores `[0, 1000]` the first probability is exp(-1000), which float32 rounds to 0, and log(0) is
-inf. The answer, -1000, is a perfectly good float32. (A small number added before the log does not
bring it back: log(1e-9) is -20.7.) Work the logarithm into the formula instead, with m the maximum
along `dim`:

```
log softmax(x) = log( exp(x - m) / sum(exp(x - m)) )
               = (x - m) - log( sum(exp(x - m)) )

x            0      1000
x - m    -1000         0
sum                          exp(-1000) + exp(0) = 1, log 0
result   -1000         0
```

No exp is ever undone by a log. The sum is at least 1 (the largest entry contributes exp(0)), so its
logarithm is harmless.
"""

# %% exercise="log_softmax"
#| export
def log_softmax(x, dim=-1):
    """Logarithm of softmax along axis `dim` of a NumPy array, finite for any finite x.

    The result has the shape of x and is never positive.
    Cost: one exp per entry, one log per sum.

    >>> log_softmax(np.array([0.0, 1000.0])).tolist()
    [-1000.0, 0.0]
    """
    ### BEGIN SOLUTION
    shifted = x - x.max(axis=dim, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=dim, keepdims=True))
    ### END SOLUTION

# %% check="log_softmax" points=6
_x = np.log(np.array([[1.0, 3.0], [4.0, 1.0]]))
_y = log_softmax(_x)
check.close("log_softmax of ln [[1, 3], [4, 1]]", _y,
            np.log([[0.25, 0.75], [0.8, 0.2]]), why="the logarithms of 1/4, 3/4 and of 4/5, 1/5")
check.equal("type of log_softmax(array)", type(_y).__name__, "ndarray",
            why="an array in, an array out: the class LogSoftmax, below, does the wrapping")
check.close("the input afterwards", _x, np.log([[1, 3], [4, 1]]),
            why="x -= ... writes into the caller's array; x - ... makes a new one")
check.close("the same, dim=0", log_softmax(_x, dim=0), np.log([[0.2, 0.75], [0.8, 0.25]]),
            why="along axis 0 the columns are the distributions")
_far = np.array([[0.0, 1000.0], [-200.0, -201.0]], dtype=np.float32)
check.close("log_softmax of [[0, 1000], [-200, -201]]", log_softmax(_far),
            [[-1000, 0], [-0.31326169, -1.31326169]], atol=1e-4,
            why="-1000 is an ordinary number, though exp(-1000) is not one; -inf means that it was "
                "rounded to 0 before the log, and +inf that a sum was")
check.equal("NumPy's warnings for these", complaints(lambda: log_softmax(_far)), (),
            why="neither an overflow nor a log(0) may happen on the way")

# %% given="LogSoftmax"
#| export
class LogSoftmax(Activation):
    """Logarithms of the probabilities along axis `dim`.

    >>> LogSoftmax()(Tensor([[0.0, 1000.0]])).tolist()
    [[-1000.0, 0.0]]
    """

    def __init__(self, dim=-1):
        self.dim = dim

    def forward(self, x):
        """Log-probabilities along `dim`; the shape is that of x."""
        return Tensor(log_softmax(x.data, self.dim))

# %% [markdown]
"""
## Use: two bends solve XOR

Back to the task that no straight formula can do. Let `s = x1 + x2`, which is 0, 1 or 2. XOR wants
the answers 0, 1, 0: up, then down again. One ReLU can turn up at a place of your choice, a second
one can turn down later:

```
s                  0   1   2
relu(s)            0   1   2
relu(s - 1)        0   0   1
answer wanted      0   1   0     = relu(s) + ? * relu(s - 1)
```

Write it as a network: a first layer `x @ W + b` that computes `s` and `s - 1` for every row, then
`ReLU`, then a second matrix product that adds the two with the right weights. You choose W, b and
the weights by hand; finding them by learning is what modules 05 to 07 are for. (Comparing the two
inputs would answer as well, but nothing could learn that; the check wants to see your `ReLU` at work.)
"""

# %% exercise="xor"
def xor(x):
    """XOR by a network of two ReLU units with hand-made weights.

    x: Tensor (N, 2) of zeros and ones. Returns a Tensor (N,): 1 where exactly one input is 1.

    >>> xor(Tensor([[1.0, 0.0]])).tolist()
    [1.0]
    """
    ### BEGIN SOLUTION
    weight = Tensor([[1.0, 1.0], [1.0, 1.0]])
    bias = Tensor([0.0, -1.0])
    hidden = ReLU()(x @ weight + bias)  # (N, 2) @ (2, 2) -> (N, 2): relu(s), relu(s - 1)
    return hidden @ Tensor([1.0, -2.0])  # (N, 2) @ (2,) -> (N,)
    ### END SOLUTION

# %% check="xor" points=4
_x = Tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
check.tensor("xor of [0, 0], [0, 1], [1, 0], [1, 1]", xor(_x), [0, 1, 1, 0],
             why="for s = 2 the first unit gives 2 and the second 1: 2 + ? * 1 must be 0")
check.tensor("xor of one row [1, 1]", xor(Tensor([[1, 1]])), [0],
             why="each row is answered by itself, whatever the batch")
check.true("xor bends with your ReLU", runs(ReLU, lambda: xor(_x)) > 0,
           why="the point is a network: two matrix products with a bend between them")

# %% [markdown]
"""
Your network answers for every point of the plane, not only for the four corners. `#` is where it
says more than one half: a band between two folds, which no single straight line can cut out. Then
look at the curves you built.
"""

# %% demo="pictures"
grid = np.stack(np.meshgrid(np.linspace(-0.5, 1.5, 41), np.linspace(1.5, -0.5, 17)), axis=-1)
surface = xor(Tensor(grid.reshape(-1, 2))).reshape(17, 41)
for row in surface.tolist():
    print("".join("#" if value > 0.5 else "." for value in row))

x = Tensor(np.linspace(-3, 3, 49))
for curve in (ReLU(), Sigmoid(), Tanh(), SiLU(), GELU()):
    y = curve(x)
    low, high = float(y.data.min()), float(y.data.max())
    levels = ((y.data - low) / (high - low) * 7).round().astype(int)
    bars = "".join("▁▂▃▄▅▆▇█"[k] for k in levels)
    print(f"{type(curve).__name__:8} {low:6.2f} {bars} {high:.2f}")

# %% [markdown]
"""
## Measure: what does an activation cost?

A ReLU is one comparison; a GELU by `erf` is about 25 operations, an exp among them. Before you run
the next cell, write down three guesses. How many nanoseconds per number does ReLU take? How many
times longer does Sigmoid take? And how much faster than ReLU is plain copying, which computes
nothing?

The numbers are printed per element, for a tensor that fits into the processor's cache and for one
that does not.
"""

# %% demo="cost_per_element"
def seconds(call, repeats):
    """Best time of `repeats` calls, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


small = Tensor(np.random.default_rng(0).normal(size=(16, 1000)))
large = Tensor(np.random.default_rng(0).normal(size=(4000, 1000)))
calls = [("copy", lambda x: x.data.copy()), ("ReLU", ReLU()), ("Sigmoid", Sigmoid()),
         ("Tanh", Tanh()), ("SiLU", SiLU()), ("GELU erf", GELU()), ("GELU tanh", GELU("tanh")),
         ("Softmax", Softmax()), ("x * x * x", lambda x: x * x * x), ("x ** 3", lambda x: x**3)]
print("ns per element     16,000 numbers   4,000,000 numbers")
for name, call in calls:
    fits = seconds(lambda: call(small), 30) / small.size
    spills = seconds(lambda: call(large), 3) / large.size
    print(f"{name:16} {fits * 1e9:16.2f} {spills * 1e9:19.2f}")

# %% [markdown]
"""
Three things to see. On the large tensor ReLU costs about what copying costs: the comparison is
free, and what you pay for is moving each float32 in and each result out. Such an operation is
**memory-bound**. Tanh is one NumPy call; the sigmoid is about seven, with exps and a division, and
each step writes a whole temporary array that the next one reads back. GELU by `erf` does so two
dozen times, in float64. And `x ** 3` calls a general power function where two multiplications would
do.

The measure for this is **arithmetic intensity**: floating-point operations per byte moved. The next
cell compares ReLU with the matrix product of module 01, on the same million numbers.
"""

# %% demo="memory_bound"
a = Tensor(np.random.default_rng(0).normal(size=(1000, 1000)))
for name, call, flops, megabytes in [("ReLU", lambda: ReLU()(a), 1000**2, 8.0),
                                     ("matmul", lambda: a @ a, 2 * 1000**3, 12.0)]:
    took = seconds(call, 5)
    print(f"{name:7} {took * 1e3:7.2f} ms   computes {flops / took / 1e9:7.2f} GFLOP/s   "
          f"moves {megabytes / 1e3 / took:6.2f} GB/s")

# %% [markdown]
"""
The processor is equally fast in both lines. In the first it waits for memory, in the second it
computes. A faster ReLU is therefore not a cleverer comparison but one that is not a separate pass
at all: module 18 fuses it into the operation before it.

## Break: softmax over the wrong axis

No error, no nan, probabilities between 0 and 1 that even add to 1, just not along the axis you
meant. Three images, three scores each. With `dim=0` the *images* compete for each class instead of
the classes for each image. The symptom: one image's answer changes when you change another image.
"""

# %% demo="wrong_axis"
scores = np.array([[2.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
other = scores.copy()
other[2] = [9.0, 9.0, 9.0]  # another third image; the first one stays as it was
for name, layer in [("wrong, dim=0 ", Softmax(dim=0)), ("right, dim=-1", Softmax(dim=-1))]:
    before, after = layer(Tensor(scores)), layer(Tensor(other))
    print(f"{name}   sums of rows {before.sum(axis=1).data.round(2)}   first image "
          f"{before[0].data.round(2)}, beside another image {after[0].data.round(2)}")

# %% [markdown]
"""
## Reflect

Predict with pencil and paper (a pocket calculator is fine) and write your answer into the cell: a
number, or, where you choose between lettered options, the letter in quotes, like `"a"`. The check says
whether it holds.

**1.** Graphics processors like to compute in float16, 2 bytes per number, whose largest number is
65,504. Up to which x is `exp(x)` finite there? One decimal is enough.
"""

# %% exercise="predict.half_exp_limit"
### BEGIN SOLUTION
half_exp_limit = np.log(65504)
### END SOLUTION

# %% check="predict.half_exp_limit" points=2
check.prediction("the largest x with a finite float16 exp(x)", half_exp_limit,
                 "MTEuMDg5ODY2NDg4NDYxMDE2", rel=0.01,
                 why="exp(x) <= 65504 means x <= the natural logarithm of it: a score of 12 is too "
                     "much already, so half precision needs the max trick every day")

# %% [markdown]
"""
**2.** Next to 1 a float32 cannot tell `1 + e` from 1 when e is 2⁻²⁴ (about 6e-8) or less. From
which x on is `sigmoid(x)` exactly 1.0? (From there on its slope is exactly 0, and nothing is
learned.)
"""

# %% exercise="predict.sigmoid_saturates"
### BEGIN SOLUTION
sigmoid_saturates = 24 * np.log(2)
### END SOLUTION

# %% check="predict.sigmoid_saturates" points=2
check.prediction("the x from which sigmoid(x) is exactly 1.0 in float32", sigmoid_saturates,
                 "MTYuNjM1NTMyMzMzNDM4Njg2", rel=0.05,
                 why="in 1 / (1 + exp(-x)) the term exp(-x) must fall to 2 to the power -24")

# %% [markdown]
"""
**3.** A layer's output has 25 million entries, far more than the cache holds. How many megabytes
(10⁶ bytes) must at least move between memory and processor to compute its ReLU into a new tensor?
"""

# %% exercise="predict.relu_megabytes"
### BEGIN SOLUTION
relu_megabytes = 25e6 * (4 + 4) / 1e6
### END SOLUTION

# %% check="predict.relu_megabytes" points=2
check.prediction("megabytes moved by ReLU over 25 million entries", relu_megabytes, "MjAwLjA=",
                 rel=0.02, unit="MB", why="every float32 is read once and every result is written once")

# %% [markdown]
"""
**4.** The product of two 1000 by 1000 matrices takes 2·1000³ FLOPs. Suppose that each of the three
matrices crosses the memory bus once. What is its arithmetic intensity, in FLOPs per byte? (That of
ReLU is 1/8.)
"""

# %% exercise="predict.matmul_intensity"
### BEGIN SOLUTION
matmul_intensity = 2 * 1000**3 / (3 * 1000**2 * 4)
### END SOLUTION

# %% check="predict.matmul_intensity" points=2
check.prediction("FLOPs per byte of a 1000 by 1000 product", matmul_intensity, "MTY2LjY2NjY2NjY2NjY2NjY2",
                 unit="FLOP/byte", why="operations divided by the bytes of A, B and C together")

# %% [markdown]
"""
**5.** The scores of a row are `[2, 1, 0]`. Which change makes the probabilities of its softmax
different?

- a) adding 100 to each score
- b) multiplying each score by 10
- c) both
- d) neither
"""

# %% exercise="predict.softmax_changes"
### BEGIN SOLUTION
softmax_changes = "b"
### END SOLUTION

# %% check="predict.softmax_changes" points=2
check.choice("what changes a softmax", softmax_changes, "Yg==", ["a", "b", "c", "d"],
             why="probabilities depend on the differences between scores, and on nothing else")

# %% [markdown] question="why_not_clip" points=2
"""
**Open question.** A colleague avoids the max trick: "I clip the scores to [-80, 80], then exp
cannot overflow." Give a row of scores for which this is wrong, with both results, and say why
subtracting the maximum is not wrong for any row.

*Graded by a person, after you hand the notebook in; no check reads it.*

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch's functions have the names, the defaults and, to float32 precision, the values of yours.
What differs is the machinery. Its CPU kernels run through an activation once, several numbers per
instruction, and keep the intermediate values in registers; yours makes one pass per NumPy step.
`torch.compile` and JAX's compiler fuse an activation into its neighbours, so that the tensor does
not travel to memory in between. Attention kernels go a step further and compute the softmax while
its row is still arriving, correcting the sum whenever a new maximum turns up (the *online* softmax,
Milakov & Gimelshein 2018).

What we do not build: the dozens of other activations (LeakyReLU, ELU, Mish …), which are each one
line by now, and in-place variants, which save memory but overwrite what the gradient needs.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `overflow encountered in exp` | exp of a large positive number | subtract the maximum, or use -abs(x), before exp |
| `invalid value encountered in divide` | inf / inf or 0 / 0 in a softmax or sigmoid | the same: exp must only see zero or less, and each row its own maximum |
| `invalid value encountered in subtract` | inf - inf: a row that is all -inf, or exp overflowed | a mask that leaves no entry at all |
| `divide by zero encountered in log` | a probability was rounded to 0 before the log | use log_softmax on the scores, not log of softmax |
| `invalid value encountered in multiply` | inf * 0, from multiplying by a mask | np.maximum instead of x * (x > 0) |
| `does not support ufuncs` | a NumPy function called on a Tensor, or an array function such as `sigmoid` | unwrap first: np.maximum(x.data, 0), sigmoid(x.data) |
| `not supported between instances of` | tensors are not compared | compare the array: x.data > 0 |
| `truth value of an array` | `if`, `max` or `and` on a whole array | a NumPy function that goes entry by entry: np.maximum, np.where |
| `expected a Tensor` | an activation called on an array or a number | wrap the input: Tensor(x) |
| `takes no arguments` | the class was called with the numbers | make the layer, then call it: ReLU()(x) |
| `memoryview` | `.data` asked of an array: it has a `.data` of its own, raw memory | an operation returned an array, or .data stands twice |
| `'NoneType' object`, `: 'NoneType'` | a function or `forward` ended without `return` | its last line |
| `object has no attribute` | a misspelt name, or a method that Tensor does not have | NumPy's function on x.data, wrapped in Tensor |
| `has no attribute 'erf'` | NumPy has no erf | the erf given above |
| `is out of bounds for array of dimension` | dim names an axis that x does not have, or a fixed axis was used | hand dim on; print x.shape; the last axis is dim=-1 |
| `could not be broadcast together` | a maximum or a sum without its axis | keepdims=True |
| `is not defined` | a misspelt name, a cell that has not run, a missing `self.`, or a letter without quotes | the line it names |
"""
