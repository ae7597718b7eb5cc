# %% [markdown]
"""
# 03 · Layers

A layer is a function that carries numbers which can change; this module gives those numbers names,
finds them in a tree of layers, and starts them so that a signal survives fifty layers.

```
you have built     01 Tensor, 02 activations: ReLU, Tanh, Softmax ...
        |
        v
you build now      Module, Linear, Dropout, Flatten, Sequential, starting values
        |
        v
this unlocks       04 losses, then gradients; every network of this course is a Module
```

Time: about 3 hours. The heart of it is one walk over a tree (`Module.named_tensors`); most of what
follows stands on that walk.
"""

# %% given="imports"
#| default_exp core.layers
#| export
import math

import numpy as np

from tinytorch.core.tensor import Tensor, default_generator, zeros

# %% given="tools"
import tito.checks as check
from tinytorch.core.activations import ReLU, Sigmoid, Tanh
from tinytorch.core.tensor import arange, manual_seed, ones, randn, stack
from tito.notebook import method_of

# %% [markdown]
"""
## Why: fifty matrices and nobody in charge

You have tensors, a matrix product and a ReLU. A deep network is only those, repeated. So repeat
them: 50 times multiply by a matrix of random numbers, apply ReLU, and look at how large the
numbers are.
"""

# %% demo="why_layers"
manual_seed(0)
signal, weights = randn(1, 256), []
with np.errstate(over="ignore", invalid="ignore"):
    for layer in range(1, 51):
        w = randn(256, 256)
        weights.append(w)
        signal = ReLU()(signal @ w)
        if layer in (1, 2, 10, 30, 40, 50):
            print(f"layer {layer:2}: largest number {signal.data.max():.3g}")
to_learn = weights[:49]
print(f"numbers in the network: {50 * 256 * 256:,}, in my list: {sum(w.size for w in to_learn):,}")

# %% [markdown]
"""
Two things went wrong, and this module repairs both.

The signal is gone: the numbers grew until float32 had no room for them. They became `inf`, `inf`
minus `inf` is `nan`, and from a `nan` nothing can be learned. Starting values must be chosen, not
just drawn.

And the bookkeeping is a list kept by hand. `weights[:49]` leaves one matrix out, as a tired
programmer would, and nothing complains: that matrix would never learn and never be saved. A
network must be able to say itself what it is made of.

## Foundations: a layer, and a tree of layers

A **linear layer** with 2 inputs and 3 outputs holds a weight matrix `W` of shape `(3, 2)` and a
bias `b` of shape `(3,)`. Row `o` of `W` says how output `o` weighs the inputs:

```
x = [1, 2]       W = [[1 0]      b = [10 20 30]      y[0] = 1*1 + 0*2 + 10 = 11
                      [0 1]                          y[1] = 0*1 + 1*2 + 20 = 22
                      [1 1]]                         y[2] = 1*1 + 1*2 + 30 = 33
```

For a batch the rows of `x` are examples, and each is treated alike:

```
y        =  x        @  W.T       +  b
(N, out)    (N, in)    (in, out)    (out,)      b is broadcast to each row
```

Layers are put into layers. A network is a **tree**; the numbers that learn are its leaves, and the
path from the root to a leaf is the leaf's name:

```
model
 ├─ encoder            "encoder.weight"   (64, 784)
 │   ├─ weight         "encoder.bias"     (64,)
 │   └─ bias           "scale"            ()
 └─ scale
```

With names, a network can be saved, loaded, counted, and handed to an optimizer.

## Build

### Numbers that learn

A `Parameter` is a Tensor that is meant to learn. It differs in nothing but its class and
`requires_grad=True`; the class is how a layer tells "learn this" from "just a tensor".
"""

# %% given="Parameter"
#| export
class Parameter(Tensor):
    """A Tensor that learns: `requires_grad` is True, and modules find it among their attributes.

    >>> Parameter([1.0, 2.0]).requires_grad
    True
    """

    __slots__ = ()

    def __init__(self, data, requires_grad=True):
        super().__init__(data, requires_grad)

# %% [markdown]
"""
### A linear layer, by loops

First the arithmetic, in plain NumPy and plain Python, so that nothing is hidden: for every example
and every output, walk over the inputs. Here `w` has shape `(out, in)`: one row per output. Multiply
single numbers only; NumPy's `@`, `dot` and products of whole rows come back two sections below.
"""

# %% exercise="linear_loops"
#| export
def linear_loops(x, w, b):
    """Linear layer on NumPy arrays by three Python loops: `x @ w.T + b`.

    x: (N, in), w: (out, in), b: (out,); result (N, out) float32. Cost: 2*N*in*out FLOPs.

    >>> linear_loops(np.array([[1, 2]]), np.array([[1, 0], [1, 1]]), np.array([10, 30])).tolist()
    [[11.0, 33.0]]
    """
    ### BEGIN SOLUTION
    rows, features = x.shape
    result = np.zeros((rows, len(w)), dtype=np.float32)
    for n in range(rows):
        for o in range(len(w)):
            total = b[o]
            for i in range(features):
                total = total + x[n, i] * w[o, i]
            result[n, o] = total
    return result
    ### END SOLUTION

# %% check="linear_loops" points=3
_w, _b = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), np.array([10.0, 20.0, 30.0])
_x = np.array([[1.0, 2.0], [3.0, -1.0]])
check.close("linear_loops of the picture above", linear_loops(_x[:1], _w, _b), [[11, 22, 33]],
            why="y[2] = 1*1 + 1*2 + 30 = 33: the bias is added once per output")
check.close("linear_loops of two examples", linear_loops(_x, _w, _b), [[11, 22, 33], [13, 19, 32]],
            why="each row of x is an example of its own: 3 - 1 + 30 = 32")
