# %% [markdown]
"""
# 05 · extra · Autograd with single numbers

The whole idea of autograd, with one number at a time instead of tensors: numbers that remember how they
were computed, and a walk back that turns this memory into slopes. At the end nine such numbers learn XOR.

```
you need           Python; nothing of the framework, not even NumPy
        |
        v
you build here     Value: +, *, tanh, exp; the order of the walk; backward; a network of two layers
        |
        v
this prepares      05 autograd: the same three ideas (rules, tape, walk) for tensors
```

Time: about an hour. Optional: nothing here is exported or counted. Exercises and checks work as in the
modules: fill the hole, run the check below it.
"""

# %% given="imports"
import math
import random
import time

import tito.checks as check
from tito.notebook import method_of

# %% [markdown]
"""
## Why: numbers forget

Run the cell. `y` is 10, and that is all Python knows about it. That it grew out of `x`, in which way, and
that it would move 7 times as fast as `x` if you touched `x`: forgotten, the moment it was computed. You can
find the 7 by computing everything again with another `x`. A network has a million of them.
"""

# %% demo="numbers_forget"
x = 2.0
y = x * x + x * 3
print("y =", y, "is a", type(y).__name__, "and nothing else")
x = 2.001
print("computed again with x = 2.001, the slope is about", round((x * x + x * 3 - y) / 0.001, 3))

# %% [markdown]
"""
## Foundations: write it down while you know it

When `a * b` is computed with `a = 2` and `b = 5`, one thing is easy to know that will be hard to find out
later: how fast the result follows each operand **right now**. It follows `a` 5 times as fast (that is `b`),
and `b` 2 times as fast (that is `a`). So we write it down, next to the result: for each operand, the operand
itself and this number. We call such a pair a **way** back.

```
y = x * x + x * 3  at x = 2          ways, written down at once

a = x * x = 4                        to x: 2, to x: 2
b = x * 3 = 6                        to x: 3, to 3: 2
y = a + b = 10                       to a: 1, to b: 1
```

How fast does `y` follow `x`? There are three ways from `y` down to `x`. Along a way the numbers are
multiplied, and what comes along different ways is added:

```
y - a - x    1 * 2 = 2
y - a - x    1 * 2 = 2     (x is the other operand of a, too)
y - b - x    1 * 3 = 3     together 7, as 2x + 3 says
```

That is the chain rule, all of it. The rest is doing it in a good order.

## Build

### A number that remembers

A `Value` holds a float in `.data` and its ways in `.ways`: a tuple of pairs `(operand, slope)`. A number you
made yourself has none. `.grad` is where its own slope will be put in the end.
"""

# %% given="Value"
class Value:
    """A number that remembers its operands, and how fast it follows each of them."""

    __slots__ = ("data", "grad", "ways")

    def __init__(self, data, ways=()):
        self.data, self.ways, self.grad = float(data), tuple(ways), 0.0

    def __repr__(self):
        return f"Value({self.data:.6g}, grad={self.grad:.6g})"


def value(x):
    """`x` as a Value: plain numbers are wrapped, so that x + 1 works."""
    return x if isinstance(x, Value) else Value(x)

# %% [markdown]
"""
Start with the sum. It follows both operands one to one. `value(other)` makes sure that the other operand is a
`Value`, too.
"""

# %% exercise="Value.__add__"
@method_of(Value)
def __add__(self, other):
    """`self + other`, a Value with a way to each operand.

    >>> Value(2) + Value(3)
    Value(5, grad=0)
    """
    ### BEGIN SOLUTION
    other = value(other)
    return Value(self.data + other.data, [(self, 1.0), (other, 1.0)])
    ### END SOLUTION

# %% check="Value.__add__"
_a, _b = Value(2.0), Value(5.0)
_y = _a + _b
check.true("a + b is a Value", isinstance(_y, Value), why="or nothing more could be remembered",
           got=type(_y).__name__)
check.equal("2 + 5", _y.data, 7.0, why="it still is a sum")
check.true("the ways lead to a and b themselves",
           len(_y.ways) == 2 and _y.ways[0][0] is _a and _y.ways[1][0] is _b,
           why="not to copies, and not to their numbers: the gradient must find its way to a")
