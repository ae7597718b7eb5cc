# %% [markdown]
"""
# 05 · extra · Numerical gradients

How close can a nudge come to the true slope? Closer as the nudge gets smaller, until it gets too small;
this notebook finds out where, and why.

```
you need           Python, a little NumPy; nothing of the framework
        |
        v
you build here     one-sided and central slopes, their two errors, the best nudge, a fair comparison
        |
        v
this prepares      05 autograd: numerical_gradient and check_grads, which guard every later module
```

Time: about 45 minutes. Optional: nothing here is exported or counted. Exercises and checks work as in
the modules: fill the hole, run the check below it.
"""

# %% given="imports"
import math

import numpy as np

import tito.checks as check

# %% [markdown]
"""
## Why: smaller is better, until it is worse

The slope of `f` at `x` says how many times faster `f` grows than `x`. To measure it, nudge `x` by a little
`eps` and see what `f` does. For `f = sin` at 1 the true slope is known: `cos(1)`. So the error of a
measurement is known as well. The textbook says: let `eps` go to 0. Run the cell, and watch the right column.
"""

# %% demo="smaller_and_smaller"
for k in range(1, 17):
    eps = 10.0**-k
    slope = (math.sin(1 + eps) - math.sin(1)) / eps
    print(f"eps = 1e-{k:02}   slope {slope:.12f}   error {abs(slope - math.cos(1)):.1e}")

# %% [markdown]
"""
At first every digit of `eps` buys a digit of the slope. Then each further step **loses** one, and in the
last line the slope is 0: the nudge had no effect at all. Two different errors are at work, one on each
side of the valley. If you can compute both, you can say where the bottom is before you measure anything,
and you will know how far a gradient check can be trusted.

## Build

### One side

Start with what the cell above did. For `f(x) = x²` at 3, nudged by 0.1:

```
f(3.1) = 9.61     f(3) = 9     (9.61 - 9) / 0.1 = 6.1       the true slope is 6
```
"""

# %% exercise="one_sided"
def one_sided(f, x, eps):
    """Slope of `f` at `x` from the values at x and x + eps. A negative eps nudges down.

    >>> round(one_sided(lambda x: x * x, 3.0, 0.1), 6)
    6.1
    """
    ### BEGIN SOLUTION
    return (f(x + eps) - f(x)) / eps
    ### END SOLUTION

# %% check="one_sided"
check.close("x² at 3, eps = 0.1", one_sided(lambda x: x * x, 3.0, 0.1), 6.1,
            why="(9.61 - 9) / 0.1: too large by eps")
check.close("x² at 3, eps = -0.1", one_sided(lambda x: x * x, 3.0, -0.1), 5.9,
            why="(8.41 - 9) / -0.1: nudged down it is too small by as much")
check.close("x³ at 2, eps = 0.1", one_sided(lambda x: x**3, 2.0, 0.1), 12.61,
            why="(9.261 - 8) / 0.1; the true slope is 12")

# %% [markdown]
"""
### Both sides

Where does the 0.1 in 6.1 come from? Multiply it out: `(3 + e)² = 9 + 6e + e²`, so

```
up:     ((3 + e)² - 9) /  e  =  6 + e
down:   ((3 - e)² - 9) / -e  =  6 - e
```

The two are wrong by the same amount in opposite directions. Take the middle and the mistake is gone. It is
cheaper than it looks: in the mean of the two, `f(x)` drops out, and what remains are two calls of `f`, at
`x + eps` and at `x - eps`, which lie `2 * eps` apart. These are **central differences**.

For a cubic the middle is not perfect either, because `e³` has a sign: at 2 with `eps = 0.1` it gives 12.01
where one side gives 12.61.
"""

# %% exercise="central"
def central(f, x, eps):
    """Slope of `f` at `x` from the values at x + eps and x - eps.

    >>> round(central(lambda x: x**3, 2.0, 0.1), 6)
    12.01
    """
    ### BEGIN SOLUTION
    return (f(x + eps) - f(x - eps)) / (2 * eps)
    ### END SOLUTION

