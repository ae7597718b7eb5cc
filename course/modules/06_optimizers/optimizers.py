# %% [markdown]
"""
# 06 · Optimizers

An optimizer turns gradients into better parameters, one small step at a time; the rule of that step
decides whether the same network learns in a minute, in an hour or never.

```
you have built     Tensor, layers and losses, and gradients of all of them
        |
        v
you build now      Optimizer: SGD, momentum, Nesterov, weight decay, Adam, AdamW
        |
        v
this unlocks       07 training: the loop, schedules, checkpoints; then every milestone
```

Time: about 3 hours. An optimizer needs two things from a parameter, `p.data` and `p.grad`, both
NumPy arrays. So the checks of this module write gradients by hand, and you can follow every number
with a pencil.
"""

# %% given="imports"
#| default_exp core.optimizers
#| export
from collections.abc import Iterable
from copy import deepcopy

import numpy as np

from tinytorch.core.tensor import Tensor

# %% given="tools"
import time

import tito.checks as check
from tito.notebook import method_of

# %% [markdown]
"""
## Why: one step size does not fit two directions

You have the gradient: it points uphill, so walk against it. What is left to build? Run the next
cell. It walks 40 steps down a long valley, `height = (x² + 25·y²) / 2`, which is 25 times as steep
across (y) as along (x). The start is `(-10, 1)`, the bottom is `(0, 0)`, and the only thing that
changes is the learning rate `lr`, the factor in front of the gradient.
"""

# %% given="valley"
STEEPNESS = np.array([1.0, 25.0], dtype=np.float32)  # along x, across y


def height(point):
    """Height of the valley at points [x, y], an array (..., 2)."""
    return (STEEPNESS * point * point).sum(axis=-1) / 2


def slope(point):
    """Gradient of the height at [x, y]."""
    return STEEPNESS * point

# %% demo="one_rate_for_all"
for lr in (0.01, 0.03, 0.06, 0.079, 0.085):
    point = np.array([-10.0, 1.0], dtype=np.float32)
    for _ in range(40):
        point = point - lr * slope(point)
    print(f"lr {lr:5}:  x {point[0]:8.4f}   y {point[1]:10.4f}   height {height(point):12.4f}")

# %% [markdown]
"""
A small rate is safe, and x has hardly moved. A rate that would suit x makes y leap from wall to
wall, and a little more makes it leave the valley. The steepest direction sets the limit, the
flattest one sets the time, and real losses have millions of directions. Everything in this module
is an answer to that: remember where you were going (momentum), and give each parameter a step of
its own (Adam).

## Foundations: why a rate can be too large

One parameter, height `25·w²/2`, gradient `25·w`. A step is `w - lr·25·w = (1 - 25·lr)·w`: each step
multiplies w by the same factor.

```
lr 0.02   factor  0.5    1 ->  0.5 -> 0.25        closer each time
lr 0.04   factor  0      1 ->  0                  there at once: the rate fits the steepness
lr 0.06   factor -0.5    1 -> -0.5 -> 0.25        over the bottom and back, still closer
lr 0.08   factor -1      1 -> -1   -> 1           from wall to wall for ever
lr 0.10   factor -1.5    1 -> -1.5 -> 2.25        further away each time: the loss explodes
```

In words: a direction of steepness `c` is safe while `lr < 2 / c`. A loss that turns into `nan`
after a few steps has met a direction that is too steep for its rate.

## Build

### A step downhill, in place

The whole of gradient descent is one line: weights minus rate times gradient. One thing about it
matters as much as the sign: it must change **the array it was given**. The layer holds that array;
if you compute a new one and bind it to a local name, the layer never hears of it.

With weights `[1, 2]`, gradient `[4, -4]` and rate 0.25 the weights become `[0, 3]`.
"""

# %% exercise="descend"
#| exporti
def descend(weights: np.ndarray, grad: np.ndarray, lr: float) -> None:
    """Move `weights` against `grad`, in place: weights - lr * grad.

    weights, grad: arrays of one shape; grad is left as it is.
    Cost: 2 FLOPs per weight.

    >>> w = np.array([1.0, 2.0])
    >>> descend(w, np.array([4.0, -4.0]), lr=0.25)
    >>> w.tolist()
    [0.0, 3.0]
    """
    ### BEGIN SOLUTION
    weights -= lr * grad
    ### END SOLUTION

# %% check="descend" points=3
_w = np.array([1.0, -2.0], dtype=np.float32)
_g = np.array([0.5, -1.0], dtype=np.float32)
descend(_w, _g, 0.1)
check.close("weights [1, -2] after descend with gradient [0.5, -1], lr 0.1", _w, [0.95, -1.9],
            why="1 - 0.1*0.5 = 0.95: against the gradient, in the array that was passed in")
check.close("the gradient afterwards", _g, [0.5, -1.0],
            why="others may still need it: a logger, or a second backward that adds")
_w = np.ones((2, 3))
descend(_w[0], np.full(3, 2.0), 0.25)
check.close("a (2, 3) float64 array after descend on its row 0", _w, [[0.5, 0.5, 0.5], [1, 1, 1]],
            why="row 0 is a view of the same memory, so a step in place is seen through it; "
                "a Tensor made of the array would be a float32 copy")

# %% [markdown]
"""
### What every optimizer shares

All optimizers keep a list of parameters, a learning rate that may be changed while training runs
(module 07 does), and a **state**: what they remember about each parameter. Only the rule of the
step differs. So that goes into subclasses, and everything else is written once, here.

The constructor is the place to catch what would otherwise go wrong without a word:

- a generator, which is empty after it has been read once: keep a list, `self.params`;
- one bare tensor. It can be iterated over, but that gives new tensors, one per row, whose `grad` is
  `None` for ever: `TypeError`;
- something that is not a `Tensor`, such as a layer (`model` instead of `model.parameters()`):
  `TypeError` that names its type;
- no parameters at all, which trains nothing, and a negative rate, which climbs: `ValueError`. A
  rate of 0 is fine, a warm-up starts there.
"""

# %% exercise="Optimizer"
#| export
class Optimizer:
    """What all optimizers share: parameters, a learning rate, and a memory for each parameter.

    params: iterable of Tensors, usually `model.parameters()`. lr: learning rate, may be set anew.
    A subclass defines `update(weights, grad, state)`, the rule of one step for one parameter.
    Raises TypeError for one bare Tensor or for anything in `params` that is not a Tensor,
    ValueError for no parameters or a negative lr.

    >>> Optimizer((Tensor([float(i)]) for i in range(3)), lr=0.1).params
    [Tensor([0.]), Tensor([1.]), Tensor([2.])]
    """

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.lr = lr
        self.state: dict[int, dict] = {}  # position in params -> what update() remembers of it
        ### BEGIN SOLUTION
        if isinstance(params, Tensor):
            raise TypeError("params must be a list of Tensors, not one Tensor. Write [tensor].")
        self.params = list(params)
        if not self.params:
            raise ValueError("no parameters to optimize. Was the generator read before?")
        for param in self.params:
            if not isinstance(param, Tensor):
                kind = type(param).__name__
                raise TypeError(f"{kind} is not a Tensor. For a model pass model.parameters().")
        if lr < 0:
            raise ValueError(f"lr={lr} is negative and would climb. Choose lr >= 0.")
        ### END SOLUTION

# %% check="Optimizer" points=5
_a, _b = Tensor([1.0, 2.0]), Tensor([[3.0], [4.0]])
_eight = [_a, _b] + [Tensor([float(_i)]) for _i in range(6)]
_o = Optimizer((p for p in _eight), lr=0.1)
check.equal("parameters kept from a generator of 8, counted twice",
            [len(list(_o.params)), len(list(_o.params))], [8, 8],
            why="a generator can be read once; step() reads the parameters every time")