check.equal("slopes of the sum", tuple(slope for _, slope in _y.ways), (1.0, 1.0),
            why="if a grows by a little, the sum grows by that little")
check.equal("a + 10", (_a + 10).data, 12.0, why="a plain number may be the other operand")

# %% [markdown]
"""
The product follows `a` as fast as `b` says, and the other way round.
"""

# %% exercise="Value.__mul__"
@method_of(Value)
def __mul__(self, other):
    """`self * other`, a Value with a way to each operand.

    >>> [slope for operand, slope in (Value(2) * Value(5)).ways]
    [5.0, 2.0]
    """
    ### BEGIN SOLUTION
    other = value(other)
    return Value(self.data * other.data, [(self, other.data), (other, self.data)])
    ### END SOLUTION

# %% check="Value.__mul__"
_a, _b = Value(2.0), Value(5.0)
_y = _a * _b
check.equal("2 * 5", _y.data, 10.0, why="it still is a product")
check.equal("operands", tuple(operand is other for (operand, _), other in zip(_y.ways, (_a, _b))),
            (True, True), why="the ways lead to a, then to b")
check.equal("slopes of 2 * 5", tuple(slope for _, slope in _y.ways), (5.0, 2.0),
            why="2.1 * 5 is larger by 5 * 0.1; 2 * 5.1 is larger by 2 * 0.1")
check.true("slopes are plain numbers", all(isinstance(slope, float) for _, slope in _y.ways),
           why="5 as it was when the product was computed, not a Value: slopes need no memory of their own",
           got=[type(slope).__name__ for _, slope in _y.ways])
check.equal("b * -3", (_b * -3).data, -15.0, why="a plain number may be the other operand")

# %% [markdown]
"""
Two functions of one operand: one way each. The slope of `tanh` is `1 - t²`, where `t` is its result; the slope of
`exp` is its result. Compute the result once, use it twice.
"""

# %% exercise="Value.tanh"
@method_of(Value)
def tanh(self):
    """The hyperbolic tangent, between -1 and 1: a soft switch. One way, slope 1 - tanh².

    >>> Value(0).tanh().ways[0][1]
    1.0
    """
    ### BEGIN SOLUTION
    t = math.tanh(self.data)
    return Value(t, [(self, 1 - t * t)])
    ### END SOLUTION

# %% check="Value.tanh"
_x = Value(0.5)
_y = _x.tanh()
check.close("tanh(0.5)", _y.data, 0.462117, why="math.tanh computes it", rtol=1e-4)
check.true("one way, to x", len(_y.ways) == 1 and _y.ways[0][0] is _x, why="one operand, one way", got=len(_y.ways))
check.close("its slope at 0.5", _y.ways[0][1], 0.786448, why="1 - 0.462117²", rtol=1e-4)
check.close("its slope at -20", Value(-20).tanh().ways[0][1], 0.0,
            why="a switch that is fully off does not react: 1 - (-1)²")

# %% exercise="Value.exp"
@method_of(Value)
def exp(self):
    """e to the power of this number. One way, slope: the result itself.

    >>> Value(0).exp()
    Value(1, grad=0)
    """
    ### BEGIN SOLUTION
    result = math.exp(self.data)
    return Value(result, [(self, result)])
    ### END SOLUTION

# %% check="Value.exp"
_x = Value(2.0)
_y = _x.exp()
check.close("exp(2)", _y.data, 7.389056, why="math.exp computes it", rtol=1e-6)
check.close("its slope at 2", _y.ways[0][1], 7.389056, why="eˣ is the function that equals its own slope",
            rtol=1e-6)
check.true("one way, to x", len(_y.ways) == 1 and _y.ways[0][0] is _x, why="one operand, one way", got=len(_y.ways))

# %% [markdown]
"""
Everything else can be said in terms of these: `-a` is `a * -1`, and `a - b` is `a + (-b)`. What is composed
needs no slopes of its own: its ways are the ways of its parts. (Powers with a fixed exponent are written out,
because `x ** -1` is no sum or product.)
"""

# %% given="more_operators"
@method_of(Value)
def __neg__(self):
    return self * -1