# %% check="central"
check.close("x² at 3, eps = 0.1", central(lambda x: x * x, 3.0, 0.1), 6.0,
            why="(9.61 - 8.41) / 0.2: exact for a parabola, whatever eps is")
check.close("x³ at 2, eps = 0.1", central(lambda x: x**3, 2.0, 0.1), 12.01,
            why="(9.261 - 6.859) / 0.2: off by eps² = 0.01")
check.close("x³ at 2, eps = 1", central(lambda x: x**3, 2.0, 1.0), 13.0,
            why="(27 - 1) / 2: off by eps² = 1")
check.close("|x| at 0", central(abs, 0.0, 0.1), 0.0, why="(0.1 - 0.1) / 0.2: the middle of -1 and 1")

# %% [markdown]
"""
### How fast does the error shrink?

One side was off by `eps`, central differences by `eps²`. Is that so for every smooth function? Then there
must be a way to **measure** the power. If the error is `c * eps**p`, halving `eps` divides it by `2**p`:

```
p = 1     error 0.8 -> 0.4        a factor of 2
p = 2     error 0.8 -> 0.2        a factor of 4
p = 3     error 0.8 -> 0.1        a factor of 8          p is the base-2 logarithm of the factor
```

Write `order`, which measures `p` from the errors at `eps` and `eps / 2`. Errors have a sign; take the
absolute value. `math.log2` is there for you.
"""

# %% exercise="order"
def order(slope, f, x, exact, eps):
    """The power p with which the error of `slope(f, x, eps)` shrinks, from eps and eps / 2.

    exact: the true slope.
    """
    ### BEGIN SOLUTION
    error = abs(slope(f, x, eps) - exact)
    half = abs(slope(f, x, eps / 2) - exact)
    return math.log2(error / half)
    ### END SOLUTION

# %% check="order"
check.close("a made-up slope that is off by 5 eps³", order(lambda f, x, eps: 7 + 5 * eps**3, None, 0, 7, 0.1),
            3.0, why="halving eps makes the error 8 times smaller, and 8 = 2³")
check.close("one that is too small by eps", order(lambda f, x, eps: 7 - eps, None, 0, 7, 0.1), 1.0,
            why="an error is as large below the truth as above it")
check.close("one_sided on x² at 3", order(one_sided, lambda x: x * x, 3.0, 6.0, 0.1), 1.0,
            why="off by eps, to the first power", rtol=1e-6)
check.close("central on x³ at 2", order(central, lambda x: x**3, 2.0, 12.0, 0.1), 2.0,
            why="off by eps²", rtol=1e-6)

# %% [markdown]
"""
Now on functions that are no polynomials. A smooth function looks like a polynomial when you come close
(that is what its Taylor series says), so the powers should be nearly 1 and nearly 2.
"""

# %% demo="orders"
for name, f, derivative in [("sin", math.sin, math.cos), ("exp", math.exp, math.exp),
                            ("1 / x", lambda x: 1 / x, lambda x: -1 / x**2)]:
    powers = [order(slope, f, 1.0, derivative(1.0), 0.01) for slope in (one_sided, central)]
    print(f"{name:6} at 1: one-sided p = {powers[0]:.3f}, central p = {powers[1]:.3f}")

# %% [markdown]
"""
This first error, which comes from the shape of `f` and shrinks with `eps`, is called the **truncation
error**: the series was cut off. Taylor's formula even gives its size: for central differences it is
`eps² / 6` times the third derivative of `f`.

### Where numbers end

The second error grows when `eps` shrinks. It comes from the numbers themselves. A float has a fixed number
of digits, so between 1 and the next float there is a gap, and whatever falls into the gap is rounded to one
of its ends. Find its width by trial: start with `step = 1` and halve it as long as `1 + step / 2` is still
distinguished from 1.

```
1 + 1/2    differs from 1        step = 1/2
1 + 1/4    differs from 1        step = 1/4
 ...
1 + 2⁻ᵏ    equals 1: stop        step = 2⁻ᵏ⁺¹ is the width of the gap
```

Compute in the type you are asked about: `dtype(1)` is a one of that type, and arithmetic among numbers of
one type stays in it.
"""