check.true("the parameters themselves are kept, in their order",
           all(p is q for p, q in zip(_o.params, _eight)),
           why="the optimizer must move the very tensors that the model computes with, and a saved "
               "state finds its parameter by position")
check.equal("lr", _o.lr, 0.1)
check.equal("Optimizer([w], lr=0).lr", Optimizer([_a], lr=0).lr, 0,
            why="a rate of 0 is where a warm-up starts")
check.raises("Optimizer(one tensor)", TypeError, lambda: Optimizer(_b, lr=0.1).params,
             why="iterating over a tensor gives new tensors, one per row: they would never learn")
check.raises("Optimizer([w, w.data])", TypeError, lambda: Optimizer([_a, _a.data], lr=0.1).params,
             why="name the type: the reader sees at once what got into the list", mention=["ndarray"])
check.raises("Optimizer([])", ValueError, lambda: Optimizer([], lr=0.1).params,
             why="an optimizer of nothing trains nothing, silently")
check.raises("Optimizer([w], lr=-0.1)", ValueError, lambda: Optimizer([_a], lr=-0.1).lr,
             why="a negative rate walks uphill", mention=["-0.1"])

# %% [markdown]
"""
### Forget the old gradient

`backward()` adds to `p.grad`; that is what lets one parameter be used in two places. So before the
next `backward()` the old gradient must go. Not to zeros: to `None`, "no gradient yet". It frees the
array, the next gradient is stored instead of being added to zeros, and a parameter that had no part
in the loss can be told from one whose slope happens to be 0.
"""

# %% exercise="Optimizer.zero_grad"
#| export
@method_of(Optimizer)
def zero_grad(self) -> None:
    """Set the gradient of every parameter to None.

    >>> w = Tensor([1.0])
    >>> w.grad = np.array([2.0])
    >>> Optimizer([w], lr=0.1).zero_grad()
    >>> w.grad is None
    True
    """
    ### BEGIN SOLUTION
    for param in self.params:
        param.grad = None
    ### END SOLUTION

# %% check="Optimizer.zero_grad" points=3
_a, _b = Tensor([1.0, 2.0]), Tensor([3.0])
_a.grad, _b.grad = np.array([5.0, 6.0], dtype=np.float32), np.array([7.0], dtype=np.float32)
_kept, _o = _a.grad, Optimizer([_a, _b], lr=0.1)
_o.state = {0: {"steps": 7}}
_o.zero_grad()
check.true("the first gradient is None after zero_grad()", _a.grad is None, got=_a.grad,
           why="None, not zeros: it frees the memory, and step() skips the parameter")
check.true("the second gradient is None after zero_grad()", _b.grad is None, got=_b.grad,
           why="all parameters, not only the first")
check.close("an array that was the gradient before", _kept, [5, 6],
            why="someone may have kept it to plot it; letting go is not the same as overwriting")
check.tensor("the first parameter", _a, [1, 2], why="zero_grad clears gradients, never weights")
check.equal("the state", repr(_o.state), "{0: {'steps': 7}}",
            why="what update() remembers must last from step to step; only gradients are forgotten")

# %% [markdown]
"""
### One step for all parameters

`step()` calls the rule `update(weights, grad, state)` for each parameter:

- `weights` is `param.data` and `grad` is `param.grad`: both plain arrays, so nothing here is
  recorded for a gradient of its own;
- a parameter whose `grad` is `None` is skipped, and its state waits for it: it took no part in this
  loss. (A gradient of zeros is a gradient: momentum may still be rolling.)
- `state` is a dict that belongs to this parameter alone. It is made, empty, in the parameter's
  first step, kept in `self.state` under the parameter's position, and handed to `update` each time.
  `update` keeps its memory in it.

```
params    [w0,         w1 (grad None),   w2]
state     {0: {...},                     2: {...}}
```
"""

# %% exercise="Optimizer.step"
#| export
@method_of(Optimizer)
def step(self) -> None:
    """Update every parameter that has a gradient, each with its own entry of `self.state`.

    The entry of the parameter at position i is the dict `self.state[i]`, made when first needed.

    >>> w = Tensor([1.0])
    >>> w.grad = np.array([2.0])
    >>> SGD([w], lr=0.25).step()
    >>> w
    Tensor([0.5])
    """
    ### BEGIN SOLUTION
    for index, param in enumerate(self.params):
        if param.grad is not None:
            state = self.state.setdefault(index, {})
            self.update(param.data, param.grad, state)
    ### END SOLUTION

# %% check="Optimizer.step" points=5
class _Counting(Optimizer):
    def update(self, weights, grad, state):
        state["steps"] = state.get("steps", 0) + 1
        weights -= self.lr * state["steps"] * grad


_a, _b, _c, _d = Tensor([1.0, 2.0]), Tensor([3.0]), Tensor([4.0]), Tensor([5.0])
_a.grad, _c.grad = np.array([1.0, 2.0], dtype=np.float32), np.array([10.0], dtype=np.float32)
_d.grad = np.zeros(1, dtype=np.float32)
_o = _Counting([_a, _b, _c, _d], lr=0.1)
_o.step()
_o.step()
check.tensor("w0 after two steps of lr * count * grad", _a, [0.7, 1.4],
             why="1 - 0.1*1*1 - 0.1*2*1 = 0.7: the count must survive from one step to the next")
check.tensor("w1, which has no gradient", _b, [3.0], why="None means: not part of this loss")
check.tensor("w2 after two steps", _c, [1.0],
             why="4 - 0.1*1*10 - 0.1*2*10 = 1: a count of its own, and the None before is skipped")
check.equal("the positions that have a state", sorted(_o.state, key=str), [0, 2, 3],
            why="made in a parameter's first step: w1 has none yet, and costs no memory; w3 has one, "
                "because a gradient of zeros is a gradient")
check.true("the gradient is still there after step()",
           _a.grad is not None and _a.grad.tolist() == [1.0, 2.0],
           why="step() reads gradients; forgetting them is zero_grad()'s job", got=_a.grad)
_a.grad = None
_o.step()
_a.grad = np.array([1.0, 2.0], dtype=np.float32)
_o.step()
check.tensor("w0 after a step without gradient and one with", _a, [0.4, 0.8],
             why="0.7 - 0.1*3*1: it sat one step out, and its state was kept for it")

# %% given="update"
#| export
@method_of(Optimizer)
def update(self, weights: np.ndarray, grad: np.ndarray, state: dict) -> None:
    """The rule of one step for one parameter, defined by each subclass.

    weights: changed in place. grad: only read. state: this parameter's memory.
    """
    raise NotImplementedError(f"{type(self).__name__} must define update(weights, grad, state)")

# %% [markdown]
"""
### Weight decay: a pull towards zero

Large weights are often a sign of memorising. So add a small price for size to the loss,
`decay/2·w²` for each weight. Its gradient is `decay·w`, and that is all there is to code: the
gradient grows by `decay·w`, and each step pulls the weight a little towards 0.

For weights `[10, -10]`, gradient `[1, 1]` and decay 0.1: `[1 + 1, 1 - 1] = [2, 0]`. Return a new
array and leave `grad` as it is, or a second call would add the pull twice. With `weight_decay` 0
return `grad` itself: no work, no bytes.
"""