@method_of(Value)
def __sub__(self, other):
    return self + (-value(other))


@method_of(Value)
def __rsub__(self, other):
    return value(other) + (-self)


@method_of(Value)
def __pow__(self, exponent):
    """`self ** exponent` for a plain number as exponent."""
    return Value(self.data**exponent, [(self, exponent * self.data ** (exponent - 1))])


Value.__radd__ = Value.__add__
Value.__rmul__ = Value.__mul__

# %% [markdown]
"""
### All ways, one by one

Now the slope of `y` with respect to `x`, just as you did it by hand: follow every way from `y` downwards. If you
have arrived at `x`, this way counts 1. Otherwise each operand contributes its slope times what leads on from
there, and the contributions are added.

It is a recursion in two lines: what is `slope_by_ways(y, x)` if `y` **is** `x`? And if not, what is the sum over
`y.ways`? A number without ways that is not `x` gives an empty sum: 0.
"""

# %% exercise="slope_by_ways"
def slope_by_ways(y, x):
    """How fast Value `y` follows Value `x`: the products along all ways from y to x, added up.

    >>> x = Value(2)
    >>> slope_by_ways(x * x + x * 3, x)
    7.0
    """
    ### BEGIN SOLUTION
    if y is x:
        return 1.0
    return sum((slope * slope_by_ways(operand, x) for operand, slope in y.ways), 0.0)
    ### END SOLUTION

# %% check="slope_by_ways"
_x, _other = Value(2.0), Value(2.0)
check.close("x * x + x * 3 at 2", slope_by_ways(_x * _x + _x * 3, _x), 7.0, why="2 + 2 + 3: three ways")
check.close("x itself", slope_by_ways(_x, _x), 1.0, why="x follows x one to one")
check.close("a number that x is not part of", slope_by_ways(_other * 3, _x), 0.0,
            why="no way leads to x, even though the other number is 2 as well")
check.close("x * x * x at 2", slope_by_ways(_x * _x * _x, _x), 12.0, why="3x²: along each of the three ways 2 * 2")
check.close("tanh(3x) at 0", slope_by_ways((Value(3) * (_z := Value(0.0))).tanh(), _z), 3.0,
            why="along the way the slopes are multiplied: 1 * 3")

# %% [markdown]
"""
It is right, and it is no good. Double a number twenty times with `y = y + y`: from each sum **two** ways lead to
the one below. Predict how the time grows with the number of doublings, then run the cell.
"""

# %% demo="too_many_ways"
for doublings in (4, 8, 12, 16):
    x = Value(1.0)
    y = x
    for _ in range(doublings):
        y = y + y
    start = time.perf_counter()
    slope = slope_by_ways(y, x)
    print(f"{doublings:2} sums: slope {slope:7.0f}, found in {(time.perf_counter() - start) * 1e3:8.3f} ms")

# %% [markdown]
"""
Four sums more, sixteen times the time. Yet there are only a few numbers in the whole graph: the walk comes
through the same ones again and again. The way out is to let everything that arrives at a number **meet** there,
add it up, and pass it on once:

```
      y    1                   y starts with 1
     ( )                       and hands 1 to y1 along each of its two ways
      y1   1 + 1 = 2           only when BOTH have arrived, y1 hands on 2, twice
     ( )
      x    2 + 2 = 4           n sums: 2ⁿ ways, but only 2n things handed on
```

### The order

For that, a number may pass on only when all that leads to it has arrived. So the walk needs an order. Write down
every number once, **after** all of its operands; the walk then goes through the list from the end.

The list comes out of a recursion. To place a number: if it is in the list already, do nothing; otherwise place
its operands first, and append the number itself when they are done. A set of `id(number)` remembers what was
placed. (Two numbers may be equal without being the same, which is why we remember `id`, not the number.)
"""

# %% exercise="in_order"
def in_order(y):
    """All Values that `y` was computed from, and y itself, each once and after its operands.

    >>> x = Value(2)
    >>> [v.data for v in in_order(x * x + 1)]
    [2.0, 4.0, 1.0, 5.0]
    """
    order, placed = [], set()

    def place(number):
        ### BEGIN SOLUTION
        if id(number) in placed:
            return
        placed.add(id(number))
        for operand, _ in number.ways:
            place(operand)
        order.append(number)
        ### END SOLUTION

    place(y)
    return order