# %% exercise="machine_gap"
def machine_gap(dtype):
    """Width of the gap between 1 and the next number of a NumPy float type, found by halving.

    >>> float(machine_gap(np.float16))
    0.0009765625
    """
    ### BEGIN SOLUTION
    one, two = dtype(1), dtype(2)
    step = dtype(1)
    while one + step / two != one:
        step = step / two
    return step
    ### END SOLUTION

# %% check="machine_gap"
check.close("float16", float(machine_gap(np.float16)), 2.0**-10, rtol=1e-9, atol=0,
            why="10 binary digits after the leading one: about 3 decimal digits")
check.close("float32", float(machine_gap(np.float32)), 2.0**-23, rtol=1e-9, atol=0,
            why="23 binary digits: about 7 decimal ones, the type of every Tensor")
check.close("float64", float(machine_gap(np.float64)), 2.0**-52, rtol=1e-9, atol=0,
            why="52 binary digits: about 16 decimal ones")

# %% [markdown]
"""
### Two errors, one sum

Take a function with values around 1. Each value is rounded to the nearest float, so it is off by up to half
a gap. Two values are subtracted: off by up to one gap. And then the difference is divided by `2 * eps`, a
tiny number, which **magnifies** what was off:

```
rounding      gap / (2 eps)           grows when eps shrinks
truncation    eps² / 6                shrinks with eps      (third derivative around 1)
```

With a gap of 0.006 and `eps = 0.1` that is 0.03 and 0.0017: rounding rules, and a larger `eps` would do
better. Write the two down as code.
"""

# %% exercise="error_model"
def error_model(eps, gap):
    """(rounding, truncation) error of central differences for a function of size about 1.

    >>> rounding, truncation = error_model(0.1, 0.006)
    >>> round(rounding, 6), round(truncation, 6)
    (0.03, 0.001667)
    """
    ### BEGIN SOLUTION
    return gap / (2 * eps), eps**2 / 6
    ### END SOLUTION

# %% check="error_model"
_rounding, _truncation = error_model(0.1, 0.006)
check.close("rounding for eps = 0.1, gap = 0.006", _rounding, 0.03, why="0.006 / (2 * 0.1)")
check.close("truncation for eps = 0.1", _truncation, 0.01 / 6, why="0.1² / 6")
_rounding, _truncation = error_model(0.01, 0.006)
check.close("rounding for eps = 0.01", _rounding, 0.3, why="a nudge ten times smaller magnifies ten times more")
check.close("truncation for eps = 0.01", _truncation, 0.0001 / 6, why="and truncates a hundred times less")

# %% [markdown]
"""
### The bottom of the valley

The sum of the two is smallest where its slope is 0: there, growing `eps` a little costs in truncation just
what it saves in rounding.

```
slope of gap / (2 eps):   - gap / (2 eps²)
slope of eps² / 6:          eps / 3

- gap / (2 eps²) + eps / 3 = 0      so      eps³ = 1.5 gap
```
"""

# %% exercise="best_eps"
def best_eps(gap):
    """The eps that makes the sum of both errors of `error_model` smallest."""
    ### BEGIN SOLUTION
    return (1.5 * gap) ** (1 / 3)
    ### END SOLUTION