# %% exercise="decayed"
#| exporti
def decayed(weights: np.ndarray, grad: np.ndarray, weight_decay: float) -> np.ndarray:
    """Gradient of the loss plus the price `weight_decay / 2 * weights**2`; `grad` itself for 0.

    weights, grad, result: arrays of one shape; neither argument is changed.

    >>> decayed(np.array([10.0, -10.0]), np.array([1.0, 1.0]), 0.5).tolist()
    [6.0, -4.0]
    """
    ### BEGIN SOLUTION
    if weight_decay == 0:
        return grad
    return grad + weight_decay * weights
    ### END SOLUTION

# %% check="decayed" points=3
_w = np.array([10.0, -10.0, 0.5], dtype=np.float32)
_g = np.array([1.0, 1.0, 0.0], dtype=np.float32)
_pulled = decayed(_w, _g, 0.1)
check.close("decayed([10, -10, 0.5], [1, 1, 0], 0.1)", _pulled, [2.0, 0.0, 0.05],
            why="1 + 0.1*10, 1 - 0.1*10, 0 + 0.1*0.5: a weight below 0 is pulled up, towards 0")
check.equal("the type of the result", type(_pulled).__name__, "ndarray",
            why="plain arrays in, a plain array out: update() computes with NumPy")
check.close("the gradient afterwards", _g, [1, 1, 0],
            why="grad is only read: changed here, the pull would be added again at the next call")
check.close("the weights afterwards", _w, [10, -10, 0.5], why="weights move in descend, not here")
check.same_storage("decayed(w, g, 0.0)", decayed(_w, _g, 0.0), _g,
                   why="without decay there is nothing to compute and nothing to allocate")

# %% [markdown]
"""
### SGD, and room for its options

The next cell gives you the class. "Stochastic" is only this: the gradient comes from a few examples
instead of all of them, so it is noisy. The options are the ones you are about to write.
"""

# %% given="SGD"
#| export
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum, Nesterov's look ahead and weight decay.

    momentum: share of the velocity kept from step to step (0: no velocity, no state).
    dampening: share of the gradient left out of the velocity.
    weight_decay: pull towards 0, part of the gradient. nesterov: look ahead along the velocity.
    Raises ValueError for nesterov without momentum or with dampening.
    Cost: with momentum 4 bytes of state per float32 weight, without it none.
    Source: torch.optim.SGD; Sutskever et al. 2013.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("nesterov looks ahead: it needs momentum > 0 and dampening 0.")
        self.momentum, self.dampening = momentum, dampening
        self.weight_decay, self.nesterov = weight_decay, nesterov

# %% [markdown]
"""
### Momentum: a ball instead of a walker

A walker on the valley's wall looks at the slope under his feet and jumps. A ball keeps rolling: of
its old **velocity** it keeps a share, say 0.9, and the slope pushes it.

```
velocity = 0.9 * velocity + gradient

gradient  1  1  1     ->  velocity  1   1.9   2.71   ... towards 10    the same way: faster
gradient  1 -1  1     ->  velocity  1  -0.1   0.91                     to and fro: cancels out
```

Along the valley all gradients agree and add up; across it they alternate and cancel.

Two details make it PyTorch's rule. The velocity of the first step is the gradient itself (there is
nothing to keep yet). After that the gradient enters with the share `1 - dampening`, normally 1.
Keep the velocity in `state["momentum"]`, one array per parameter, and change it in place. Be
careful in the first step: `state["momentum"] = grad` would make the velocity and the gradient **the
same array**, and the second step would then overwrite the gradient. Take a copy.
"""

# %% exercise="SGD.velocity"
#| export
@method_of(SGD)
def velocity(self, grad: np.ndarray, state: dict) -> np.ndarray:
    """The new velocity, momentum * velocity + (1 - dampening) * grad; the first is a copy of grad.

    Kept in state["momentum"], an array of grad's shape. grad is only read.
    Cost: one array of state, made in the first step.
    Source: Polyak 1964; torch.optim.SGD for the first step.

    >>> sgd, state = SGD([Tensor([0.0])], momentum=0.5), {}
    >>> [sgd.velocity(np.array([4.0]), state).tolist() for _ in range(3)]
    [[4.0], [6.0], [7.0]]
    """
    ### BEGIN SOLUTION
    if "momentum" not in state:
        state["momentum"] = np.array(grad)
        return state["momentum"]
    velocity = state["momentum"]
    velocity *= self.momentum
    velocity += (1 - self.dampening) * grad
    return velocity
    ### END SOLUTION

# %% check="SGD.velocity" points=6
_sgd, _state = SGD([Tensor([0.0, 0.0])], momentum=0.9), {}
_g = np.array([1.0, 2.0], dtype=np.float32)
_first = _sgd.velocity(_g, _state)
check.close("first velocity for gradient [1, 2]", _first, [1, 2],
            why="nothing to keep yet: the first velocity is the gradient")
check.equal("the type of the velocity", type(_first).__name__, "ndarray",
            why="the state holds plain arrays, like the gradient")
check.true("the stored velocity has memory of its own",
           not np.shares_memory(_state.get("momentum", np.zeros(2)), _g),
           why="whoever changes the gradient in place later (clipping, module 07) would change the "
               "velocity, or the other way round")
check.close("second velocity, gradient [1, -2], momentum 0.9",
            _sgd.velocity(np.array([1.0, -2.0], dtype=np.float32), _state), [1.9, -0.2],
            why="0.9*1 + 1 = 1.9 adds up; 0.9*2 - 2 = -0.2 cancels out")
_other = {}
_sgd.velocity(np.array([8.0, 8.0], dtype=np.float32), _other)
check.close("third velocity, gradient [1, 2]", _sgd.velocity(_g, _state), [2.71, 1.82],
            why="0.9*1.9 + 1 = 2.71: the velocity of step 2 was kept, in this state['momentum'], and "
                "the step of another parameter in between has nothing to do with it")
check.close("state['momentum']", _state.get("momentum", "not in state"), [2.71, 1.82],
            why="the memory of this parameter; it is what a checkpoint saves")
check.close("the first gradient afterwards", _g, [1, 2], why="grad is only read")
_sgd, _state = SGD([Tensor([0.0])], momentum=0.5, dampening=0.25), {}
_g = np.array([2.0], dtype=np.float32)
_seen = [np.array(_sgd.velocity(_g, _state)) for _ in range(2)]
check.close("two velocities, gradient 2, momentum 0.5, dampening 0.25", _seen, [[2.0], [2.5]],
            why="the first is not dampened; the second is 0.5*2 + 0.75*2 = 2.5")

# %% [markdown]
"""
### SGD's step

Now put the parts in order:

1. the gradient, with the pull of weight decay (`decayed`);
2. with momentum: the velocity instead of the gradient. The pull is part of what pushes the ball;
3. with `nesterov`: not the velocity, but the gradient plus `momentum` times the new velocity. The
   ball will roll that far anyway, so the step is taken as if from there: it brakes before the wall
   instead of after it;
4. `descend`.

With constant gradient 1 and momentum 0.9 the first two velocities are 1 and 1.9, and Nesterov's
directions are `1 + 0.9·1 = 1.9` and `1 + 0.9·1.9 = 2.71`: one step ahead.

The velocity lives in `state`, and grad belongs to the parameter: build Nesterov's direction as a
new array.
"""