# %% check="in_order"
def _valid(order):
    seen = set()
    for number in order:
        if any(id(operand) not in seen for operand, _ in number.ways):
            return False
        seen.add(id(number))
    return True


_x = Value(2.0)
_a = _x * 2.0
_b = _a * _x
_y = _b + _a
_order = in_order(_y)
check.equal("how many numbers in a = 2x, b = a * x, y = b + a", len(_order), 5,
            why="x, the 2, a, b and y: each once, however often it is used")
check.true("operands before results", _valid(_order),
           why="y sends to a directly and through b: a must stand before both", got=[v.data for v in _order])
check.true("y comes last", _order[-1] is _y, why="the walk starts there")
_y = _a + _b
check.true("the same with the operands of y exchanged", _valid(in_order(_y)),
           why="now the short way to a is met first; the order must not depend on that",
           got=[v.data for v in in_order(_y)])
check.equal("two different numbers that are equal", len(in_order(Value(3.0) * Value(3.0))), 3,
            why="3 and 3 are two numbers with slopes of their own")

# %% [markdown]
"""
### The walk

`y.backward()` goes through the order from the end. `y` starts with 1. Each number adds, for every way it has,
its own `grad` times the slope of that way to the operand's `grad`.

Numbers without ways are the ones you made, such as weights, and they **keep** what they have: a second walk adds to
it. Numbers in between were made by operations, and must start every walk at 0, or the second walk would pass on the
first one's gradients once more. So there are three steps: the order; 0 for every number with ways, and 1 for `y`;
the walk.
"""

# %% exercise="Value.backward"
@method_of(Value)
def backward(self):
    """Add to the `.grad` of every number that this one was computed from how fast this one follows it.

    >>> x = Value(2)
    >>> (x * x + x * 3).backward()
    >>> x
    Value(2, grad=7)
    """
    ### BEGIN SOLUTION
    order = in_order(self)
    for number in order:
        if number.ways:
            number.grad = 0.0
    self.grad = 1.0
    for number in reversed(order):
        for operand, slope in number.ways:
            operand.grad += slope * number.grad
    ### END SOLUTION

# %% check="Value.backward"
_x = Value(2.0)
_y = _x * _x + _x * 3
_y.backward()
check.close("x * x + x * 3 at 2: x.grad", _x.grad, 7.0, why="2 + 2 + 3: what arrives is added")
check.close("y.grad", _y.grad, 1.0, why="y follows itself one to one")
_y.backward()
check.close("x.grad after a second walk", _x.grad, 14.0,
            why="x adds 7 to 7; numbers in between start again from 0, or more than 7 would arrive")
_x = Value(2.0)
_a = _x * 3
_b = _a * _a
(_b + _a).backward()
check.close("a = 3x, y = a * a + a at x = 2: a.grad", _a.grad, 13.0, why="2a + 1 = 13")
check.close("and x.grad", _x.grad, 39.0, why="3 * 13: a hands on only when all 13 have arrived")
_x, _w = Value(0.5), Value(-1.5)
_y = (_x * _w + 1).tanh().exp()
_y.backward()
_slopes = (slope_by_ways(_y, _x), slope_by_ways(_y, _w))
check.close("exp(tanh(x * w + 1)): gradients of x and w", [_x.grad, _w.grad], list(_slopes),
            why="the same slopes as by following every way")
_x = Value(1.0)
_y = _x
for _ in range(40):
    _y = _y + _y
_y.backward()
check.close("doubled 40 times", _x.grad, 2.0**40, why="a million million ways, and 41 numbers to walk through")

# %% [markdown]
"""
Two programs that compute the same function have different graphs and must get the same gradient. One cheap way to
check a whole autograd. Here is `tanh(x)`, once as your operation, once put together from `exp` and powers.
"""

# %% demo="two_programs"
for start in (-1.0, 0.0, 2.0):
    x, z = Value(start), Value(start)
    direct = x.tanh()
    composed = 2 * (1 + (-2 * z).exp()) ** -1 - 1
    direct.backward()
    composed.backward()
    print(f"x = {start:4}: {direct.data:8.5f} {composed.data:8.5f}   gradients {x.grad:.12f} {z.grad:.12f}   "
          f"numbers in the graph: {len(in_order(direct))} and {len(in_order(composed))}")