check.close("linear_loops with W = [[1, 2], [3, 4]]",
            linear_loops(np.array([[1.0, 10.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros(2)),
            [[21, 43]], why="row o of W belongs to output o: 1*1 + 10*2 = 21 and 1*3 + 10*4 = 43")
_y = linear_loops(_x, _w, _b)
check.equal("what comes back", f"{type(_y).__name__} of {getattr(_y, 'dtype', 'no dtype')}",
            "ndarray of float32", why="the framework's numbers are float32, whatever came in")


class _Entries(np.ndarray):
    """An array whose entries can be read, and which refuses to be computed with as a whole."""

    __array_ufunc__ = None

    def __array_function__(self, function, *_):
        raise TypeError(f"np.{function.__name__} of whole arrays")


def _by_entries():
    try:
        return linear_loops(_x.view(_Entries), _w.view(_Entries), _b)
    except TypeError as error:
        return error


check.close("linear_loops on arrays that can only be read entry by entry", _by_entries(),
            [[11, 22, 33], [13, 19, 32]],
            why="x[n, i] * w[o, i], one number at a time: the loops are what this exercise is about")

# %% [markdown]
"""
### Modules: who holds the numbers?

`Module` is the base class of everything that has parameters or contains something that does. Its
promise to the user is short: write an `__init__` that sets attributes and a `forward` that
computes, and the rest comes for free. Calling the module calls `forward`.

Python keeps the attributes of an object in a dictionary, in the order in which they were set:
`vars(module)`. That dictionary is all you need to find out what a module is made of.
"""

# %% given="Module"
#| export
class Module:
    """Base class of layers and networks: `__init__` sets attributes, `forward` computes.

    Attributes that are Parameters learn; attributes that are plain Tensors are saved with the model
    but do not learn; attributes that are Modules are its children.
    """

    training = True

    def __call__(self, *inputs, **options):
        return self.forward(*inputs, **options)

    def forward(self, *inputs):
        """The computation, written by each subclass."""
        raise NotImplementedError(f"{type(self).__name__} has no forward method; define one.")

    def extra_repr(self):
        """What a subclass wants to say about itself in `repr`: its sizes."""
        return ""

    def __repr__(self):
        parts = [f"\n({name}): {part!r}" for name, part in vars(self).items() if callable(part)]
        inner = "".join(parts).replace("\n", "\n  ") + ("\n" if parts else "")
        return f"{type(self).__name__}({self.extra_repr()}{inner})"

# %% [markdown]
"""
Three small modules to try things on: a leaf with one weight, a tree with two leaves, and a forest
with a tree in it. The next checks use them.
"""

# %% given="little_trees"
class Leaf(Module):
    def __init__(self, value):
        self.weight = Parameter([value])
        self.note = "a string"


class Tree(Module):
    def __init__(self):
        self.scale = Parameter(1.0)
        self.average = Tensor([0.5])
        self.left = Leaf(2.0)
        self.right = Leaf(3.0)


class Forest(Module):
    def __init__(self):
        self.tree = Tree()

# %% demo="attributes"
print("vars of a leaf:  ", vars(Leaf(2.0)))
print("names in a tree: ", list(vars(Tree())))
print("and in a forest: ", list(vars(Forest())))

# %% [markdown]
"""
### The walk

Go over the attributes of a module in order. A tensor: report its name and the tensor. A module:
ask *it* the same question, and put its own name and a dot in front of every answer. Anything else
(a number, a string, an activation): skip.

```
Tree()    scale     Parameter  ->  "scale"
          average   Tensor     ->  "average"
          left      Module     ->  "left.weight"           left is asked with the prefix "left."
          right     Module     ->  "right.weight"          right with the prefix "right."

Forest()  tree      Module     ->  "tree.scale"            the tree with the prefix "tree.",
                                   "tree.average"
                                   "tree.left.weight"      its leaves with "tree.left." and
                                   "tree.right.weight"     "tree.right."
```

The `prefix` travels down and grows. Give back the pairs one by one with `yield` (a list of pairs
is just as well), and let `yield from` pass on the answers of a child.

Report every tensor, Parameter or not: some layers keep tensors that do not learn but must be
saved, such as the running averages of module 09. They are called **buffers**.
"""

# %% exercise="Module.named_tensors"
#| export
@method_of(Module)
def named_tensors(self, prefix=""):
    """Pairs (name, tensor) of all Tensors in the tree, in the order of the attributes.

    The name is the path of attribute names, joined with dots, after `prefix`. A tensor that hangs
    in the tree twice is reported twice, under both names.

    >>> module = Module()
    >>> module.scale = Tensor(2.0)
    >>> [name for name, _ in module.named_tensors("net.")]
    ['net.scale']
    """
    ### BEGIN SOLUTION
    for name, value in vars(self).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, Module):
            yield from value.named_tensors(f"{prefix}{name}.")
    ### END SOLUTION

# %% check="Module.named_tensors" points=6
_found = list(Leaf(2.0).named_tensors())
check.equal("names in a module with one weight", [pair[0] for pair in _found], ["weight"],
            why="the string is no tensor and is skipped")
check.tensor("the tensor that comes with the name", _found[0][1], [2.0])
check.equal("names in a tree", [pair[0] for pair in Tree().named_tensors()],
            ["scale", "average", "left.weight", "right.weight"],
            why="own tensors by their name, learning or not; a child's with its name in front")
check.equal("names in a tree inside a module", [pair[0] for pair in Forest().named_tensors()],
            ["tree.scale", "tree.average", "tree.left.weight", "tree.right.weight"],
            why="the prefix grows on the way down: 'tree.' and then 'tree.left.'")


class _Late(Module):
    def __init__(self):
        self.counts = np.zeros(2)
        self.left = Leaf(2.0)
        self.scale = Parameter(1.0)
        self.again = self.scale


check.equal("names of named_tensors('net.') where a tensor was set after a module",
            [pair[0] for pair in _Late().named_tensors("net.")],
            ["net.left.weight", "net.scale", "net.again"],
            why="in the order of the attributes, after the prefix that came in; an array is no Tensor, "
                "and a tensor that hangs in the tree twice is reported twice")
_tree = Tree()
check.true("the very tensor, not a copy",
           dict(_tree.named_tensors()).get("left.weight") is _tree.left.weight,
           why="an optimizer changes what it is given; a copy would change nothing")

# %% [markdown]
"""
Now the tensors that learn: those that are Parameters. And each **once**: networks share parameters
on purpose (a language model may use one table for reading and for writing words), and an optimizer
that got the same parameter twice would step twice. The first name counts. Two parameters are the
same if they are the same object (`id(a) == id(b)`, or `a is b`), not if their numbers happen to
agree.
"""

# %% exercise="Module.named_parameters"
#| export
@method_of(Module)
def named_parameters(self, prefix=""):
    """Pairs (name, parameter) of all Parameters in the tree, each once, under its first name."""
    ### BEGIN SOLUTION
    seen = set()
    for name, tensor in self.named_tensors(prefix):
        if isinstance(tensor, Parameter) and id(tensor) not in seen:
            seen.add(id(tensor))
            yield name, tensor
    ### END SOLUTION

# %% check="Module.named_parameters" points=4
class _Shared(Module):
    def __init__(self):
        self.table = Parameter([[0.0, 0.0]])
        self.average = Tensor([0.5])
        self.frozen = Parameter([1.0], requires_grad=False)
        self.twin = Parameter([[0.0, 0.0]])
        self.head = Leaf(2.0)
        self.head.weight = self.table
        self.tail = Leaf(5.0)


_shared = _Shared()
_pairs = list(_shared.named_parameters())
check.equal("how many parameters", len(_pairs), 4,
            why="table, frozen, twin, tail.weight. The average does not learn, head.weight is the "
                "table again")
check.equal("their names", [pair[0] for pair in _pairs], ["table", "frozen", "twin", "tail.weight"],
            why="frozen is still a Parameter; twin has table's numbers but is another object")
_all = dict(_shared.named_tensors())
check.true("the very parameters", all(pair[1] is _all[pair[0]] for pair in _pairs),
           why="an optimizer changes what it is given")
check.equal("named_parameters(prefix='net.')",
            [pair[0] for pair in _shared.named_parameters("net.")],
            ["net.table", "net.frozen", "net.twin", "net.tail.weight"],
            why="the prefix is handed on")

# %% [markdown]
"""
The next cell is what those two walks make easy: the list for an optimizer, forgetting gradients,
the children and all modules of the tree.
"""

# %% given="walks"
#| export
@method_of(Module)
def parameters(self):
    """List of all Parameters in the tree, each once: what an optimizer wants."""
    return [parameter for _, parameter in self.named_parameters()]


@method_of(Module)
def zero_grad(self):
    """Forget the gradients of all parameters."""
    for parameter in self.parameters():
        parameter.grad = None


@method_of(Module)
def children(self):
    """List of the modules directly inside this one."""
    return [value for value in vars(self).values() if isinstance(value, Module)]


@method_of(Module)
def named_modules(self, prefix=""):
    """Pairs (name, module) of this module and all below it; its own name is `prefix`."""
    yield prefix, self
    for name, value in vars(self).items():
        if isinstance(value, Module):
            yield from value.named_modules(f"{prefix}.{name}" if prefix else name)


@method_of(Module)
def modules(self):
    """List of this module and all modules below it."""
    return [module for _, module in self.named_modules()]

# %% [markdown]
"""
### Training or using?

Some layers behave differently while the network learns: Dropout, which you build below, drops
numbers at random in training and must not in use. So every module has a flag `training`, and one
call on the root must set it in the whole tree. Return the module, so that `model = Net().eval()`
works.
"""

# %% exercise="Module.train"
#| export
@method_of(Module)
def train(self, mode=True):
    """Set `training` to `mode` in this module and all below it; returns the module itself.

    >>> Module().train(False).training
    False
    """
    ### BEGIN SOLUTION
    self.training = mode
    for child in self.children():
        child.train(mode)
    return self
    ### END SOLUTION


@method_of(Module)
def eval(self):
    """Switch to use: `train(False)`."""
    return self.train(False)

# %% check="Module.train" points=3
Module.training, _forest = True, Forest()
check.true("a new module", _forest.training is True and _forest.tree.left.training is True,
           why="training is what a new model is for")
_result, _other = _forest.eval(), Forest()
_flags = (_forest.training, _forest.tree.training, _forest.tree.left.training)
check.equal("training of root, tree and leaf after eval()", _flags, (False, False, False),
            why="a Dropout three levels down must hear of it")
check.true("another model still trains", _other.training is True and _other.tree.left.training is True,
           why="the flag belongs to each module, self.training, not to the class they share")
check.true("eval() returns the module", _result is _forest, why="model = Net().eval() needs it",
           got=type(_result).__name__)
_forest.train()
_forest.tree.left.training = False
_forest.train()
_flags = (_forest.training, _forest.tree.training, _forest.tree.left.training)
check.equal("training of root, tree and leaf after train()", _flags, (True, True, True),
            why="and the way back, also for a leaf that was switched by itself")

# %% [markdown]
"""
### Out and in again: state_dict

A model is saved as a dictionary from names to NumPy arrays, nothing else: no classes, no code.
Copy the arrays. If you hand out the model's own memory, then the "saved" model keeps training
along with the real one, and "go back to the best epoch" goes nowhere.
"""

# %% exercise="Module.state_dict"
#| export
@method_of(Module)
def state_dict(self):
    """Dictionary from the name of every tensor in the tree to a copy of its NumPy array.

    Cost: every byte of the model copied once.
    """
    ### BEGIN SOLUTION
    return {name: tensor.data.copy() for name, tensor in self.named_tensors()}
    ### END SOLUTION

# %% check="Module.state_dict" points=3
_tree = Tree()
_tree.left.weight = _tree.scale
_state = _tree.state_dict()
check.equal("keys of state_dict()", list(_state),
            ["scale", "average", "left.weight", "right.weight"],
            why="buffers are part of the model; a shared tensor is saved under both its names")
_value = _state["right.weight"]
check.equal("the type of a value", f"{type(_value).__name__} of {getattr(_value, 'dtype', 'no dtype')}",
            "ndarray of float32",
            why="plain arrays can be stored in any format and read without this course's code")
check.close("the values", [float(_state["scale"]), float(_state["right.weight"][0])], [1.0, 3.0])
_tree.right.weight.data[...] = 99.0
check.close("a saved value after the model moved on", _state["right.weight"], [3.0],
            why="a saved state that changes with the model saves nothing: copy the array")

# %% [markdown]
"""
Loading is the dangerous direction. A missing name would leave random numbers in the model; a name
too many means that the file belongs to another model; a wrong shape may even *broadcast* and fill
a whole matrix with one number. All three must be errors, and the error must name the culprits: the
reader has a file and a model and needs to know where they differ.

Look at everything first and write afterwards: a load that fails must leave the model as it was.
And copy the numbers into the tensors that are there (`tensor.data[...] = array`), because others
hold on to these very tensors.
"""

# %% exercise="Module.load_state_dict"
#| export
@method_of(Module)
def load_state_dict(self, state):
    """Copy the arrays of `state` (name -> array, as from `state_dict`) into the module's tensors.

    Raises ValueError naming missing names, unexpected names, or a name with both its shapes; then
    nothing has been changed. Cost: every byte copied once.
    """
    ### BEGIN SOLUTION
    own = dict(self.named_tensors())
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    if missing or unexpected:
        raise ValueError(
            f"load_state_dict: missing {missing}, unexpected {unexpected}. "
            "Build the model that this state was saved from."
        )
    for name, tensor in own.items():
        if np.shape(state[name]) != tensor.shape:
            raise ValueError(
                f"load_state_dict: {name} has shape {np.shape(state[name])} in the state "
                f"and {tensor.shape} in the model. Was the model built with the same sizes?"
            )
    for name, tensor in own.items():
        tensor.data[...] = state[name]
    ### END SOLUTION

# %% check="Module.load_state_dict" points=5
_tree = Tree()
_kept = _tree.left.weight
_good = {"scale": np.float32(7.0), "average": np.array([6.0], np.float64),
         "left.weight": np.array([5.0], np.float32), "right.weight": np.array([4.0], np.float32)}
_tree.load_state_dict(_good)
check.close("scale, average, left.weight, right.weight after loading",
            [_tree.scale.item(), *_tree.average.tolist(), *_tree.left.weight.tolist(),
             *_tree.right.weight.tolist()], [7, 6, 5, 4],
            why="every tensor gets the array of its name")
check.tensor("average, loaded from an array of float64", _tree.average, [6.0])
check.true("left.weight is the same Parameter as before", _tree.left.weight is _kept,
           why="an optimizer holds this very object; a new one would never be updated")
_good["right.weight"][0] = -1.0
check.tensor("right.weight after the loaded array was changed", _tree.right.weight, [4.0],
             why="copy the numbers in: model and state must not share memory")
_less = {name: value for name, value in _good.items() if name != "right.weight"}
check.raises("a state without right.weight", ValueError, lambda: _tree.load_state_dict(_less),
             why="it would keep its random numbers, silently", mention=["right.weight"])
check.raises("a state with a name too many", ValueError,
             lambda: _tree.load_state_dict({**_good, "middle.weight": np.ones(1)}),
             why="the file belongs to another model", mention=["middle.weight"])
check.raises("a state with middle.weight in the place of right.weight", ValueError,
             lambda: _tree.load_state_dict({**_less, "middle.weight": np.ones(1)}),
             why="as many names as the model has, and still not its names: compare name by name")
_before = _tree.state_dict()
_wrong = {**_good, "scale": np.float32(0.0), "right.weight": np.ones((2, 1), np.float32)}
check.raises("a state where right.weight has shape (2, 1)", ValueError,
             lambda: _tree.load_state_dict(_wrong), why="say both shapes",
             mention=["right.weight", "(2, 1)", "(1,)"])
check.close("scale after the failed load", _tree.scale.data, _before["scale"],
            why="look at everything first, write afterwards: half-loaded models are the worst kind")
check.raises("a state where left.weight is a single number", ValueError,
             lambda: _tree.load_state_dict({**_good, "left.weight": np.float32(1.0)}),
             why="a shape that broadcasts would fill the whole weight with one number",
             mention=["left.weight"])

# %% [markdown]
"""
### Linear

Everything is in place for the layer itself. Two Parameters: `weight` of shape
`(out_features, in_features)` and `bias` of shape `(out_features,)`, or `bias = None` without one.

Their starting values: PyTorch draws both uniformly between `-1/√in_features` and
`+1/√in_features`. Why the number of inputs? An output is a sum of that many products; the more
there are, the smaller each must be for the sum to stay the same size. The last part of this module
makes that exact.

`uniform_(tensor, low, high)` from the next cell fills a tensor in place and returns it. The `_` at
the end is PyTorch's mark for "changes its argument".
"""

# %% given="fillers"
#| export
def uniform_(tensor, low=0.0, high=1.0):
    """Fill `tensor` in place with uniform random numbers between `low` and `high`; returns it."""
    tensor.data[...] = default_generator.uniform(low, high, tensor.shape)
    return tensor


def normal_(tensor, mean=0.0, std=1.0):
    """Fill `tensor` in place with normal random numbers of that mean and spread; returns it."""
    tensor.data[...] = default_generator.normal(mean, std, tensor.shape)
    return tensor

# %% exercise="Linear"
#| export
class Linear(Module):
    """Linear layer `y = x @ weight.T + bias`, on the last axis of x.

    x: (..., in_features), y: (..., out_features); weight (out_features, in_features), bias
    (out_features,) or None. Both start uniform within ±1/sqrt(in_features).
    Source: torch.nn.Linear.

    >>> Linear(3, 2).weight.shape
    (2, 3)
    """

    def __init__(self, in_features, out_features, bias=True):
        self.in_features, self.out_features = in_features, out_features
        ### BEGIN SOLUTION
        bound = 1 / math.sqrt(in_features)
        weight = Parameter(zeros(in_features, out_features).T)  # so x @ W.T reads memory in order
        self.weight = uniform_(weight, -bound, bound)
        self.bias = uniform_(Parameter(zeros(out_features)), -bound, bound) if bias else None
        ### END SOLUTION

    def extra_repr(self):
        """The sizes, as PyTorch prints them."""
        sizes = f"in_features={self.in_features}, out_features={self.out_features}"
        return f"{sizes}, bias={self.bias is not None}"

# %% check="Linear" points=4
manual_seed(0)
_layer = Linear(100, 400)
check.equal("names of the parameters", sorted(name for name, _ in _layer.named_parameters()),
            ["bias", "weight"], why="the walk finds attributes that are Parameters")
check.equal("shapes of weight and bias", (_layer.weight.shape, _layer.bias.shape),
            ((400, 100), (400,)), why="one row of weights and one bias per output")
_w, _b = _layer.weight.data, _layer.bias.data
check.close("smallest and largest weight of Linear(100, 400)", [_w.min(), _w.max()], [-0.1, 0.1],
            rtol=0.01, why="uniform between -1/√100 and +1/√100, on both sides of 0")
check.close("spread of the weights", _w.std(), 0.1 / 3**0.5, rtol=0.02,
            why="uniform numbers within ±a have standard deviation a/√3")
check.close("smallest and largest bias", [_b.min(), _b.max()], [-0.1, 0.1], rtol=0.05,
            why="the bias is drawn from the same interval")
manual_seed(0)
check.true("the same numbers after manual_seed(0)", np.array_equal(Linear(100, 400).weight.data, _w),
           why="draw with uniform_, from the framework's one generator, or no run can be repeated")
check.true("Linear(3, 2, bias=False).bias is None", Linear(3, 2, bias=False).bias is None,
           why="no bias, no parameter: the walk must find the weight alone")

# %% [markdown]
"""
Now the computation, in one line of **Tensor operations**: `@`, `.T` and `+`, not `.data`. From
here on this is the rule for every layer. The numbers would be the same either way; but in module
05 each Tensor operation learns to remember its inputs, and a layer that slips out to NumPy will
have no memory and never learn.
"""

# %% exercise="Linear.forward"
#| export
@method_of(Linear)
def forward(self, x):
    """`x @ weight.T + bias`, (..., in_features) -> (..., out_features), in Tensor operations.

    Cost: 2*in_features*out_features FLOPs per row.

    >>> Linear(3, 2)(zeros(5, 3)).shape
    (5, 2)
    """
    ### BEGIN SOLUTION
    y = x @ self.weight.T
    return y if self.bias is None else y + self.bias
    ### END SOLUTION

# %% check="Linear.forward" points=4
_layer = Linear(2, 2)
_layer.weight.data[...] = [[1.0, 2.0], [3.0, 4.0]]
_layer.bias.data[...] = [100.0, 200.0]
check.tensor("W = [[1, 2], [3, 4]], b = [100, 200], x = [[1, 10]]", _layer(Tensor([[1.0, 10.0]])),
             [[121, 243]], why="row 0 of W: 1*1 + 10*2 + 100 = 121; row 1: 1*3 + 10*4 + 200 = 243")
_layer = Linear(3, 2, bias=False)
_layer.weight.data[...] = [[1.0, 0.0, -1.0], [2.0, 2.0, 2.0]]
check.tensor("Linear(3, 2, bias=False) on a batch of two", _layer(Tensor([[1, 2, 3], [4, 5, 7]])),
             [[-2, 12], [-3, 32]], why="1 - 3 = -2 and 2 * (1 + 2 + 3) = 12; no bias to add")
check.equal("shape for x of shape (5, 4, 3)", _layer(ones(5, 4, 3)).shape, (5, 4, 2),
            why="only the last axis is the layer's business")
_layer = Linear(3, 2)
check.connected("y from x, from the weight and from the bias", lambda x, weight, bias: _layer(x),
                ones(1, 3), _layer.weight, _layer.bias,
                why="NumPy remembers nothing: what was computed on .data could never learn")

# %% [markdown]
"""
### Flatten

Images come as `(N, 28, 28)`, a linear layer wants `(N, 784)`. `Flatten` merges all axes from
`start_dim` on, which is 1 by default: the examples of the batch stay apart. Your Tensor can do it.
"""

# %% exercise="Flatten.forward"
#| export
class Flatten(Module):
    """Merges the axes from `start_dim` on: (N, C, H, W) -> (N, C*H*W). Cost: none, it is a view."""

    def __init__(self, start_dim=1):
        self.start_dim = start_dim

    def forward(self, x):
        """x with its axes from `start_dim` on merged into one.

        >>> Flatten()(zeros(64, 28, 28)).shape
        (64, 784)
        """
        ### BEGIN SOLUTION
        return x.flatten(self.start_dim)
        ### END SOLUTION

    def extra_repr(self):
        """Where flattening starts."""
        return f"start_dim={self.start_dim}"

# %% check="Flatten.forward" points=2
_x = arange(12).reshape(2, 3, 2)
check.tensor("Flatten() on (2, 3, 2)", Flatten()(_x), [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]],
             why="each example keeps its own row")
check.tensor("Flatten(start_dim=0)", Flatten(start_dim=0)(_x), list(range(12)),
             why="from axis 0 on, everything is merged")
check.equal("Flatten(start_dim=2) on (2, 3, 2, 5)", Flatten(start_dim=2)(zeros(2, 3, 2, 5)).shape,
            (2, 3, 10), why="axes 0 and 1 stay, 2 * 5 = 10")
check.connected("the result from x", Flatten(), _x,
                why="NumPy's reshape remembers nothing: the layers below would never learn")

# %% [markdown]
"""
### Dropout

A network that always sees all its features learns to lean on a few of them. **Dropout** takes some
away: in training each number becomes 0 with probability `p`, drawn anew on every call, for every
number by itself. What survives is divided by `1 - p`:

```
x               [2    2    2    2  ]     p = 0.5
kept?           [yes  no   no   yes]
dropout(x)      [4    0    0    4  ]     the mean is still 2
```

Why divide? Each number survives with probability `1 - p`, so the average is
`(1 - p) * x / (1 - p) = x`: the next layer sees sums of the same size in training and in use. In
use (`eval()`) the input passes unchanged, at no cost.

Draw from `default_generator`, the framework's one source of chance, so that `manual_seed` repeats
the same masks: `default_generator.random(shape)` gives uniform numbers in [0, 1), and a fraction
`p` of them lies below `p`. As before, apply the mask with a Tensor operation.
"""

# %% exercise="Dropout.forward"
#| export
class Dropout(Module):
    """Zeroes each number with probability `p` in training and scales the others by 1 / (1 - p).

    Raises ValueError unless 0 <= p < 1.
    Source: Srivastava et al. 2014, in the inverted form of torch.nn.Dropout.
    """

    def __init__(self, p=0.5):
        if not 0 <= p < 1:
            raise ValueError(f"Dropout: p = {p} must be at least 0 and less than 1.")
        self.p = p

    def forward(self, x):
        """x with a fresh random mask in training, x itself in use.

        >>> Dropout(0.5).eval()(Tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
        """
        ### BEGIN SOLUTION
        if not self.training or self.p == 0:
            return x
        kept = default_generator.random(x.shape) >= self.p
        return x * (kept.astype(x.data.dtype) / (1 - self.p))
        ### END SOLUTION

    def extra_repr(self):
        """The probability of a zero."""
        return f"p={self.p}"

# %% check="Dropout.forward" points=4
_drop, _x = Dropout(0.2), ones(100, 100) * 4.0
manual_seed(0)
_y = np.array(_drop(_x).data)
_kept, _zero = _y[_y != 0], _y == 0
check.equal("Dropout(0.2): fraction of zeros", round(float(_zero.mean()), 1), 0.2,
            why="p is the probability of a zero, not of survival")
check.close("what became of the surviving 4s", [_kept.min(), _kept.max()], [5, 5],
            why="4 / (1 - 0.2) = 5, for each survivor, so that the mean stays 4")
check.equal("do rows differ, do columns differ?",
            (bool((_zero != _zero[:1]).any()), bool((_zero != _zero[:, :1]).any())), (True, True),
            why="every number is dropped by itself, not whole columns or whole rows")
check.close("smallest and largest number of x afterwards", [_x.data.min(), _x.data.max()], [4, 4],
            why="other layers may need x as it was: the result is a new tensor")
manual_seed(0)
_first, _second = _drop(_x), _drop(_x)
check.true("the next call drops other numbers", (_first.data != _second.data).any(),
           why="one fixed mask would be a smaller network, not dropout")
check.true("manual_seed(0) brings the first mask back", np.array_equal(_first.data, _y),
           why="draw from default_generator, or no run can be repeated")
check.tensor("Dropout(0.2).eval()", Dropout(0.2).eval()(Tensor([1.0, -2.0])), [1, -2],
             why="in use nothing is dropped and nothing is scaled")
check.connected("the result from x", _drop, _x,
                why="NumPy remembers nothing: the layers below the Dropout would never learn")
check.equal("names in a used Dropout's state_dict", list(_drop.state_dict()), [],
            why="a Tensor kept in self is a buffer, saved with the model; a mask is for one call")

# %% [markdown]
"""
### Sequential

Most networks are a chain: the output of one layer is the input of the next. `Sequential` stores
its layers as attributes named `"0"`, `"1"`, `"2"` …, so that your walk finds them and calls their
weights `"0.weight"`, `"2.weight"`, as PyTorch does. Your activations of module 02 are no Modules
(they have nothing to learn); anything that can be called may be a layer.

You write `forward`. The rest of the class, which makes it behave like a list, stands around it.
"""

# %% exercise="Sequential.forward"
#| export
class Sequential(Module):
    """A chain of layers (modules, activations, anything callable): each gets the last one's output.

    Indexable, iterable, with a length; a slice is a Sequential of the same layers.
    Raises TypeError for a layer that cannot be called, or a class that was not called.

    >>> Sequential(Flatten(), Linear(4, 3), Linear(3, 2))(zeros(5, 2, 2)).shape
    (5, 2)
    """

    def __init__(self, *layers):
        for position, layer in enumerate(layers):
            self._set(position, layer)

    def _set(self, position, layer):
        if isinstance(layer, type):
            raise TypeError(
                f"Sequential: layer {position} is the class {layer.__name__}, "
                f"not a layer. Write {layer.__name__}(...)."
            )
        if not callable(layer):
            raise TypeError(
                f"Sequential: layer {position} is a {type(layer).__name__}, which cannot be "
                "called. Unpack a list of layers with a star: Sequential(*layers)."
            )
        setattr(self, str(position), layer)

    @property
    def layers(self):
        """The layers, a list."""
        return [layer for name, layer in vars(self).items() if name.isdigit()]

    def forward(self, x):
        """The last layer's output for input x of the first."""
        ### BEGIN SOLUTION
        for layer in self.layers:
            x = layer(x)
        return x
        ### END SOLUTION

    def __len__(self):
        return len(self.layers)

    def __iter__(self):
        return iter(self.layers)

    def __getitem__(self, index):
        chosen = self.layers[index]
        return Sequential(*chosen) if isinstance(index, slice) else chosen

    def __setitem__(self, index, layer):
        self._set(range(len(self))[index], layer)

# %% check="Sequential.forward" points=3
_chain = Sequential(lambda x: x + 1.0, lambda x: x * 10.0, lambda x: x - 3.0)
check.tensor("(x + 1), then * 10, then - 3, of 2", _chain(Tensor([2.0])), [27],
             why="(2 + 1) * 10 - 3 = 27: in order, each layer fed by the one before")
_a, _b = Linear(2, 2), Linear(2, 1)
_a.weight.data[...], _a.bias.data[...] = [[1.0, 0.0], [0.0, 1.0]], [0.0, -5.0]
_b.weight.data[...], _b.bias.data[...] = [[1.0, 1.0]], [0.5]
check.tensor("Linear, ReLU, Linear, after eval()",
             Sequential(_a, ReLU(), _b).eval()(Tensor([[3.0, 4.0]])), [[3.5]],
             why="[3, 4 - 5] = [3, -1], ReLU makes [3, 0], and 3 + 0 + 0.5 = 3.5")
check.tensor("Sequential()", Sequential()(Tensor([1.0])), [1], why="no layers change nothing")

# %% [markdown]
"""
### Starting values: keep the signal's size

Back to the fifty layers that overflowed. An output of a layer is a sum of `n` products. If weights
and inputs are independent and the weights are centred at 0, the mean squares of the products add:

```
y          =  w1 * x1  +  w2 * x2  +  ...  +  wn * xn
mean of y²  =  n * (variance of w) * (mean of x²)
```

With `n = 256` and weights of variance 1, each layer makes the mean square 256 times larger. To
keep it, the variance of `w` should be `1/n`, its standard deviation `1/√n`. That is all there is
to it; the named recipes differ in what they count as `n`.

`n` going forward is **fan-in**, the inputs of one output. Gradients run backwards, from outputs to
inputs, and for them `n` is **fan-out**, the outputs fed by one input. For a weight `(out, in)`
these are `in` and `out`. Convolution kernels of module 09 have shape `(out, in, kh, kw)`: each
output looks at `kh * kw` places of each input channel, so both fans are multiplied by the number
of places.
"""

# %% exercise="fans"
#| exporti
def fans(tensor):
    """(fan_in, fan_out) of a weight: inputs of one output, and outputs fed by one input.

    tensor: (out, in) or a kernel (out, in, *places). Raises ValueError, naming the shape, if it has
    fewer than two axes.

    >>> fans(zeros(5, 3)), fans(zeros(8, 3, 2, 2))
    ((3, 5), (12, 32))
    """
    ### BEGIN SOLUTION
    if tensor.ndim < 2:
        raise ValueError(f"fans: {tensor.shape} needs two axes, (out, in); a bias has no fans.")
    out_features, in_features, *places = tensor.shape
    return in_features * math.prod(places), out_features * math.prod(places)
    ### END SOLUTION

# %% check="fans" points=3
check.equal("fans of a (5, 3) weight", fans(zeros(5, 3)), (3, 5),
            why="weight is (out, in): 3 inputs per output, 5 outputs per input")
check.equal("fans of a (16, 4, 3, 3) kernel", fans(zeros(16, 4, 3, 3)), (36, 144),
            why="9 places: 4 * 9 = 36 inputs of one output, 16 * 9 = 144 outputs of one input")
check.equal("fans of a (2, 3, 5) kernel", fans(zeros(2, 3, 5)), (15, 10),
            why="5 places: 3 * 5 and 2 * 5")
check.raises("fans of a bias (7,)", ValueError, lambda: fans(zeros(7)),
             why="a bias has no fan; say which shape came", mention=["(7,)"])

# %% [markdown]
"""
**Xavier** (Glorot and Bengio, 2010) wants both directions and takes the average of the two fans as
`n`: the variance is `1 / ((fan_in + fan_out) / 2)`, so

```
std = gain * √(2 / (fan_in + fan_out))
```

`gain` is there for whatever follows the layer and shrinks the signal; 1 means "nothing does".
`normal_(tensor, std=...)` does the filling.
"""

# %% exercise="xavier_normal_"
#| export
def xavier_normal_(tensor, gain=1.0):
    """Fill a weight in place with normal numbers of std gain * sqrt(2 / (fan_in + fan_out)).

    Returns the tensor. Source: Glorot & Bengio 2010; torch.nn.init.xavier_normal_.
    """
    ### BEGIN SOLUTION
    return normal_(tensor, std=gain * math.sqrt(2 / sum(fans(tensor))))
    ### END SOLUTION

# %% check="xavier_normal_" points=2
manual_seed(0)
_w = zeros(600, 200)
_array, _result = _w.data, xavier_normal_(_w)
check.true("the tensor given is filled and returned", _result is _w,
           why="the _ in the name says: in place", got=type(_result).__name__)
check.true("its array is the one it had", _w.data is _array,
           why="write into tensor.data[...], as normal_ does: a new array would be a float64 one, and "
               "whoever holds the old one would see nothing")
check.close("standard deviation for (600, 200)", _w.data.std(), 0.05, rtol=0.02,
            why="√(2 / (200 + 600)) = √0.0025 = 0.05")
check.close("standard deviation with gain=3", xavier_normal_(zeros(600, 200), gain=3.0).data.std(),
            0.15, rtol=0.02, why="3 * 0.05: the gain multiplies the spread")
check.close("the mean", _w.data.mean(), 0.0, atol=0.001, why="centred at 0")
check.close("standard deviation for (400, 50, 2, 2)",
            xavier_normal_(zeros(400, 50, 2, 2)).data.std(), 0.0333333, rtol=0.02,
            why="√(2 / (50 * 4 + 400 * 4)) = √(1 / 900): the fans of a kernel count its places")
_draws = []
for _ in range(2):
    manual_seed(0)
    _draws.append(xavier_normal_(zeros(600, 200)).data)
check.true("the same numbers after manual_seed(0)", np.array_equal(*_draws),
           why="draw with normal_, from the framework's one generator, or no run can be repeated")

# %% [markdown]
"""
The same spread can be had from **uniform** numbers, which have no far-out values. Numbers uniform
between `-a` and `a` have variance `a²/3` (check: the mean of `x²` over that interval). So for a
wanted standard deviation, how large must `a` be?
"""

# %% exercise="xavier_uniform_"
#| export
def xavier_uniform_(tensor, gain=1.0):
    """Fill a weight in place with uniform numbers within ±a, of the same std as `xavier_normal_`.

    Returns the tensor. Source: Glorot & Bengio 2010; torch.nn.init.xavier_uniform_.
    """
    ### BEGIN SOLUTION
    bound = gain * math.sqrt(6 / sum(fans(tensor)))
    return uniform_(tensor, -bound, bound)
    ### END SOLUTION

# %% check="xavier_uniform_" points=2
manual_seed(0)
_tensor = zeros(600, 200)
_w, _result = _tensor.data, xavier_uniform_(_tensor)
check.true("the tensor given is filled and returned", _result is _tensor,
           why="the _ in the name says: in place", got=type(_result).__name__)
check.close("standard deviation for (600, 200)", _w.std(), 0.05, rtol=0.02,
            why="as xavier_normal_: √(2 / 800) = 0.05")
check.close("smallest and largest number", [_w.min(), _w.max()], [-0.0866025, 0.0866025], rtol=0.01,
            why="a²/3 = 0.05², so a = √3 * 0.05 = √(6 / 800)")
check.close("standard deviation with gain=3", xavier_uniform_(zeros(600, 200), gain=3.0).data.std(),
            0.15, rtol=0.02, why="3 * 0.05")
check.close("standard deviation for (400, 50, 2, 2)",
            xavier_uniform_(zeros(400, 50, 2, 2)).data.std(), 0.0333333, rtol=0.02,
            why="√(2 / (50 * 4 + 400 * 4)) = √(1 / 900): the fans of a kernel count its places")

# %% [markdown]
"""
ReLU breaks the balance: it sets half of a centred signal to 0, so half of the mean square is gone
at every layer. **Kaiming** (He et al., 2015) puts it back: twice the variance, which is `√2` in
the standard deviation. That factor is the *gain* of the activation; the next cell has PyTorch's
table.

```
std = gain / √fan          fan: fan_in, or fan_out with mode="fan_out"
```
"""

# %% given="gains"
#| export
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2)}