# %% check="best_eps"
check.close("gap = 0.018", best_eps(0.018), 0.3, why="1.5 * 0.018 = 0.027, and 0.3³ = 0.027")
_best = best_eps(2.0**-52)
_sums = [sum(error_model(_best * factor, 2.0**-52)) for factor in (0.9, 1.0, 1.1)]
check.true("in float64, 10 % more or less is worse", _sums[1] < min(_sums[0], _sums[2]),
           why="at the bottom every step leads uphill", got=_sums)
check.close("gap = 2⁻⁵²", _best, 6.9e-6, rtol=0.01,
            why="the cube root of 3.3e-16; module 05 nudges by 1e-5, a round number close by")

# %% [markdown]
"""
## Measure: the valley, drawn

Theory said where the bottom is. Does the machine agree? `error_curve` measures the error of central
differences for a list of nudges, with all numbers in one type: `x` and `eps` are converted, and `f` gets
what they make. The true slope is computed in full precision.
"""

# %% exercise="error_curve"
def error_curve(f, derivative, x, dtype, steps):
    """Errors of `central` at x for every eps in `steps`, as floats, computed in `dtype`.

    derivative: the true slope as a function, called with a Python float.
    """
    ### BEGIN SOLUTION
    exact = derivative(float(x))
    slopes = [central(f, dtype(x), dtype(eps)) for eps in steps]
    return [abs(float(slope) - exact) for slope in slopes]
    ### END SOLUTION

# %% check="error_curve"
_kinds = set()
_cube = lambda x: (_kinds.add(type(x)), x * x * x)[1]
_errors = error_curve(_cube, lambda x: 3 * x * x, 2.0, np.float32, [0.5, 0.25, 1e-9])
check.equal("how many errors for three steps", len(_errors), 3, why="one per eps")
check.close("x³ at 2, eps = 0.5 and 0.25", _errors[:2], [0.25, 0.0625], why="eps², as before; no rounding here")
check.close("x³ at 2, eps = 1e-9", _errors[2], 12.0,
            why="in float32, 2 + 1e-9 is 2: the slope comes out as 0, and all 12 are missing")
check.true("f was given numbers of type float32 only", _kinds == {np.float32},
           why="one float64 among them, and everything is computed in float64",
           got=sorted(kind.__name__ for kind in _kinds))

# %% [markdown]
"""
Before you run the next cell, say where you expect the two valleys: `best_eps` of the two gaps. And how deep:
how many digits of the slope will float32 give at best?
"""