# %% [markdown]
"""
## Use: nine numbers learn XOR

XOR says whether two inputs differ. With -1 for "no" and 1 for "yes":

```
inputs    -1 -1    -1  1     1 -1     1  1
wanted     -1        1        1       -1
```

No single neuron can do it (module 02 shows why). Two of them, looked at by a third, can. A **neuron** multiplies
each input by a weight, adds a bias, and sends the sum through `tanh`. We keep it as a list, the bias last:
`[w1, w2, b]`. For weights 2 and -1, bias 0.5 and inputs 1 and 3 the sum is `2 - 3 + 0.5 = -0.5`.
"""

# %% exercise="neuron"
def neuron(parameters, inputs):
    """tanh of the weighted sum of `inputs`: a Value.

    parameters: list of Values, one weight per input and then the bias; inputs: numbers or Values.
    """
    ### BEGIN SOLUTION
    *weights, total = parameters
    for weight, x in zip(weights, inputs):
        total = total + weight * x
    return total.tanh()
    ### END SOLUTION

# %% check="neuron"
_p = [Value(2.0), Value(-1.0), Value(0.5)]
_out = neuron(_p, [1.0, 3.0])
check.close("weights 2 and -1, bias 0.5, inputs 1 and 3", _out.data, -0.462117, rtol=1e-4,
            why="tanh(2 * 1 - 1 * 3 + 0.5) = tanh(-0.5)")
_out.backward()
check.close("gradients of the weights and the bias", [v.grad for v in _p], [0.786448, 2.359343, 0.786448],
            rtol=1e-4, why="the slope of tanh, 0.786448, times 1, times 3, and times 1 for the bias")
check.close("three inputs", neuron([Value(1.0), Value(1.0), Value(1.0), Value(-3.0)], [1.0, 2.0, 0.5]).data,
            0.462117, rtol=1e-4, why="tanh(1 + 2 + 0.5 - 3): as many inputs as weights")
check.close("a Value as input", neuron([Value(2.0), Value(0.0)], [Value(0.25)]).data, 0.462117, rtol=1e-4,
            why="the second layer gets the results of the first")

# %% [markdown]
"""
A network of two layers: every hidden neuron looks at the inputs, and the last neuron looks at the hidden ones.
"""

# %% exercise="network"
def network(neurons, inputs):
    """Result of the last of `neurons`, whose inputs are the results of all the others: a Value.

    neurons: list of parameter lists as `neuron` takes them.
    """
    ### BEGIN SOLUTION
    *hidden, last = neurons
    return neuron(last, [neuron(parameters, inputs) for parameters in hidden])
    ### END SOLUTION

# %% check="network"
_net = [[Value(1.0), Value(1.0), Value(-1.0)], [Value(1.0), Value(-1.0), Value(0.0)],
        [Value(2.0), Value(3.0), Value(0.5)]]
_h1, _h2 = math.tanh(1.0), math.tanh(-1.0)
check.close("two hidden neurons, inputs 0.5 and 1.5", network(_net, [0.5, 1.5]).data,
            math.tanh(2 * _h1 + 3 * _h2 + 0.5), why="h = tanh(1), tanh(-1), then tanh(2 h1 + 3 h2 + 0.5)")
_out = network(_net, [0.5, 1.5])
_out.backward()
_last = 1 - math.tanh(2 * _h1 + 3 * _h2 + 0.5) ** 2
check.close("gradient of the last neuron's first weight", _net[2][0].grad, _last * _h1,
            why="the slope of the last tanh times what came in, h1")
check.close("gradient of the first hidden neuron's second weight", _net[0][1].grad,
            _last * 2 * (1 - _h1**2) * 1.5, why="through the last neuron, its weight 2, the hidden tanh, the input 1.5")
check.close("three hidden neurons", network([[Value(1.0), Value(0.0)]] * 3 + [[Value(1.0)] * 3 + [Value(0.0)]],
                                            [0.3]).data,
            math.tanh(3 * math.tanh(0.3)), why="all but the last are hidden, however many there are")