def calculate_gain(nonlinearity):
    """Factor for the spread of weights that makes up for an activation. Source: torch.nn.init."""
    if nonlinearity not in GAINS:
        raise ValueError(f"calculate_gain: {nonlinearity!r} is none of {', '.join(GAINS)}.")
    return GAINS[nonlinearity]

# %% exercise="kaiming_normal_"
#| export
def kaiming_normal_(tensor, mode="fan_in", nonlinearity="relu"):
    """Fill a weight in place with normal numbers of std gain / sqrt(fan).

    mode: "fan_in" keeps the signal's size, "fan_out" the gradient's. Returns the tensor.
    Source: He et al. 2015; torch.nn.init.kaiming_normal_.
    """
    ### BEGIN SOLUTION
    fan_in, fan_out = fans(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    return normal_(tensor, std=calculate_gain(nonlinearity) / math.sqrt(fan))
    ### END SOLUTION


def kaiming_uniform_(tensor, mode="fan_in", nonlinearity="relu"):
    """Fill a weight in place with uniform numbers of the same std as `kaiming_normal_`."""
    fan_in, fan_out = fans(tensor)
    fan = fan_in if mode == "fan_in" else fan_out
    bound = calculate_gain(nonlinearity) * math.sqrt(3 / fan)
    return uniform_(tensor, -bound, bound)

# %% check="kaiming_normal_" points=3
manual_seed(0)
_w = zeros(800, 200)
_result = kaiming_normal_(_w)
check.true("the tensor given is filled and returned", _result is _w,
           why="the _ in the name says: in place", got=type(_result).__name__)
check.close("standard deviation for (800, 200)", _w.data.std(), 0.1,
            rtol=0.02, why="√2 / √200 = √0.01 = 0.1: fan-in is the second size")
check.true("some numbers lie more than 3 standard deviations out", np.abs(_w.data).max() > 0.3,
           why="normal numbers do, about 1 in 370; uniform ones end at √3 standard deviations")
check.close("with nonlinearity='linear'",
            kaiming_normal_(zeros(800, 200), nonlinearity="linear").data.std(), 0.0707107,
            rtol=0.02, why="gain 1: 1 / √200")
check.close("with nonlinearity='tanh'",
            kaiming_normal_(zeros(800, 200), nonlinearity="tanh").data.std(), 0.117851, rtol=0.02,
            why="gain 5/3: 1.6667 / √200")
check.close("with mode='fan_out'", kaiming_normal_(zeros(800, 200), mode="fan_out").data.std(),
            0.05, rtol=0.02, why="√2 / √800 = √0.0025 = 0.05")
check.close("standard deviation for (400, 50, 2, 2)",
            kaiming_normal_(zeros(400, 50, 2, 2)).data.std(), 0.1, rtol=0.02,
            why="fan-in is 50 * 4 = 200")

# %% [markdown]
"""
## Use: a network from a list of sizes

Now all of it together with module 02. A **multilayer perceptron** flattens its input, then
alternates Linear and ReLU; after the last Linear comes nothing, because the outputs are to be free
numbers. For `sizes = [4, 3, 2]`:

```
Sequential(Flatten(), Linear(4, 3), ReLU(), Linear(3, 2))
```
"""

# %% exercise="mlp"
def mlp(sizes):
    """Sequential: Flatten, then a Linear for each pair of neighbouring sizes, ReLU between them."""
    ### BEGIN SOLUTION
    layers = [Flatten()]
    for position in range(len(sizes) - 1):
        if position > 0:
            layers.append(ReLU())
        layers.append(Linear(sizes[position], sizes[position + 1]))
    return Sequential(*layers)
    ### END SOLUTION

# %% check="mlp" points=3
manual_seed(0)
_model = mlp([4, 3, 2])
check.equal("names in mlp([4, 3, 2])", sorted(_model.state_dict()),
            ["1.bias", "1.weight", "3.bias", "3.weight"],
            why="Flatten is 0, Linear 1, ReLU 2, Linear 3, and only Linears have parameters")
check.equal("shapes of 1.weight and 3.weight", (_model[1].weight.shape, _model[3].weight.shape),
            ((3, 4), (2, 3)), why="4 -> 3 -> 2, each weight (out, in)")
_x, _p = np.linspace(-2, 2, 24, dtype=np.float32).reshape(6, 2, 2), _model.state_dict()
_hidden = np.maximum(_x.reshape(6, 4) @ _p["1.weight"].T + _p["1.bias"], 0)
check.tensor("mlp([4, 3, 2]) on (6, 2, 2)", _model(Tensor(_x)),
             _hidden @ _p["3.weight"].T + _p["3.bias"],
             why="the same computed with NumPy from its state_dict; no ReLU after the last layer")
check.equal("layers of mlp([8, 4, 4, 4, 1])",
            [type(layer).__name__ for layer in mlp([8, 4, 4, 4, 1])],
            ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear", "ReLU", "Linear"],
            why="four pairs of sizes make four Linears and three ReLUs between them")

# %% [markdown]
"""
What does a network compute before it has learned anything? Ask it for every point of the plane.
The picture is a random function; learning will mean changing 1,185 numbers until the picture is
the one you want.
"""

# %% demo="random_network"
manual_seed(4)
net = Sequential(Linear(2, 32), Tanh(), Linear(32, 32), Tanh(), Linear(32, 1), Sigmoid())
for layer in net[::2]:
    normal_(layer.weight, std=2.5 / math.sqrt(layer.in_features))
ys, xs = np.mgrid[-1:1:19j, -1:1:64j] * 2
image = net(stack([Tensor(xs), Tensor(ys)], axis=2))  # (19, 64, 2) -> (19, 64, 1)
for row in image.data[:, :, 0]:
    print("".join(" .:-=+*#%@"[int(value * 9.999)] for value in row))
print(net)
print(sum(p.size for p in net.parameters()), "parameters:", ", ".join(net.state_dict()))

# %% [markdown]
"""
## Measure: where the memory goes

A network's memory has two parts. **Parameters** are there once, whatever the batch.
**Activations**, the outputs of the layers, are there once *per example*; training must keep all of
them, as you will see in module 05. Before you run the cell, guess: for 784 → 512 → 512 → 10, which
is the first batch size in the table whose activations outgrow the parameters: 8, 64, 256, 512 or
1024?
"""

# %% demo="parameter_and_activation_memory"
model = mlp([784, 512, 512, 10])
parameter_bytes = sum(p.memory_footprint() for p in model.parameters())
print("batch   parameters    activations   bar: one # per 200 kB of activations")
for batch in (1, 8, 64, 256, 512, 1024):
    x, activation_bytes = zeros(batch, 28, 28), 0
    for layer in model:
        x = layer(x)
        if not isinstance(layer, Flatten):  # a view of the input: no memory of its own
            activation_bytes += x.memory_footprint()
    bar = "#" * (activation_bytes // 200_000)
    print(f"{batch:5} {parameter_bytes:12,} {activation_bytes:14,}   {bar}")

# %% [markdown]
"""
Linear layers are heavy in parameters and light in activations. Convolutions are the other way
round: few weights, used at thousands of places. That is why "the model does not fit" so often
means "the batch does not fit".

### Fifty layers, drawn

Predict before you run: 50 layers of Linear (no bias) and ReLU, 256 wide, an input of typical size
1. Four ways to start the weights: normal with standard deviation 1; with 0.01; Xavier; Kaiming.
Which of the four signals arrives?

The vertical axis is the power of ten of the signal's size (the root of its mean square) after each
layer. `^` has left the picture as `inf` or `nan`, `v` has become exactly 0.
"""

# %% demo="fifty_layers"
def sizes_through(depth, start):
    """Root mean square of a batch after each of `depth` Linear-ReLU layers started by `start`."""
    manual_seed(0)
    x, sizes = randn(32, 256), []
    for _ in range(depth):
        layer = Linear(256, 256, bias=False)
        start(layer.weight)
        x = ReLU()(layer(x))
        sizes.append(float(np.sqrt(np.mean(x.data.astype(np.float64) ** 2))))
    return sizes


starts = {"1": lambda w: normal_(w, std=1.0), "0": lambda w: normal_(w, std=0.01),
          "x": xavier_normal_, "K": kaiming_normal_}
top, bottom, canvas = 40, -45, {}
with np.errstate(all="ignore"):
    for mark, start in starts.items():
        for column, size in enumerate(sizes_through(50, start)):
            power = math.log10(size) if 0 < size < math.inf else bottom if size == 0 else top
            sign = mark if 0 < size < math.inf else "v" if size == 0 else "^"
            canvas[column, round(power / 5)] = sign
for level in range(top // 5, bottom // 5 - 1, -1):
    line = "".join(canvas.get((column, level), " ") for column in range(50))
    print(f"10^{level * 5:4} |{line}")
print("        +" + "-" * 50, " layer 1 to 50")
print("1: std 1   0: std 0.01   x: Xavier   K: Kaiming")

# %% [markdown]
"""
Straight lines on a logarithmic axis: every layer multiplies by the same factor. With standard
deviation 1 the factor is √(256/2), about 11; with 0.01 it is a hundredth of that; Xavier gives
√(1/2) because it does not know of the ReLU; Kaiming gives 1. Fifty layers turn any factor but 1
into a disaster, and gradients will go the same way backwards.

## Break: layers that nobody can find

A network with several hidden layers wants to keep them in a list. The walk looks at attributes; a
list is neither a Tensor nor a Module. Both networks below have the same four layers and compute
the same kind of function. In one of them, three layers would never learn.
"""

# %% demo="hidden_in_a_list"
class Wrong(Module):
    def __init__(self):
        self.hidden = [Linear(8, 8) for _ in range(3)]
        self.out = Linear(8, 1)

    def forward(self, x):
        for layer in self.hidden:
            x = ReLU()(layer(x))
        return self.out(x)


class Right(Wrong):
    def __init__(self):
        self.hidden = Sequential(*[Linear(8, 8) for _ in range(3)])
        self.out = Linear(8, 1)


for net in (Wrong(), Right()):
    names = [name for name, _ in net.named_parameters()]
    print(f"{type(net).__name__}: output {net(ones(1, 8)).shape}, {len(names)} parameters: {names}")

# %% [markdown]
"""
The symptom in practice: training works a little, because `out` learns, and stalls at a poor
result; the saved file is much too small; after loading, the predictions are different ones. Count
your parameters once, by hand, for every new network.

## Reflect

Predict with pencil and paper, write the answer into the cell, and the check says whether it holds.

**1.** How many numbers does `mlp([784, 256, 10])` learn?
"""

# %% exercise="predict.mlp_parameters"
### BEGIN SOLUTION
mlp_parameters = 784 * 256 + 256 + 256 * 10 + 10
### END SOLUTION

# %% check="predict.mlp_parameters" points=1
check.prediction("parameters of mlp([784, 256, 10])", mlp_parameters,
                 "MjAzNTMwLjA=", rel=0.00001,
                 why="each Linear has in * out weights and out biases; ReLU and Flatten have none")

# %% [markdown]
"""
**2.** The same network. Count as activations the outputs of its two Linears and its ReLU. From
which batch size on do the activations take more memory than the parameters?
"""

# %% exercise="predict.batch_size"
### BEGIN SOLUTION
batch_size = (784 * 256 + 256 + 256 * 10 + 10) / (256 + 256 + 10)
### END SOLUTION

# %% check="predict.batch_size" points=1
check.prediction("batch size where activations outgrow parameters", batch_size, "Mzg5LjkwNDIxNDU1OTM4Njk2",
                 unit="examples",
                 why="parameters divided by activations per example; both are float32, so bytes cancel")

# %% [markdown]
"""
**3.** Xavier weights in square layers, each followed by ReLU. By what factor has the signal's size
(the root of its mean square) shrunk after 20 layers? Write a number larger than 1.
"""

# %% exercise="predict.shrink_factor"
### BEGIN SOLUTION
shrink_factor = 2 ** (20 / 2)
### END SOLUTION

# %% check="predict.shrink_factor" points=1
check.prediction("shrinking through 20 layers of Xavier and ReLU", shrink_factor, "MTAyNC4w",
                 why="each ReLU halves the mean square; the size is its root")

# %% [markdown]
"""
**4.** A model with Dropout is tested, and `model.eval()` was forgotten. What do you see?

- a) outputs that are too small on average, because numbers are missing
- b) outputs that change from call to call, right on average but noisy
- c) the same outputs: Dropout only matters when gradients are computed
"""

# %% exercise="predict.forgotten_eval"
### BEGIN SOLUTION
forgotten_eval = "b"
### END SOLUTION

# %% check="predict.forgotten_eval" points=1
check.choice("testing without eval()", forgotten_eval, "Yg==", ["a", "b", "c"],
             why="the mask is drawn whenever training is True, and the survivors are scaled up")

# %% [markdown] question="why_not_zero" points=2
"""
**Open question.** Why not start all weights at 0, or all at the same small number? Take a network
with two hidden units and follow what both compute, and what both would be told to change. Why may
the biases be 0 all the same?

*Your answer, graded by a person:*
"""

# %% [markdown]
"""
## In production

PyTorch's `Module` does not scan its attributes; it intercepts `self.weight = ...` and files
Parameters, buffers and children in three dictionaries at that moment, which is faster to ask and
the reason why its subclasses must call `super().__init__()` first. Buffers are registered by name
there; here every plain Tensor attribute is one. Lists have the same trap, and `nn.ModuleList` is
the way out. Its modules also carry hooks and move between devices; ours do not. JAX libraries
(Equinox, Flax) turn the picture round: parameters are a tree of arrays handed to pure functions,
so that the walk you wrote becomes a general tool for any tree.

PyTorch's default for Linear, the interval ±1/√in, is older than Kaiming's analysis: its standard
deviation is 1/√(3·in), which shrinks a ReLU signal at every layer. Networks of any depth set their
own start, or normalise inside, as you will in module 09. Large networks are not started from one
formula for all layers: GPT-2 divides the starting weights of its residual layers by the root of
their number.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `inner sizes` | a Linear got another number of features than its `in_features`, or a matrix stands on the wrong side of the product | print the shape before the layer; a missing `Flatten`, a missing `.T`, or sizes of neighbours that differ |
| `load_state_dict: missing` | the state comes from a model with other layers, or layers sit in a list | compare `list(model.state_dict())` with the file's names |
| `has no forward method` | a Module subclass without `forward`, or the name is misspelt | the class body; is `forward` indented inside the class? |
| `which cannot be called` | a list of layers given to Sequential as one argument | unpack it with a star |
| `is the class` | `ReLU` was written where `ReLU()` was meant | the arguments of Sequential |
| `'NoneType'` | a function or a `forward` that ends without `return`, or a bias that is None was added | the last line of the function; `bias=False` |
| `does not support ufuncs` | a NumPy function was called on a Tensor | the Tensor's own method, or its `.data` where no gradient is wanted |
| `'tuple' object cannot be interpreted` | a shape was given as one tuple to `zeros`, `ones` or `randn` | sizes one by one: `zeros(3, 2)`, or `zeros(*shape)` |
| `'generator' object` | a walk that uses `yield` was used like a list, or passed on whole | `yield from` for a child's answers; `list(...)` or `dict(...)` around a walk |
| `has no attribute 'weight'`, `has no attribute 'bias'` | `__init__` sets a local name, or sets it in one branch only | `self.weight = ...`; `self.bias = None` without a bias |
| `maximum recursion` | a module that contains itself, such as a child that keeps its parent | attributes set in `__init__` |
"""