# %% demo="valley"
def picture(curves, steps, top=0, bottom=-12):
    """Curves of errors over steps as text: one row per power of ten, one column per step."""
    for power in range(top, bottom - 1, -1):
        row = [" "] * len(steps)
        for mark, errors in curves.items():
            for column, error in enumerate(errors):
                if min(max(round(math.log10(error + 1e-99)), bottom), top) == power:
                    row[column] = mark
        print(f"error 1e{power:+03} |" + " ".join(row))
    print(" " * 12 + "+" + "-" * (2 * len(steps)))
    print(" " * 13 + "".join(f"1e-{k:02}".ljust(8) for k in range(1, len(steps) // 4 + 2)) + "  <- eps")


steps = [10.0 ** -(1 + k / 4) for k in range(33)]
curves = {}
for mark, dtype in (("x", np.float32), ("o", np.float64)):
    curves[mark] = error_curve(np.sin, math.cos, 1.0, dtype, steps)
    found = steps[int(np.argmin(curves[mark]))]
    print(f"{mark} {dtype.__name__}: smallest error {min(curves[mark]):.0e} at eps = {found:.0e}, "
          f"theory says {best_eps(float(machine_gap(dtype))):.0e}")
picture(curves, steps)

# %% [markdown]
"""
On the right-hand slope of the valley the points jump about: whether a value is rounded up or down is luck,
and a lucky point may lie far below its neighbours. On the left, truncation, there is no luck, only a
straight line that falls two rows per power of ten.

So float32 is blind exactly where we need to see. That is why `check_grads` in module 05 computes in float64,
although the framework itself never does. One more picture: in float64, what does the second side buy?
"""

# %% demo="second_side"
curves = {
    "1": [abs(one_sided(math.sin, 1.0, eps) - math.cos(1.0)) for eps in steps],
    "2": error_curve(np.sin, math.cos, 1.0, np.float64, steps),
}
picture(curves, steps)
print("1: one-sided   2: central. Both pay for the same rounding; only the truncation differs.")

# %% [markdown]
"""
### When are two slopes the same?

A measured slope is never exact, so a check must allow a distance. Which? 0.001 is nothing for a slope of
1,000 and everything for a slope of 0.0001: the allowance must grow with the slope. But a slope of exactly 0
would allow nothing at all. So we allow a fixed little **and** a share of the measured value:

```
|analytic - measured|  <=  atol + rtol * |measured|          for every entry
```

And `nan`, the number that is not one? Every comparison with `nan` is False. Ask "is any entry too far
off?" and `nan` says no. Ask "is every entry close enough?" and `nan` says no, too. Only one of the two
questions is safe.
"""

# %% exercise="agree"
def agree(analytic, measured, rtol=1e-4, atol=1e-6):
    """Whether every entry of `analytic` is within atol + rtol * |measured| of `measured`; a bool.

    analytic, measured: arrays of one shape. nan never agrees.

    >>> agree(np.array([1000.01]), np.array([1000.0])), agree(np.array([0.01]), np.array([0.0]))
    (True, False)
    """
    ### BEGIN SOLUTION
    distance = np.abs(analytic - measured)
    return bool((distance <= atol + rtol * np.abs(measured)).all())
    ### END SOLUTION

# %% check="agree"
check.equal("1000.01 against 1000", agree(np.array([1000.01]), np.array([1000.0])), True,
            why="0.1 are allowed: a ten-thousandth of 1000")
check.equal("0.01 against 0", agree(np.array([0.01]), np.array([0.0])), False,
            why="a share of 0 is 0; only atol is left, and 0.01 is far more")
check.equal("1e-9 against 0", agree(np.array([1e-9]), np.array([0.0])), True,
            why="that much is rounding: atol is there for it")
check.equal("-1000 against -1001", agree(np.array([-1000.0]), np.array([-1001.0])), False,
            why="too far off by 1, with about 0.1 allowed; a negative slope allows as much as a positive one")
check.equal("-1000 against -1000.01", agree(np.array([-1000.0]), np.array([-1000.01])), True,
            why="the allowance takes the absolute value of the slope")
check.equal("[1, 2, 4] against [1, 2, 3]", agree(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.0, 3.0])), False,
            why="one wrong entry is enough")
check.equal("[3, 1] against [2, 2]", agree(np.array([3.0, 1.0]), np.array([2.0, 2.0])), False,
            why="errors of opposite sign must not cancel")
check.equal("[1, nan] against [1, 2]", agree(np.array([1.0, np.nan]), np.array([1.0, 2.0])), False,
            why="nan is not close to anything")

# %% [markdown]
"""
## Use: catch a wrong derivative

Three colleagues hand in the derivative of `f(x) = x * sin(x)`. Two made a mistake, which is easy to make and
hard to see. Measured slopes at five points settle it.
"""

# %% demo="three_colleagues"
f = lambda x: x * np.sin(x)
points = np.linspace(0.5, 2.5, 5)
measured = np.array([central(f, x, 1e-5) for x in points])
for name, derivative in [("Ada  ", lambda x: np.cos(x)),
                         ("Blaise", lambda x: np.sin(x) + x * np.cos(x)),
                         ("Carl ", lambda x: np.sin(x) - x * np.cos(x))]:
    verdict = "agrees" if agree(derivative(points), measured) else "WRONG"
    print(f"{name:7} {verdict:7} largest distance {np.abs(derivative(points) - measured).max():.1e}")

# %% [markdown]
"""
## Break: the nudge you did not get

A straight line, `f(x) = x`, has slope 1 everywhere, and no truncation error at all. Measured at 1000 in
float32 with `eps = 1e-4` it is off by a fifth. The reason: at 1000 the float32 numbers are about 6e-5 apart,
so `x + eps` cannot lie where you want it. You divide by the distance you **asked for**; the right divisor is
the distance you **got**.
"""

# %% demo="wrong_distance"
x, eps = np.float32(1000), np.float32(1e-4)
up, down = x + eps, x - eps
print("asked for a distance of", 2 * eps, "and got", up - down)
print("slope, divided by what was asked for:", (up - down) / (2 * eps))
print("slope, divided by what was got:      ", (up - down) / (up - down))

# %% [markdown]
"""
In float64 at moderate `x` this does not matter: the gaps are a million times smaller than the nudge. Still, if
you must measure in float32, choose a power of two for `eps` and divide by `up - down`.

## Reflect

**1.** Central differences on x³ are off by 0.01 at `eps = 0.1`. By how much at `eps = 0.001`, if rounding did
not exist?
"""

# %% exercise="predict.thousandth"
### BEGIN SOLUTION
thousandth = 0.001**2
### END SOLUTION

# %% check="predict.thousandth"
check.prediction("error of central differences on x³ at eps = 0.001", thousandth, "MWUtMDY=", rel=0.01,
                 why="the order is 2: a nudge 100 times smaller, an error 100² times smaller")

# %% [markdown]
"""
**2.** `f(x) = |x|` at `x = 0.000001` with `eps = 0.00001`: the point lies right of the corner, the nudge reaches
across it. The true slope there is 1. What do central differences say?
"""

# %% exercise="predict.kink"
### BEGIN SOLUTION
kink = (0.000011 - 0.000009) / 0.00002
### END SOLUTION

# %% check="predict.kink"
check.prediction("central difference of |x| next to its corner", kink, "MC4x", rel=0.01,
                 why="up is at 0.000011, down at -0.000009 whose absolute value is 0.000009")

# %% [markdown]
"""
So a right gradient can fail a numerical check next to a corner. Keep test points away from the corners of
ReLU, abs and max by more than `eps`.

**3.** At the bottom of float32's valley, about how many decimal digits of a slope around 1 can be trusted?
Use `error_model` at `best_eps`.

- a) seven, as many as float32 has
- b) between four and five
- c) one or two
"""

# %% exercise="predict.digits"
### BEGIN SOLUTION
digits = "b"
### END SOLUTION

# %% check="predict.digits"
check.choice("digits of a float32 slope at best", digits, "Yg==", ["a", "b", "c"],
             why="rounding plus truncation at the bottom come to about 1.6e-5")

# %% [markdown]
"""
## Where this leads

In module 05 you write `numerical_gradient`, which does to every entry of an array what `central` did to one
number, and `check_grads`, which compares its result with your autograd by the rule of `agree`. Both have the
defaults you derived here: central, `eps = 1e-5`, float64. PyTorch's `torch.autograd.gradcheck` asks for
float64 too, and nudges by 1e-6.

There is a trick that has no rounding problem: evaluate `f` at the complex number `x + i * eps` and take the
imaginary part. Nothing is subtracted, so `eps` may be as small as 1e-200. It needs an `f` that works on complex
numbers. (Squire & Trapp 1998, *Using Complex Variables to Estimate Derivatives of Real Functions*.)

| symptom | cause | where to look |
|---|---|---|
| the slope is 0 for a small `eps` | `x + eps` was rounded back to `x` | a larger `eps`, or float64 |
| the slope is off by a few percent in float32 | the nudge you got is not the one you asked for | divide by `up - down` |
| a right gradient fails next to a corner | the nudge reaches across it | move the test point |
| errors do not shrink when `eps` does | rounding rules already | you are right of the bottom: a larger `eps` |
"""