# %% exercise="SGD.update"
#| export
@method_of(SGD)
def update(self, weights: np.ndarray, grad: np.ndarray, state: dict) -> None:
    """One step of SGD: weights in place, grad only read, the velocity in state.

    Source: torch.optim.SGD; Sutskever et al. 2013, section 2, for nesterov.

    >>> w = Tensor([1.0])
    >>> sgd = SGD([w], lr=0.25, momentum=0.5)
    >>> for _ in range(2):
    ...     w.grad = np.array([1.0])
    ...     sgd.step()
    >>> w  # 1 - 0.25 * 1 - 0.25 * 1.5
    Tensor([0.375])
    """
    ### BEGIN SOLUTION
    grad = decayed(weights, grad, self.weight_decay)
    if self.momentum:
        velocity = self.velocity(grad, state)
        grad = grad + self.momentum * velocity if self.nesterov else velocity
    descend(weights, grad, self.lr)
    ### END SOLUTION

# %% check="SGD.update" points=6
def _walk(grads, **options):
    """The weight 1.0 after each step with these gradients."""
    _w = Tensor([1.0])
    _optimizer, _seen = SGD([_w], **options), []
    for _g in grads:
        _w.grad = np.array([_g], dtype=np.float32)
        _optimizer.step()
        _seen.append(_w.item())
    return _seen


check.close("plain SGD, lr 0.1, gradients 1, 1, -2", _walk([1, 1, -2], lr=0.1), [0.9, 0.8, 1.0],
            why="1 - 0.1 - 0.1 + 0.2")
check.close("momentum 0.9, lr 0.1, gradients 1, 1, 1", _walk([1, 1, 1], lr=0.1, momentum=0.9),
            [0.9, 0.71, 0.439], why="velocities 1, 1.9, 2.71: 1 - 0.1, - 0.19, - 0.271")
check.close("nesterov, momentum 0.9, lr 0.1, gradients 1, 1, 1",
            _walk([1, 1, 1], lr=0.1, momentum=0.9, nesterov=True), [0.81, 0.539, 0.1951],
            why="directions 1 + 0.9*1 = 1.9, 1 + 0.9*1.9 = 2.71, 1 + 0.9*2.71 = 3.439")
check.close("weight_decay 0.5, lr 0.1, gradients 0, 0", _walk([0, 0], lr=0.1, weight_decay=0.5),
            [0.95, 0.9025], why="1 - 0.1*0.5*1 = 0.95: only the pull is left, 5 % of what is there")
check.close("weight_decay 0.5 and momentum 0.9, gradients 0, 0",
            _walk([0, 0], lr=0.1, weight_decay=0.5, momentum=0.9), [0.95, 0.8575],
            why="velocities 0.5 and 0.9*0.5 + 0.5*0.95 = 0.925: the pull pushes the ball as well")
check.close("weight_decay 0.5, momentum 0.9 and nesterov, gradients 0, 0",
            _walk([0, 0], lr=0.1, weight_decay=0.5, momentum=0.9, nesterov=True), [0.905, 0.778525],
            why="0.5 + 0.9*0.5 = 0.95: the gradient that looks ahead is the one with the pull")
_p = Tensor([1.0])
_p.grad = np.array([4.0], dtype=np.float32)
for _decay, _name, _end in [(0.0, "", 6.0), (1.0, " and weight_decay 1", 7.5)]:
    _o = SGD([_p], lr=0.0, momentum=0.5, nesterov=True, weight_decay=_decay)
    _o.step()
    _o.step()
    check.close(f"velocity and gradient after two nesterov steps, gradient 4, momentum 0.5{_name}",
                [_o.state[0].get("momentum", np.zeros(1))[0], _p.grad[0]], [_end, 4.0],
                why="0.5*4 + 4 = 6, with the pull 0.5*5 + 5 = 7.5: the step must change neither the "
                    "velocity nor the gradient")
_o = SGD([_p], lr=0.0)
_o.step()
check.equal("what plain SGD remembers", sorted(_o.state[0]), [],
            why="momentum 0: a velocity that nobody keeps would cost 4 bytes per weight")

# %% [markdown]
"""
### Adam: a step of its own for each weight

Momentum still has one rate for all. Adam divides each weight's step by the size its gradients
usually have, so that steep and flat directions move alike. It remembers two running averages per
weight:

```
m  of the gradient          m = 0.9   * m + 0.1   * g        which way, on average
v  of its square            v = 0.999 * v + 0.001 * g*g      how large, on average
```

The two shares 0.9 and 0.999 are `self.betas`. Both averages start as arrays of zeros. For gradients
2, then 1:

```
          m                           v
start     0                           0
g = 2     0.1 * 2 = 0.2               0.001 * 4 = 0.004
g = 1     0.9 * 0.2 + 0.1 * 1 = 0.28  0.999 * 0.004 + 0.001 * 1 = 0.004996
```

Write the bookkeeping first: `state["m"]`, `state["v"]`, and `state["step"]`, the number of
gradients this parameter has seen. The average needs no copy of all old gradients; that is its
charm.
"""

# %% given="Adam"
#| export
class Adam(Optimizer):
    """Adam: running averages of gradient and square give each weight a step of its own.

    betas: shares of the two averages kept from step to step. eps: keeps 0 / 0 away.
    weight_decay: pull towards 0 as part of the gradient (AdamW has the better one).
    Raises ValueError unless both betas are in [0, 1).
    Cost: 8 bytes of state per float32 weight, twice the weights.
    Source: Kingma & Ba 2014, algorithm 1; torch.optim.Adam.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ) -> None:
        super().__init__(params, lr)
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"betas={betas}: the shares that averages keep must be in [0, 1).")
        self.betas, self.eps, self.weight_decay = betas, eps, weight_decay

# %% exercise="Adam.moments"
#| export
@method_of(Adam)
def moments(self, grad: np.ndarray, state: dict) -> None:
    """Count the step and move both running averages towards `grad` and its square.

    state["step"]: int. state["m"], state["v"]: arrays of grad's shape, zeros before the first step.
    grad is only read.
    Cost: two arrays of state, made in the first step.
    Source: Kingma & Ba 2014, algorithm 1.

    >>> adam, state = Adam([Tensor([0.0])], betas=(0.5, 0.75)), {}
    >>> adam.moments(np.array([4.0]), state)
    >>> state
    {'step': 1, 'm': array([2.]), 'v': array([4.])}
    """
    ### BEGIN SOLUTION
    if not state:
        state.update(step=0, m=np.zeros_like(grad), v=np.zeros_like(grad))
    beta1, beta2 = self.betas
    state["step"] += 1
    state["m"] *= beta1
    state["m"] += (1 - beta1) * grad
    state["v"] *= beta2
    state["v"] += (1 - beta2) * grad * grad
    ### END SOLUTION

# %% check="Adam.moments" points=7
_adam, _state = Adam([Tensor([0.0, 0.0])]), {}


def _memory(name):
    return np.array(_state[name]) if name in _state else "not in state"


_g, _other = np.array([2.0, -2.0], dtype=np.float32), {}
_adam.moments(_g, _state)
check.close("m after gradient [2, -2]", _memory("m"), [0.2, -0.2],
            why="0.9*0 + 0.1*2: the average starts at 0 and moves a tenth of the way")
check.close("v after gradient [2, -2]", _memory("v"), [0.004, 0.004], atol=1e-9,
            why="0.999*0 + 0.001*2²: squares have no sign")
check.equal("the type of m", str(getattr(_state.get("m"), "dtype", "not an array")), "float32",
            why="zeros_like(grad) has grad's type; np.zeros is float64, twice the bytes")
_adam.moments(np.array([8.0, 8.0], dtype=np.float32), _other)
_adam.moments(np.array([1.0, 2.0], dtype=np.float32), _state)
check.close("m after [2, -2] and [1, 2]", _memory("m"), [0.28, 0.02],
            why="0.9*0.2 + 0.1*1 = 0.28; opposite gradients cancel: -0.18 + 0.2 = 0.02")
check.close("v after [2, -2] and [1, 2]", _memory("v"), [0.004996, 0.007996],
            atol=1e-9, why="0.999*0.004 + 0.001*1 = 0.004996, and opposite gradients do not cancel")
check.equal("step", _state.get("step", "not in state"), 2,
            why="two gradients seen by this parameter; the step of another one in between, with a "
                "state of its own, does not count")
check.close("the first gradient afterwards", _g, [2, -2], why="grad is only read")
_adam, _state = Adam([Tensor([0.0])], betas=(0.5, 0.75)), {}
_adam.moments(np.array([4.0], dtype=np.float32), _state)
check.close("m and v with betas (0.5, 0.75), gradient 4", [_memory("m"), _memory("v")], [[2], [4]],
            why="0.5*4 and 0.25*16: the shares are self.betas")

# %% [markdown]
"""
Look at the numbers again. After the first gradient, 2, `m` says 0.2 and `v` says 0.004: both
averages started at 0 and still remember it. How much too small are they? After t steps the weights
inside `m` add up to `1 - 0.9**t` instead of 1. So divide by that:

```
t = 1    m / (1 - 0.9)  = 0.2  / 0.1  = 2         v / (1 - 0.999)  = 0.004    / 0.001    = 4
t = 2    m / (1 - 0.9²) = 0.28 / 0.19 = 1.4737    v / (1 - 0.999²) = 0.004996 / 0.001999 = 2.4992
```

Then the step: `lr · m / (√v + eps)`, with the corrected `m` and `v`. At t = 1 that is lr times 2 /
√4, which is lr, and with a first gradient of 2,000,000 it would be lr as well. A rate of Adam is
therefore a length: a weight rarely moves much further than `lr` in one step, however steep it is.

`eps` stands outside the root. It matters only where gradients are nearly 0, and keeps 0 / 0 away.

A NumPy detail: `np.sqrt` of a Python float is a float64 scalar, and float64 scalars make your
float32 arrays float64 (twice the bytes). For plain numbers write `x ** 0.5`, for arrays `np.sqrt`.
"""

# %% exercise="Adam.adaptive_step"
#| export
@method_of(Adam)
def adaptive_step(self, weights: np.ndarray, grad: np.ndarray, state: dict) -> None:
    """Update the moments with `grad`, then move by lr * m / (sqrt(v) + eps), both corrected.

    Corrected: m / (1 - beta1**step) and v / (1 - beta2**step). weights: changed in place.
    Cost: about 12 FLOPs per weight.
    Source: Kingma & Ba 2014, algorithm 1 and section 3.

    >>> w = np.array([1.0, 1.0])
    >>> Adam([Tensor(w)], lr=0.25).adaptive_step(w, np.array([500.0, -0.002]), {})
    >>> w.round(4).tolist()
    [0.75, 1.25]
    """
    ### BEGIN SOLUTION
    self.moments(grad, state)
    beta1, beta2 = self.betas
    too_small1 = 1 - beta1 ** state["step"]
    too_small2 = 1 - beta2 ** state["step"]
    size = np.sqrt(state["v"]) / too_small2**0.5 + self.eps
    weights -= self.lr / too_small1 * state["m"] / size
    ### END SOLUTION

# %% check="Adam.adaptive_step" points=9
def _walk(grads, weights, **options):
    """The weights after each step with these gradients, an array (steps, weights)."""
    _w, _state, _seen = np.array(weights, dtype=np.float32), {}, []
    _adam = Adam([Tensor(_w)], **options)
    for _g in grads:
        _adam.adaptive_step(_w, np.array(_g, dtype=np.float32), _state)
        _seen.append(_w.copy())
    return np.array(_seen)


check.close("first step, lr 0.1, gradients 500 and -0.002", _walk([[500, -0.002]], [1, 1], lr=0.1),
            [[0.9, 1.1]], why="corrected m = g and √v = |g|: each moves by lr, whatever its slope")
check.close("two steps, lr 0.1, gradients 2 then 1", _walk([[2], [1]], [1], lr=0.1),
            [[0.9], [0.806782]],
            why="0.9 - 0.1 * 1.473684 / √2.499250, with t = 2 in both corrections")
check.close("three steps, betas (0.5, 0.75), gradients 2, -1, 4",
            _walk([[2], [-1], [4]], [1], lr=0.1, betas=(0.5, 0.75)), [[0.9], [0.9], [0.820258]],
            why="m: 1, 0, 2 over 1 - 0.5³ = 0.875; v: 1, 1, 4.75 over 1 - 0.75³ = 0.578125")
check.close("gradient 0", _walk([[0, 1]], [1, 1], lr=0.1), [[1, 0.9]],
            why="0 / (√0 + eps) is 0; without eps it is nan, and nan spreads")
check.close("eps 1, gradient 3, lr 0.1", _walk([[3]], [1], lr=0.1, eps=1.0), [[0.925]],
            why="0.1 * 3 / (√9 + 1) = 0.075: eps is added after the root of the corrected v")
check.close("weight_decay 9, gradient -1, lr 0.1", _walk([[-1]], [1], lr=0.1, weight_decay=9),
            [[1.1]], why="no decay in here: update() does it, and AdamW does it otherwise")

# %% [markdown]
"""
Adam's own weight decay is the one you know: the pull becomes part of the gradient. The next cell
writes that down. Read it closely, because it is where Adam goes wrong.
"""

# %% given="Adam.update"
#| export
@method_of(Adam)
def update(self, weights: np.ndarray, grad: np.ndarray, state: dict) -> None:
    """One step of Adam, the pull of weight decay as part of the gradient."""
    self.adaptive_step(weights, decayed(weights, grad, self.weight_decay), state)

# %% [markdown]
"""
### AdamW: decay that is not divided away

Take two weights of 1.0, decay 0.1, gradients that jump by ±100 for the first and ±0.1 for the
second. The pull on both is 0.1. Adam divides everything by the usual size of the gradient: the
first weight's pull becomes 0.1 / 100, next to nothing, and the second's 0.1 / 0.1, the full step.
The steeper a weight's slope, the less it is held, and nobody asked for that.

AdamW **decouples** the two. First shrink the weights by the factor `1 - lr · weight_decay`, all
alike; then take the adaptive step with the bare gradient. With lr 0.1 and decay 0.1, 1.0 becomes
0.99 first, whatever its gradient. In place, as always.
"""

# %% exercise="AdamW.update"
#| export
class AdamW(Adam):
    """Adam with decoupled weight decay: every weight shrinks by the factor 1 - lr * weight_decay.

    Source: Loshchilov & Hutter 2019, algorithm 2; torch.optim.AdamW.

    >>> w = Tensor([1.0])
    >>> w.grad = np.array([0.0])
    >>> AdamW([w], lr=0.5, weight_decay=0.5).step()
    >>> w
    Tensor([0.75])
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)

    def update(self, weights: np.ndarray, grad: np.ndarray, state: dict) -> None:
        """One step of AdamW: shrink the weights, then the adaptive step, both in place."""
        ### BEGIN SOLUTION
        weights *= 1 - self.lr * self.weight_decay
        self.adaptive_step(weights, grad, state)
        ### END SOLUTION

# %% check="AdamW.update" points=6
def _walk(kind, grads, weights, **options):
    """The weights after each step with these gradients, an array (steps, weights)."""
    _p, _seen = Tensor(np.array(weights, dtype=np.float32)), []
    _optimizer = kind([_p], **options)
    for _g in grads:
        _p.grad = np.array(_g, dtype=np.float32)
        _optimizer.step()
        _seen.append(_p.data.copy())
    return np.array(_seen)