# %% [markdown]
"""
### One step of learning

The loss says how wrong the network is: the squares of `result - wanted`, added over the four examples. One **step**:

1. set the gradient of every parameter to 0 (they add up, remember);
2. compute the loss, and walk back from it;
3. move each parameter a little against its slope: `p.data -= rate * p.grad`.

Write the step. It returns the loss as a float, as it was before the move.
"""

# %% exercise="step"
def step(neurons, examples, rate):
    """Move all parameters one step down the slope of the loss; returns the loss before, a float.

    examples: list of (inputs, wanted).
    """
    parameters = [p for parameters in neurons for p in parameters]
    ### BEGIN SOLUTION
    for p in parameters:
        p.grad = 0.0
    loss = Value(0.0)
    for inputs, wanted in examples:
        loss = loss + (network(neurons, inputs) - wanted) ** 2
    loss.backward()
    for p in parameters:
        p.data -= rate * p.grad
    return loss.data
    ### END SOLUTION

# %% check="step"
def _fresh():
    return [[Value(0.5), Value(0.0)], [Value(1.0), Value(0.0)]]


_net, _examples = _fresh(), [([1.0], 1.0), ([-1.0], 0.0)]
_out = math.tanh(math.tanh(0.5))
_loss = (_out - 1) ** 2 + (-_out - 0) ** 2
check.close("the loss before the step", step(_net, _examples, 0.1), _loss,
            why="(0.4319 - 1)² + (-0.4319 - 0)²: squares, added over both examples")
_h = math.tanh(0.5)
_slope = 2 * (_out - 1) * (1 - _out**2) * _h + 2 * -_out * (1 - _out**2) * -_h
check.close("the last weight after the step", _net[1][0].data, 1.0 - 0.1 * _slope,
            why="1 - 0.1 times its slope: down, not up")
check.close("the last bias", _net[1][1].data, -0.1 * (2 * (_out - 1) + 2 * -_out) * (1 - _out**2),
            why="every parameter moves, the biases as well")
_net = _fresh()
step(_net, _examples, 0.0)
_before = [p.grad for _parameters in _net for p in _parameters]
step(_net, _examples, 0.0)
check.close("the gradients after a second step that moved nothing (rate 0)",
            [p.grad for _parameters in _net for p in _parameters], _before,
            why="set to 0 before each walk: otherwise they add up from step to step")
_losses = [step(_net, _examples, 0.1) for _ in range(20)]
check.true("twenty steps make the loss smaller", _losses[-1] < _losses[0], why="that is what they are for",
           got=_losses[::5])

# %% [markdown]
"""
Everything is there. Two hidden neurons and one to look at them: nine numbers, started at random.
"""

# %% demo="learn_xor"
def started(hidden, seed):
    """A network for two inputs with random parameters."""
    draw = random.Random(seed)
    sizes = [3] * hidden + [hidden + 1]
    return [[Value(draw.uniform(-1, 1)) for _ in range(size)] for size in sizes]


xor = [([-1.0, -1.0], -1.0), ([-1.0, 1.0], 1.0), ([1.0, -1.0], 1.0), ([1.0, 1.0], -1.0)]
net = started(hidden=2, seed=1)
for n in range(301):
    loss = step(net, xor, rate=0.1)
    if n % 30 == 0:
        print(f"step {n:3}  loss {loss:.4f}  " + "#" * round(8 * loss))
for inputs, wanted in xor:
    print(inputs, "wanted", wanted, "got", round(network(net, inputs).data, 3))

# %% demo="what_it_sees"
print("the plane of the two inputs from -1.5 to 1.5; # is yes, . is no, the examples lie near the corners")
for row in range(13):
    y = 1.5 - row / 4
    print("   " + "".join("#" if network(net, [column / 8 - 1.5, y]).data > 0 else "." for column in range(25)))

# %% [markdown]
"""
Each hidden neuron draws one straight line, and the last one combines the two into a band.

## Measure: luck, and how many neurons buy it

Nine numbers are just enough, and that is a tight fit: from some starting points the walk downhill ends in a hollow
that is no solution. Predict: how many of ten starts succeed with two hidden neurons, and how many with four?
"""