check.close("gradients 0, lr 0.5, weight_decay 0.4",
            _walk(AdamW, [[0], [0]], [1], lr=0.5, weight_decay=0.4), [[0.8], [0.64]],
            why="only the decay is left: 1 - 0.5*0.4 = 0.8 each step")
check.close("gradients 100 and -0.1, lr 0.5, weight_decay 0.4",
            _walk(AdamW, [[100, -0.1]], [1, 1], lr=0.5, weight_decay=0.4), [[0.3, 1.3]],
            why="both shrink to 0.8, then both move by lr against their sign: 0.8 -/+ 0.5")
check.close("the same with Adam's weight decay",
            _walk(Adam, [[100, -0.1]], [1, 1], lr=0.5, weight_decay=0.4), [[0.5, 0.5]],
            why="the pull turns -0.1 into 0.3 and 100 into 100.4: both move by lr")
check.close("two steps, gradients 2 then 1, lr 0.1, weight_decay 0.5",
            _walk(AdamW, [[2], [1]], [1], lr=0.1, weight_decay=0.5), [[0.85], [0.714282]],
            why="0.95*1 - 0.1 = 0.85, then 0.95*0.85 - 0.1*0.932179: averages of the bare gradient")
check.close("eps 1, gradient 3, lr 0.1, weight_decay 0.5",
            _walk(AdamW, [[3]], [1], lr=0.1, eps=1.0, weight_decay=0.5), [[0.875]],
            why="0.95 - 0.1 * 3 / (3 + 1): the gradient enters as it came, neither grown nor shrunk")

# %% [markdown]
"""
### What the optimizer remembers, in bytes

`self.state` is a dict of dicts: `{0: {"momentum": array}, 1: {...}}`, or with `m`, `v` and `step`.
Add up the bytes of the arrays in it; `array.nbytes` is the bytes of one. The step counts are plain
Python numbers, a few bytes per tensor, and do not count. Before the first step there is no state:
zero.
"""

# %% exercise="Optimizer.memory_footprint"
#| export
@method_of(Optimizer)
def memory_footprint(self) -> int:
    """Bytes of all arrays in the state; 0 before the first step.

    >>> w = Tensor([1.0, 2.0, 3.0])
    >>> w.grad = np.ones(3, dtype=np.float32)
    >>> adam = Adam([w])
    >>> adam.step()
    >>> adam.memory_footprint()
    24
    """
    ### BEGIN SOLUTION
    memories = [value for state in self.state.values() for value in state.values()]
    return sum(value.nbytes for value in memories if isinstance(value, np.ndarray))
    ### END SOLUTION

# %% check="Optimizer.memory_footprint" points=3
def _stepped(kind, **options):
    _weights = [Tensor(np.zeros((5, 4))), Tensor(np.zeros(5)), Tensor(np.zeros(7))]
    _weights[0].grad, _weights[1].grad = _weights[0].data + 1, _weights[1].data + 1
    _optimizer = kind(_weights, **options)
    _optimizer.step()
    return _optimizer


check.equal("plain SGD", _stepped(SGD).memory_footprint(), 0, why="it remembers nothing")
check.equal("SGD with momentum: (5, 4) and (5,) stepped, (7,) not",
            _stepped(SGD, momentum=0.9).memory_footprint(), 100,
            why="one float32 per stepped weight: 25 * 4 bytes")
check.equal("Adam on the same", _stepped(Adam).memory_footprint(), 200,
            why="two per stepped weight: 25 * 2 * 4 bytes; the parameter without gradient has none")
check.equal("Adam before its first step", Adam([Tensor(np.zeros(5))]).memory_footprint(), 0,
            why="the arrays are made when they are needed")

# %% [markdown]
"""
### Save and restore

Stop a training run, start it again with fresh velocities and fresh averages, and it takes other
steps than it would have: the loss jumps. The state belongs into the checkpoint. `state_dict()`
returns

```
{"lr": 0.001, "state": {0: {"step": 7, "m": array, "v": array}, 1: {...}}}
```

with **copies** of the arrays. The optimizer goes on changing its own in place; a snapshot that
shares them is no snapshot. `deepcopy` (imported above) copies dicts inside dicts down to the
arrays.
"""

# %% exercise="Optimizer.state_dict"
#| export
@method_of(Optimizer)
def state_dict(self) -> dict:
    """A snapshot to restore from: {"lr": number, "state": {position: {name: array or number}}}.

    Cost: copies the state once.

    >>> Adam([Tensor([1.0])], lr=0.5).state_dict()
    {'lr': 0.5, 'state': {}}
    """
    ### BEGIN SOLUTION
    return {"lr": self.lr, "state": deepcopy(self.state)}
    ### END SOLUTION

# %% check="Optimizer.state_dict" points=3
_a, _b = Tensor([1.0, 2.0]), Tensor([3.0])
_o = SGD([_a, _b], lr=0.5, momentum=0.5)
_a.grad = np.array([4.0, 8.0], dtype=np.float32)
_o.step()
_saved = _o.state_dict()
_b.grad = np.array([1.0], dtype=np.float32)
_o.step()
check.equal("the type of state_dict()", type(_saved).__name__, "dict")
check.equal("keys of state_dict()", sorted(_saved), ["lr", "state"])
check.equal("lr in the snapshot", _saved.get("lr"), 0.5,
            why="a schedule changes the rate while training runs, so it is part of where you stood")
check.equal("positions in the snapshot, after the second parameter's first step",
            sorted(_saved["state"]), [0], why="what happens later must not get into the snapshot")
check.close("velocity in the snapshot, after another step", _saved["state"][0]["momentum"], [4, 8],
            why="the optimizer's own is [6, 12] by now: the snapshot must have an array to itself")
check.equal("its type", type(_saved["state"][0]["momentum"]).__name__, "ndarray",
            why="load_state_dict puts it back, and update() computes with it")
_o = Adam([_a])
_o.step()
check.equal("names in Adam's snapshot", sorted(_o.state_dict()["state"][0]), ["m", "step", "v"],
            why="the whole memory, whatever the optimizer calls it")

# %% [markdown]
"""
Restoring copies in as well: two optimizers restored from one snapshot must not share a velocity.
And it is the last chance to notice a snapshot of another model. Every array in the state has the
shape of its parameter; if one does not, or if the position does not exist, raise `ValueError`
naming the shapes, and do so **before** changing anything. Half-restored is worse than not restored.
"""

# %% exercise="Optimizer.load_state_dict"
#| export
@method_of(Optimizer)
def load_state_dict(self, saved: dict) -> None:
    """Restore what `state_dict()` returned: the rate and, as copies, the whole state.

    Raises ValueError, and changes nothing, for a position that does not exist or an array whose
    shape is not its parameter's, naming both shapes.

    >>> adam = Adam([Tensor([1.0])])
    >>> adam.load_state_dict({"lr": 0.5, "state": {}})
    >>> adam.lr
    0.5
    """
    ### BEGIN SOLUTION
    for index, state in saved["state"].items():
        if index >= len(self.params):
            raise ValueError(f"state of parameter {index}, but there are {len(self.params)}.")
        shape = self.params[index].shape
        for name, value in state.items():
            if isinstance(value, np.ndarray) and value.shape != shape:
                raise ValueError(
                    f"{name} of parameter {index} has shape {value.shape}, the parameter {shape}. "
                    "Was it saved from another model?"
                )
    self.lr = saved["lr"]
    self.state = deepcopy(saved["state"])
    ### END SOLUTION

# %% check="Optimizer.load_state_dict" points=4
_saved = {"lr": 0.5, "state": {0: {"momentum": np.array([4.0, 8.0], dtype=np.float32)}}}
_a, _b = Tensor([0.0, 0.0]), Tensor([0.0])
_a.grad, _b.grad = np.array([2.0, 0.0], dtype=np.float32), np.array([1.0], dtype=np.float32)
_o = SGD([_a, _b], lr=0.1, momentum=0.5)
_o.step()
_wrong = {"lr": 9.0, "state": {0: {"momentum": np.ones(2)}, 1: {"momentum": np.ones(3)}}}
check.raises("a snapshot of another model", ValueError, lambda: _o.load_state_dict(_wrong),
             why="a (3,) velocity for a (1,) parameter: name both", mention=["(3,)", "(1,)"])
check.raises("a snapshot with more parameters", ValueError,
             lambda: _o.load_state_dict({"lr": 9.0, "state": {2: {"momentum": np.ones(1)}}}),
             why="there is no parameter 2", mention=["2"])
check.close("rate and velocity after the refused snapshots",
            [_o.lr, *_o.state[0]["momentum"]], [0.1, 2, 0], why="refused: nothing was changed")
_o.load_state_dict(_saved)
check.equal("lr and positions after loading", [_o.lr, *sorted(_o.state)], [0.5, 0],
            why="exactly what was saved: the state that parameter 1 had before is gone")
_o.step()
check.tensor("the first parameter after one more step", _a, [-2.2, -2.0],
             why="0 - 0.1*2 before; then velocity 0.5*[4, 8] + [2, 0] = [4, 4], times rate 0.5")
check.close("the snapshot afterwards", _saved["state"][0]["momentum"], [4, 8],
            why="loading copies: a second run can start from the same snapshot")
_o, _two = Adam([Tensor(np.zeros((2, 3)))]), {"step": 2, "m": np.ones((2, 3)), "v": np.ones((2, 3))}
for _shape in [(3, 2), (2, 4)]:
    _odd = {"lr": 1.0, "state": {0: {**_two, "v": np.ones(_shape)}}}
    check.raises(f"a snapshot of Adam with v of shape {_shape} for a (2, 3) parameter", ValueError,
                 lambda odd=_odd: _o.load_state_dict(odd), mention=[str(_shape), "(2, 3)"],
                 why="as many numbers or as many rows are not enough: every axis must fit")
_o.load_state_dict({"lr": 0.5, "state": {0: _two}})
check.equal("names in Adam's state after loading", sorted(_o.state.get(0, {})), ["m", "step", "v"],
            why="step is a number and has no shape: it comes back like the arrays")

# %% [markdown]
"""
## Use: three ways down the valley

The valley from the beginning, drawn from above: dots mark rings of equal height, `o` is the path,
`X` the bottom. The first cell only draws. The second walks 30 steps with three of your optimizers,
each at a rate that suits it. Plain SGD leaps from wall to wall and then crawls. Nesterov brakes
before the wall and rolls along the floor. Adam, whose steps do not know how steep a direction is,
sets out diagonally; and because its steps do not shrink with the slope, it wanders around the
bottom. A rate that falls while training runs cures that (module 07).
"""

# %% given="draw"
def draw(path, rows=13, columns=73):
    """Print the valley from above with the points [x, y] of `path`."""
    x, y = np.linspace(-11, 4, columns), np.linspace(1.5, -1.5, rows)
    rings = np.sqrt(height(np.stack(np.meshgrid(x, y), axis=-1)))  # (rows, columns)
    picture = np.where((0.8 * rings).astype(int) % 2, ".", " ")
    marks = [(point, "o") for point in path] + [(np.zeros(2), "X")]
    for (px, py), mark in marks:
        picture[np.abs(y - py).argmin(), np.abs(x - px).argmin()] = mark
    print("\n".join("".join(row) for row in picture))

# %% demo="three_paths"
for kind, options in [(SGD, {"lr": 0.075}), (SGD, {"lr": 0.04, "momentum": 0.7, "nesterov": True}),
                      (Adam, {"lr": 0.4})]:
    point = Tensor([-10.0, 1.2])
    optimizer, path = kind([point], **options), [point.data.copy()]
    for _ in range(30):
        point.grad = slope(point.data)
        optimizer.step()
        path.append(point.data.copy())
    print(f"\n{kind.__name__} {options}: height {height(path[0]):.1f} -> {height(path[-1]):.3f}")
    draw(path)

# %% [markdown]
"""
Now the real thing, with everything you have built: two spirals that no straight line separates, a
network of three layers, gradients from your `backward()`. The same network from the same start, 300
steps, three optimizers at a rate that suits each. What changes is only the rule of the step.
"""

# %% demo="spirals"
from tinytorch.core.activations import Tanh
from tinytorch.core.layers import Linear, Sequential
from tinytorch.core.losses import BCEWithLogitsLoss
from tinytorch.core.tensor import manual_seed

turn = np.linspace(0.5, 3 * np.pi, 100)
arm = np.stack([turn * np.cos(turn), turn * np.sin(turn)], axis=1) / 6
x, y = Tensor(np.concatenate([arm, -arm])), Tensor(np.repeat([[0.0], [1.0]], 100, axis=0))