# %% demo="how_many_starts"
for hidden in (1, 2, 4):
    solved = 0
    for seed in range(10):
        net = started(hidden, seed)
        for _ in range(150):
            step(net, xor, rate=0.2)
        solved += all(network(net, inputs).data * wanted > 0 for inputs, wanted in xor)
    print(f"{hidden} hidden: {solved} of 10 starts solve XOR")

# %% [markdown]
"""
## Break: handing on too early

What if the walk simply goes down level by level, from `y` to its operands, to theirs, and so on, each number once?
In `a = 2x, b = 3a, y = a + b` the number `a` is met on the first level, **before** `b` has sent its part. It hands
on what it has, and what comes later is lost. The symptom is nasty: without short cuts in the graph everything is right.
"""

# %% demo="too_early"
def by_levels(y):
    """Every number once, nearest to y first: the wrong order."""
    order, waiting = [], [y]
    while waiting:
        number = waiting.pop(0)
        if number not in order:
            order.append(number)
            waiting += [operand for operand, _ in number.ways]
    return order


def walk(order):
    order[0].grad = 1.0
    for number in order:
        for operand, slope in number.ways:
            operand.grad += slope * number.grad


for name, order_of in (("by levels", by_levels), ("in order", lambda y: in_order(y)[::-1])):
    x, z = Value(1.0), Value(1.0)
    a = x * 2
    walk(order_of(a + a * 3))
    walk(order_of(z * 2 * 3))
    print(f"{name:10} slope of 2x + 6x: {x.grad:.0f}   slope of 6z, where nothing meets: {z.grad:.0f}")

# %% [markdown]
"""
## Reflect

**1.** `y = x + x + x` at `x = 10`. What is `x.grad` after `y.backward()`?
"""

# %% exercise="predict.three_times"
### BEGIN SOLUTION
three_times = 3.0
### END SOLUTION

# %% check="predict.three_times"
check.prediction("slope of x + x + x", three_times, "My4w", rel=0.001,
                 why="three ways lead to x, each with slope 1; how large x is does not matter")

# %% [markdown]
"""
**2.** A number is doubled 20 times with `y = y + y`. How many ways lead from the last one to the first?
"""

# %% exercise="predict.ways"
### BEGIN SOLUTION
ways = 2**20
### END SOLUTION

# %% check="predict.ways"
check.prediction("ways through 20 sums of a number with itself", ways, "MTA0ODU3Ni4w", rel=0.001,
                 why="each sum doubles the number of ways")

# %% [markdown]
"""
**3.** And how many numbers does `in_order` list for it?
"""

# %% exercise="predict.numbers"
### BEGIN SOLUTION
numbers = 21
### END SOLUTION

# %% check="predict.numbers"
check.prediction("numbers in the graph of 20 doublings", numbers, "MjEuMA==", rel=0.001,
                 why="one per sum, and the one at the start: the walk costs 20 steps instead of a million")

# %% [markdown]
"""
## Where this leads

Module 05 does the same with tensors, and three things change.

| here | module 05 | why |
|---|---|---|
| a way holds a number, the slope | an operand has a **rule**, a function of what arrives | a tensor of 1,000 entries follows another one of 1,000 entries with a million slopes; the rule multiplies by them without ever writing them down |
| `place` calls itself | a stack of your own | Python allows about 1,000 nested calls; a long training graph is deeper |
| you wrote `Value` anew | `Tensor` stays as it is | operations are wrapped from outside, and all of modules 01 to 04 learns to remember at once |

What stays: write down what you know while you compute, add where ways meet, and walk in the right order. That
was known long before neural networks needed it: Linnainmaa described it in 1970 for rounding errors.

| symptom | cause | where to look |
|---|---|---|
| a gradient is too small where a number is used twice | overwritten instead of added, or handed on too early | `+=` in backward; the order |
| gradients grow from step to step | they were never set to 0 | the first lines of `step` |
| `RecursionError` | a graph of more than about 1,000 levels | module 05's sort, with a stack of its own |
| the loss stays at 4 | every result is 0: the start was too symmetric, or the rate is 0 | random starting values |
"""