def train(kind, **options):
    """Train a new network from the same start; print the loss on the way and return the network."""
    manual_seed(0)
    model = Sequential(Linear(2, 32), Tanh(), Linear(32, 32), Tanh(), Linear(32, 1))
    optimizer, losses = kind(model.parameters(), **options), []
    for _ in range(301):
        optimizer.zero_grad()
        loss = BCEWithLogitsLoss()(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    right = ((model(x).data > 0) == y.data).mean()
    print(f"{kind.__name__ + ' ' + str(options):34} loss", *(f"{v:.3f}" for v in losses[::100]),
          f"  right {right:.0%}")
    return model


train(SGD, lr=1.0)
train(SGD, lr=0.3, momentum=0.9)
model = train(Adam, lr=0.01)

# %% [markdown]
"""
What did Adam's network learn? Ask it for each point of the plane: `#` where it says one spiral, a
dot where it says the other, and the training points as `O` and `x`.
"""

# %% demo="spirals_seen"
side = np.linspace(-1.7, 1.7, 57), np.linspace(1.7, -1.7, 27)
plane = np.stack(np.meshgrid(*side), axis=-1)  # (27, 57, 2)
picture = np.where(model(Tensor(plane.reshape(-1, 2))).data.reshape(27, 57) > 0, "#", ".")
for (px, py), label in zip(x.data, y.data[:, 0]):
    picture[np.abs(side[1] - py).argmin(), np.abs(side[0] - px).argmin()] = "O" if label else "x"
print("\n".join("".join(row) for row in picture))

# %% [markdown]
"""
## Measure: what an optimizer costs

A network of layers 784-128-64-10. Before you run the cell, write down for each optimizer: how many
bytes of state per weight? And plain SGD makes two passes over the arrays, a product and a
difference. Count the passes in your Adam: how many times longer will its step take?
"""

# %% demo="what_it_costs"
shapes = [(128, 784), (128,), (64, 128), (64,), (10, 64), (10,)]
for kind, options in [(SGD, {}), (SGD, {"momentum": 0.9}), (Adam, {}), (AdamW, {})]:
    params = [Tensor(np.ones(shape)) for shape in shapes]
    for p in params:
        p.grad = np.full(p.shape, 0.01, dtype=np.float32)
    optimizer, times = kind(params, **options), []
    for _ in range(50):
        start = time.perf_counter()
        optimizer.step()
        times.append(time.perf_counter() - start)
    weights = sum(p.memory_footprint() for p in params)
    memory = optimizer.memory_footprint()
    print(f"{kind.__name__ + ' ' + str(options):22} weights {weights:,} bytes   "
          f"state {memory:,} = {memory / weights:.0f}x   step {np.median(times) * 1e6:6.0f} µs")

# %% [markdown]
"""
Each operation on whole arrays reads them from memory and writes one back, for one addition or
product per number. The reference solution of Adam makes 13 such passes, and the square root and the
two divisions among them are slow ones. Module 18 makes fewer passes.

Training keeps, per weight: the weight, its gradient, and the state. In float32 with plain SGD that
is 8 bytes, with momentum 12, with Adam 16: four times the weights alone, before a single
activation. For the 175 billion parameters of GPT-3 your prediction below says what that means.

## Break: the forgotten zero_grad

Leave `zero_grad()` out and nothing crashes: `backward()` adds each gradient to the old ones. Run
the cell. Minimising `w²/2` from 1, the wrong loop swings to and fro for ever. The third line
explains the symptom: the sum of all old gradients is a velocity of which nothing is ever lost, so
forgetting `zero_grad()` is momentum 1.0, number for number.
"""

# %% demo="forgotten_zero_grad"
def descent(clear, **options):
    """w after each of 12 steps down w²/2 from 1.0."""
    w = Tensor([1.0], requires_grad=True)
    optimizer, seen = SGD([w], lr=0.3, **options), []
    for _ in range(12):
        if clear:
            optimizer.zero_grad()
        (w * w / 2).sum().backward()
        optimizer.step()
        seen.append(w.item())
    return " ".join(f"{value:6.2f}" for value in seen)


print("right                    ", descent(clear=True))
print("wrong, without zero_grad ", descent(clear=False))
print("right, but momentum 1.0  ", descent(clear=True, momentum=1.0))

# %% [markdown]
"""
## Reflect

Predict with pencil and paper, write the number into the cell, and the check says whether it holds.

**1.** The steepest direction of a loss is `400·w²/2`, with gradient `400·w`. Above which learning
rate does plain gradient descent explode?
"""

# %% exercise="predict.largest_rate"
### BEGIN SOLUTION
largest_rate = 2 / 400
### END SOLUTION

# %% check="predict.largest_rate" points=1
check.prediction("largest learning rate for steepness 400", largest_rate, "MC4wMDU=", rel=0.01,
                 why="each step multiplies w by 1 - 400·lr, which must stay above -1")

# %% [markdown]
"""
**2.** The gradient is constantly 1. With momentum 0.95, what does the velocity tend to?
"""

# %% exercise="predict.velocity_limit"
### BEGIN SOLUTION
velocity_limit = 1 / (1 - 0.95)
### END SOLUTION

# %% check="predict.velocity_limit" points=1
check.prediction("velocity after many gradients of 1, momentum 0.95", velocity_limit, "MjAuMA==",
                 rel=0.01, why="where v = 0.95·v + 1 no longer changes v; so a rate that suits "
                               "plain SGD is far too large with momentum")

# %% [markdown]
"""
**3.** Adam with lr 0.01 and no decay, first step. The weight is 3.0 and its gradient is 5,000. What
is the weight after the step?
"""

# %% exercise="predict.adam_first_step"
### BEGIN SOLUTION
adam_first_step = 3.0 - 0.01
### END SOLUTION

# %% check="predict.adam_first_step" points=1
check.prediction("the weight after Adam's first step", adam_first_step, "Mi45OQ==", rel=0.001,
                 why="at t = 1 the corrected m is the gradient and the corrected √v its size")

# %% [markdown]
"""
**4.** GPT-3 has 175 billion parameters. Trained in float32 with Adam, how many terabytes (10¹²
bytes) do weights, gradients and optimizer state take together?
"""

# %% exercise="predict.gpt3_terabytes"
### BEGIN SOLUTION
gpt3_terabytes = 175e9 * 4 * 4 / 1e12
### END SOLUTION

# %% check="predict.gpt3_terabytes" points=1
check.prediction("GPT-3's weights, gradients and Adam's state, terabytes", gpt3_terabytes, "Mi44",
                 rel=0.02, unit="TB", why="four arrays of the size of the weights, 4 bytes each")

# %% [markdown]
"""
**5.** One layer's gradients are usually around 100, another's around 0.01, and both have the same
weights. Which layer is held back less by weight decay?

- a) with Adam's `weight_decay`, the layer with the large gradients; with AdamW, neither
- b) with Adam's `weight_decay`, the layer with the small gradients; with AdamW, neither
- c) with AdamW, the layer with the large gradients; with Adam's `weight_decay`, neither
"""

# %% exercise="predict.held_back_less"
### BEGIN SOLUTION
held_back_less = "a"
### END SOLUTION

# %% check="predict.held_back_less" points=1
check.choice("the layer that decay holds back less", held_back_less, "YQ==", ["a", "b", "c"],
             why="follow the pull through Adam's division by √v, and see where AdamW applies it")

# %% [markdown] question="why_not_adam" points=2
"""
**Open question, graded by a person.** Training with Adam keeps four times the memory of the
weights; Adam needs less tuning, and is what language models are trained with. Convolutional networks are still often trained with SGD and
momentum. Name a reason for each choice, and describe an experiment with your own optimizers, what
you would hold fixed and what you would measure, that could change your mind about one of them.

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch's optimizers take the same steps as yours, to the last digits of float32. Theirs also know
*parameter groups*: a rate and a decay for each part of the model (biases and normalisation scales
are usually not decayed). And they make fewer passes over memory: `foreach` handles all parameters
in one call, `fused` does the whole update in one pass. In JAX's Optax an optimizer is a pair of
pure functions: nothing is changed in place, and the state is passed in and out.

At scale the state is the problem you measured. GPT-3's four arrays are 2.8 TB (2.55 TiB),
activations not counted, and no single accelerator holds that. ZeRO and FSDP cut them into pieces
over the machines, 8-bit optimizers quantize it (module 15 shows how), Adafactor and Lion remember
less. Training in half precision does not save it: weights and gradients take 2 bytes each, but a
float32 copy of the weights and Adam's two averages stay, 16 bytes per parameter once more. We do
not build groups or sharding; the arithmetic would not change.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `NoneType` | a method gives None, or a parameter without a gradient reached the rule | is a `return` missing? Does `step()` skip `param.grad is None`? `update` changes in place and returns nothing |
| `does not support ufuncs` | NumPy met a Tensor | the rules compute with arrays: pass `param.data` and `param.grad` |
| `nan` | the rate is above 2 / steepness, or 0 / 0 in Adam | lower `lr` tenfold; `eps` in the divisor |
| `no parameters` | the model found none, or a generator was read before | `list(model.parameters())` before you pass it |
| `is not a Tensor` | a model or an array was passed | pass `model.parameters()` |
| `KeyError` | an entry that is not there, or not yet | the first step of a parameter starts with an empty dict |
| `has no attribute 'nbytes'` | the step count is a number, not an array | ask `isinstance(value, np.ndarray)` first |
| `truth value of an array` | `if grad` asks an array for yes or no | `if param.grad is not None` |
| `IndexError` | a position in the snapshot that no parameter has | positions go from 0 to `len(self.params) - 1` |
| `another model` | a snapshot whose shapes differ | the same layers in the same order as when it was saved |
"""
