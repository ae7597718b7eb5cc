# %% [markdown]
"""
# 01 · Tensor

A tensor is an array of numbers that knows its shape, its bytes and its arithmetic; everything else
in this course, up to a transformer that answers questions, is built from it.

```
you have built     nothing yet: Python, NumPy and an empty file
        |
        v
you build now      Tensor: create, add, multiply, matmul, sum, reshape, index
        |
        v
this unlocks       02 activations, then layers, losses, gradients, training
```

Time: about 3 hours. Every exercise is a cell with a hole in it, and the cell below it checks your
answer. Run `tito watch` in a terminal beside this notebook: each time you save, it re-checks.
"""

# %% given="imports"
#| default_exp core.tensor
#| export
import numpy as np

# %% given="tools"
import sys
import time

import tito.checks as check
from tito.notebook import method_of


def python_steps(call):
    """How many lines of Python run while `call()` runs: work handed to NumPy counts as none."""
    steps, before = 0, sys.gettrace()

    def watch(frame, event, argument):
        nonlocal steps
        steps += event == "line"
        return watch

    sys.settrace(watch)
    try:
        call()
    finally:
        sys.settrace(before)
    return steps

# %% [markdown]
"""
## Why: lists of numbers are not enough

A neural network is millions of multiplications and additions over grids of numbers. Python has
lists, so why not lists? Run the next cell. Three things go wrong: `+` glues lists instead of adding
them, every number costs several times the bytes it needs, and a plain sum of squares crawls.
"""

# %% demo="why_not_lists"
print("[1, 2] + [3, 4]       ->", [1, 2] + [3, 4])
numbers = [float(i) for i in range(100_000)]
array = np.array(numbers, dtype=np.float32)
list_bytes = sys.getsizeof(numbers) + sum(sys.getsizeof(x) for x in numbers)
print(f"100,000 numbers, list  -> {list_bytes:,} bytes")
print(f"100,000 numbers, array -> {array.nbytes:,} bytes")

start = time.perf_counter()
sum(x * x for x in numbers)
list_time = time.perf_counter() - start
start = time.perf_counter()
(array * array).sum()
array_time = time.perf_counter() - start
print(f"sum of squares         -> list {list_time * 1e3:.2f} ms, array {array_time * 1e3:.2f} ms")

# %% [markdown]
"""
NumPy arrays fix all three: one block of memory, one type, loops in compiled code. Your `Tensor`
wraps such an array. Why wrap it at all? Because in module 05 every tensor will also remember how it
was computed, and that memory is what learns.

## Foundations: shape is everything

```
scalar   ()         7.0
vector   (3,)       [1. 2. 3.]
matrix   (2, 3)     [[1. 2. 3.]        2 rows, 3 columns
                     [4. 5. 6.]]
batch    (64, 28, 28)                  64 images of 28 by 28 pixels
```

The **shape** is a tuple of sizes, one per **axis**. The number of elements is the product of the
sizes. Each element is a `float32`: 4 bytes, about 7 decimal digits. So the bytes of a tensor are
known before it exists: elements times 4. You will use that sum in every module of this course.

## Build

### A tensor from anything

A `Tensor` takes a number, nested lists, an array or another tensor, and always ends up with a
float32 NumPy array in `.data`. Two other attributes are there from the first day and sleep until
module 05: `requires_grad` (should this tensor learn?) and `grad` (how should it change?).

Look at `__slots__`: it lists the only attributes a tensor may have. That makes tensors smaller and
faster, and a misspelt attribute an error instead of a silent new one.

`Tensor.dtype` is `np.float32`. Write `Tensor.dtype` rather than `np.float32` in your code: module 05
raises it to float64 for a moment to measure slopes precisely.
"""

# %% exercise="Tensor"
#| export
class Tensor:
    """An n-dimensional array of float32 numbers, and later of gradients.

    data: number, nested lists, NumPy array or Tensor; an array that is float32 already is shared,
    not copied. requires_grad: whether gradients are recorded for it (from module 05 on).
    Cost: 4 bytes per element.

    >>> Tensor([[1, 2], [3, 4]]).data.dtype
    dtype('float32')
    """

    __slots__ = ("_node", "data", "grad", "requires_grad")
    __array_ufunc__ = None  # np.exp(tensor) is an error, array + tensor calls the tensor
    dtype = np.float32

    def __init__(self, data, requires_grad=False):
        self.requires_grad = requires_grad
        self.grad = None
        self._node = None
        ### BEGIN SOLUTION
        if isinstance(data, Tensor):
            data = data.data
        self.data = np.asarray(data, dtype=Tensor.dtype)
        ### END SOLUTION

# %% check="Tensor" points=4
_t = Tensor([[1, 2], [3, 4]])
check.true("Tensor([[1, 2], [3, 4]]).data is a NumPy array", isinstance(_t.data, np.ndarray),
           why="nested lists become one block of memory", got=_t.data)
check.equal("Tensor([[1, 2], [3, 4]]).data.dtype", str(_t.data.dtype), "float32",
            why="integers and float64 are converted: one type everywhere, 4 bytes per number")
check.tensor("Tensor([[1, 2], [3, 4]])", _t, [[1, 2], [3, 4]])
check.tensor("Tensor(np.float64 array)", Tensor(np.array([0.5, 1.5])), [0.5, 1.5],
             why="NumPy's own default is float64; ours never is")
check.tensor("Tensor(3)", Tensor(3), 3, why="a number is a tensor of shape ()")
check.tensor("Tensor(Tensor([1, 2]))", Tensor(Tensor([1, 2])), [1, 2],
             why="a tensor of a tensor is the same numbers, not an array of objects")
_a = np.ones(3, dtype=np.float32)
check.same_storage("Tensor(float32 array)", Tensor(_a), _a,
                   why="an array that is float32 already need not be copied: results of every "
                       "operation come this way")
Tensor.dtype = np.float64
try:
    _wide = Tensor([1, 2]).data.dtype
finally:
    Tensor.dtype = np.float32
check.equal("Tensor([1, 2]).data.dtype while Tensor.dtype is np.float64", str(_wide), "float64",
            why="module 05 will do just that to measure slopes: ask Tensor.dtype, not np.float32")
check.equal("Tensor([3.0], requires_grad=True).requires_grad",
            Tensor([3.0], requires_grad=True).requires_grad, True,
            why="weights will be made like this; the given lines of __init__ keep the flag")

# %% [markdown]
"""
The next cell gives you what is mere bookkeeping: the shape, a readable `repr`, and ways out of the
tensor. `@method_of(Tensor)` adds a function to the class, so that the class can grow one cell at a
time. Cells that begin with `#| export` go into your package when you complete the module, and each
method is written inside the class there, as you would have typed it.
"""

# %% given="attributes"
#| export
@method_of(Tensor)
@property
def shape(self):
    """Sizes of the axes, a tuple: `Tensor([[1, 2, 3]]).shape` is `(1, 3)`."""
    return self.data.shape


@method_of(Tensor)
@property
def ndim(self):
    """Number of axes."""
    return self.data.ndim


@method_of(Tensor)
@property
def size(self):
    """Number of elements: the product of the shape."""
    return self.data.size


@method_of(Tensor)
def __len__(self):
    """Size of the first axis."""
    return len(self.data)


@method_of(Tensor)
def __repr__(self):
    numbers = np.array2string(self.data, separator=", ", prefix="Tensor(")
    return f"Tensor({numbers}{', requires_grad=True' if self.requires_grad else ''})"


@method_of(Tensor)
def __array__(self, dtype=None, copy=None):
    """The data when NumPy asks for an array: `np.asarray(tensor)`."""
    return np.array(self.data, dtype=dtype, copy=copy)


@method_of(Tensor)
def numpy(self):
    """The float32 NumPy array of this tensor, shared, not copied."""
    return self.data


@method_of(Tensor)
def item(self):
    """The Python number in a tensor of one element."""
    return self.data.item()


@method_of(Tensor)
def tolist(self):
    """Nested Python lists of the numbers."""
    return self.data.tolist()


@method_of(Tensor)
def clone(self):
    """A copy with memory of its own."""
    return Tensor(self.data.copy())


@method_of(Tensor)
def detach(self):
    """The same numbers (shared) without a gradient history."""
    return Tensor(self.data)


@method_of(Tensor)
def backward(self, gradient=None):
    """Sleeps until module 05 builds it."""

# %% [markdown]
"""
### How many bytes?

`[[1., 2.], [3., 4.]]` has 4 elements of 4 bytes: 16 bytes. Write the method that says so. Compute it
from the number of elements and the bytes of one element (`self.data.itemsize`).
"""

# %% exercise="Tensor.memory_footprint"
#| export
@method_of(Tensor)
def memory_footprint(self):
    """Bytes that the elements occupy.

    >>> Tensor([[1.0, 2.0], [3.0, 4.0]]).memory_footprint()
    16
    """
    ### BEGIN SOLUTION
    return self.data.size * self.data.itemsize
    ### END SOLUTION

# %% check="Tensor.memory_footprint" points=2
check.equal("memory_footprint() of [[1., 2.], [3., 4.]]",
            Tensor([[1.0, 2.0], [3.0, 4.0]]).memory_footprint(), 16,
            why="4 elements of 4 bytes each")
check.equal("memory_footprint() of shape (3, 5, 2)", Tensor(np.zeros((3, 5, 2))).memory_footprint(),
            120, why="3 * 5 * 2 = 30 elements of 4 bytes")
check.equal("memory_footprint() of a scalar", Tensor(7.0).memory_footprint(), 4,
            why="the empty product is 1: a scalar has one element")
check.equal("memory_footprint() of an empty tensor", Tensor(np.zeros((0, 3))).memory_footprint(), 0,
            why="no elements, no bytes")

# %% [markdown]
"""
### Broadcasting: which shapes go together?

You may add a `(2, 3)` matrix and a `(3,)` vector: the vector is used for each row, without being
copied. The rule compares the shapes **from the right**:

```
(2, 3)        (2, 1)        (4, 1, 3)        (2, 3)
   (3)           (3)           (2, 1)           (2)
------        ------        ---------        ------
(2, 3)        (2, 3)        (4, 2, 3)        error: 3 against 2
```

Two sizes go together if they are equal or if one of them is 1; the result takes the other one. A
missing axis counts as 1. Write the rule down as code, without asking NumPy: you will meet it in
every module, and NumPy's own answer stops at 64 axes. Careful with size 0: it is an ordinary size,
so 0 against 1 gives 0.
"""

# %% exercise="broadcast_shapes"
#| export
def broadcast_shapes(a, b):
    """Shape of the result when shapes `a` and `b` (tuples of int) broadcast.

    Raises ValueError that names both shapes and the two sizes that do not go together.

    >>> broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    ### BEGIN SOLUTION
    ndim = max(len(a), len(b))
    left = (1,) * (ndim - len(a)) + tuple(a)
    right = (1,) * (ndim - len(b)) + tuple(b)
    result = []
    for m, n in zip(left, right):
        if m != n and m != 1 and n != 1:
            raise ValueError(
                f"shapes {tuple(a)} and {tuple(b)} do not broadcast: sizes {m} and {n} differ "
                "and neither is 1. Reshape one side so that the sizes agree from the right."
            )
        result.append(n if m == 1 else m)
    return tuple(result)
    ### END SOLUTION

# %% check="broadcast_shapes" points=5
def _broadcast(a, b):
    try:
        return broadcast_shapes(a, b)
    except ValueError:
        return "a ValueError, although these shapes go together"


check.equal("broadcast_shapes((2, 3), (3,))", _broadcast((2, 3), (3,)), (2, 3),
            why="the missing axis on the left counts as 1")
check.equal("broadcast_shapes((2, 1), (3,))", _broadcast((2, 1), (3,)), (2, 3),
            why="1 against 3 gives 3, and the missing axis against 2 gives 2")
check.equal("broadcast_shapes((4, 1, 3), (2, 1))", _broadcast((4, 1, 3), (2, 1)), (4, 2, 3),
            why="compare from the right: 3|1, 1|2, 4|missing")
check.equal("broadcast_shapes((5,), (2, 4, 5))", _broadcast((5,), (2, 4, 5)), (2, 4, 5),
            why="either side may be the shorter one")
check.equal("broadcast_shapes((), ())", _broadcast((), ()), (), why="two scalars")
check.equal("broadcast_shapes((0, 1), (1, 4))", _broadcast((0, 1), (1, 4)), (0, 4),
            why="an axis of size 0 meets an axis of size 1: the 1 gives way, so 0 remains")
_many = _broadcast((1,) * 69 + (3,), (2, 1))
check.equal("the last three sizes of broadcast_shapes((1,) * 69 + (3,), (2, 1))",
            _many[-3:] if isinstance(_many, tuple) else _many, (1, 2, 3),
            why="the rule does not care how many axes there are; NumPy gives up above 64")
check.raises("broadcast_shapes((2, 3), (2,))", ValueError, lambda: broadcast_shapes((2, 3), (2,)),
             why="3 against 2: neither is 1. Aligning from the left would be a silent bug",
             mention=["(2, 3)", "(2,)"])

# %% [markdown]
"""
### Arithmetic, entry by entry

Every entry-by-entry operation has the same three steps: **unwrap** the arrays, **apply** NumPy's
function (it broadcasts by the rule you just wrote), **wrap** the result in a new `Tensor`. Write the
three steps once, and all operators become one line each.

Either operand may be a tensor, a number or an array, and a number has no `.data`: `_array(value)`
gives what NumPy can compute with in all three cases. When the shapes do not go together, NumPy
raises a `ValueError`; call your `broadcast_shapes` then, because its message is the better one.
"""

# %% exercise="elementwise"
#| export
def _array(value):
    """The array behind a Tensor; numbers and arrays as they are."""
    return value.data if isinstance(value, Tensor) else value


def elementwise(op, a, b):
    """Tensor of `op(a, b)` entry by entry; `op` is a NumPy function such as `np.add`.

    a, b: Tensor, array or number, of shapes that broadcast.
    Raises ValueError naming both shapes if they do not broadcast.
    Cost: one pass over the result, 4 bytes written per element.
    """
    ### BEGIN SOLUTION
    a, b = _array(a), _array(b)
    try:
        return Tensor(op(a, b))
    except ValueError:
        broadcast_shapes(np.shape(a), np.shape(b))
        raise
    ### END SOLUTION

# %% check="elementwise" points=4
_x, _y = Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([10.0, 20.0])
check.tensor("elementwise(np.add, (2, 2), (2,))", elementwise(np.add, _x, _y), [[11, 22], [13, 24]],
             why="the vector is added to each row")
check.tensor("x afterwards", _x, [[1, 2], [3, 4]],
             why="an operation makes a new tensor; x + y must not change x")
check.tensor("elementwise(np.subtract, x, 1)", elementwise(np.subtract, _x, 1), [[0, 1], [2, 3]],
             why="a number broadcasts against everything, and order matters: x - 1")
check.tensor("elementwise(np.subtract, 1, x)", elementwise(np.subtract, 1, _x), [[0, -1], [-2, -3]],
             why="the tensor may be the right operand: 1 - x")
check.tensor("elementwise(np.multiply, x, array)", elementwise(np.multiply, _x, np.array([2.0, 0.5])),
             [[2, 1], [6, 2]], why="a float64 array joins in, and the result is float32 all the same")
check.raises("elementwise(np.add, (2, 2), (3,))", ValueError,
             lambda: elementwise(np.add, _x, Tensor([1.0, 2.0, 3.0])),
             why="the message must name both shapes, so that the reader can find the line",
             mention=["(2, 2)", "(3,)"])

# %% given="operators"
#| export
@method_of(Tensor)
def __add__(self, other):
    """Sum, entry by entry: `x + y`."""
    return elementwise(np.add, self, other)


@method_of(Tensor)
def __sub__(self, other):
    """Difference, entry by entry: `x - y`."""
    return elementwise(np.subtract, self, other)


@method_of(Tensor)
def __mul__(self, other):
    """Product, entry by entry: `x * y` (the matrix product is `x @ y`)."""
    return elementwise(np.multiply, self, other)


@method_of(Tensor)
def __truediv__(self, other):
    """Quotient, entry by entry: `x / y`."""
    return elementwise(np.divide, self, other)


@method_of(Tensor)
def __pow__(self, exponent):
    """Power, entry by entry: `x ** 2`."""
    return elementwise(np.power, self, exponent)


@method_of(Tensor)
def __neg__(self):
    """`-x`."""
    return Tensor(-self.data)


Tensor.__radd__ = Tensor.__add__
Tensor.__rmul__ = Tensor.__mul__

# %% [markdown]
"""
Python asks the left operand first. For `2 - x` that is the number 2, which knows nothing of tensors;
so Python asks `x`, by calling `x.__rsub__(2)`. For `+` and `*` the order of the operands does not
matter, so the cell above reuses the same method. For `-` it does.
"""

# %% exercise="Tensor.__rsub__"
#| export
@method_of(Tensor)
def __rsub__(self, other):
    """`other - self`, called by Python for `2 - x`.

    >>> (2 - Tensor([0.0, 5.0])).tolist()
    [2.0, -3.0]
    """
    ### BEGIN SOLUTION
    return elementwise(np.subtract, other, self)
    ### END SOLUTION

# %% check="Tensor.__rsub__" points=2
check.tensor("2 - Tensor([0., 5.])", 2 - Tensor([0.0, 5.0]), [2, -3], why="2 - 0 = 2 and 2 - 5 = -3")
check.tensor("array - tensor", np.array([1.0, 1.0]) - Tensor([0.25, 2.0]), [0.75, -1.0],
             why="arrays hand over to the tensor too")

# %% given="more_operators"
#| export
@method_of(Tensor)
def __rtruediv__(self, other):
    """`other / self`, called for `1 / x`."""
    return elementwise(np.divide, other, self)


@method_of(Tensor)
def __rpow__(self, other):
    """`other ** self`, called for `2 ** x`."""
    return Tensor(other) ** self


@method_of(Tensor)
def exp(self):
    """e to the power of each entry."""
    return Tensor(np.exp(self.data))


@method_of(Tensor)
def log(self):
    """Natural logarithm of each entry; -inf at 0, nan below."""
    return Tensor(np.log(self.data))


@method_of(Tensor)
def sqrt(self):
    """Square root of each entry."""
    return Tensor(np.sqrt(self.data))


@method_of(Tensor)
def abs(self):
    """Absolute value of each entry."""
    return Tensor(np.abs(self.data))


@method_of(Tensor)
def clamp(self, min=None, max=None):
    """Each entry limited to the interval [min, max]; None leaves that side open."""
    return Tensor(np.clip(self.data, min, max))

# %% [markdown]
"""
Comparisons are left out on purpose. Python then falls back to its own: `x == y` asks whether the two
names stand for the same object, so it is `False`, silently, for two tensors with equal numbers, and
`x > 0` is a `TypeError`. Compare the arrays instead: `x.data > 0`.

### Matrix multiplication, by loops

The one operation that matters most. `C = A @ B` for `A` of shape `(m, k)` and `B` of shape `(k, n)`:
entry `(i, j)` of `C` is row `i` of `A` times column `j` of `B`, summed.

```
[1 2]   [5 6]   [1*5 + 2*7   1*6 + 2*8]   [19 22]
[3 4] @ [7 8] = [3*5 + 4*7   3*6 + 4*8] = [43 50]
```

So there are `m * n` entries, each with `k` multiplications and `k` additions: `2 * m * k * n`
floating-point operations (**FLOPs**). Write it with three loops over plain NumPy arrays, one product
of two numbers at a time. It will be slow. How slow, you will predict and then measure.

This cell has no `#| export`, and that is deliberate: your package gets the fast product of the next
exercise, and the loops stay here as the yardstick for it.
"""

# %% exercise="matmul_loops"
def matmul_loops(a, b):
    """Matrix product of two NumPy arrays, (m, k) @ (k, n) -> (m, n) float32, by three Python loops.

    Cost: 2*m*k*n FLOPs, one Python step each.

    >>> matmul_loops(np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]])).tolist()
    [[19.0, 22.0], [43.0, 50.0]]
    """
    ### BEGIN SOLUTION
    m, k = a.shape
    n = b.shape[1]
    result = np.zeros((m, n), dtype=np.float32)
    for i in range(m):
        for j in range(n):
            total = 0.0
            for p in range(k):
                total += a[i, p] * b[p, j]
            result[i, j] = total
    return result
    ### END SOLUTION

# %% check="matmul_loops" points=4
_a, _b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
check.close("matmul_loops of [[1, 2], [3, 4]] and [[5, 6], [7, 8]]", matmul_loops(_a, _b),
            [[19, 22], [43, 50]], why="1*5 + 2*7 = 19: a row of A meets a column of B")
_a, _b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
check.close("matmul_loops (2, 3) @ (3, 4)", matmul_loops(_a, _b),
            [[20, 23, 26, 29], [56, 68, 80, 92]],
            why="the result has A's rows and B's columns; the size in the middle is summed away")
check.close("matmul_loops (1, 3) @ (3, 1)", matmul_loops(_a[:1], _b[:, :1]), [[20]],
            why="0*0 + 1*4 + 2*8 = 20, still a matrix of shape (1, 1)")
_c = matmul_loops(_a, _b)
check.equal("what matmul_loops returns", f"{type(_c).__name__} of {getattr(_c, 'dtype', 'numbers')}",
            "ndarray of float32", why="an array, as the arguments are, and 4 bytes per entry")
_a, _b = np.ones((2, 50)), np.ones((50, 2))
check.true("(2, 50) @ (50, 2) takes at least 200 steps of Python",
           python_steps(lambda: matmul_loops(_a, _b)) >= 200,
           why="2 * 2 entries of 50 products each; with @, np.dot or whole rows NumPy loops for you, "
               "and the measurement below would compare BLAS with BLAS")

# %% [markdown]
"""
### Matrix multiplication, by BLAS

NumPy hands `@` to a **BLAS** library (Basic Linear Algebra Subprograms), decades of work on this one
operation. Your method unwraps, multiplies and wraps. Before that it looks at the sizes that meet:

```
(2, 3) @ (3, 4)         3 meets 3           -> (2, 4)
(2, 3) @ (3,)           3 meets 3           -> (2,)         a vector has one size only
(5, 2, 3) @ (5, 3, 4)   3 meets 3           -> (5, 2, 4)    five products, one per batch entry
(2, 3) @ (4, 5)         3 against 4         error
(2, 3) @ ()             3 against nothing   error           a scalar has no size: * was meant
```

On the left it is always the last size. On the right it is the second-to-last, except that a vector
offers the only one it has. (Axes before those two are a batch and broadcast as usual.) If the sizes
that meet differ, raise a `ValueError` with both shapes in it: a message that says `inner sizes 3 and 4
differ` saves its reader an evening.
"""

# %% exercise="Tensor.__matmul__"
#| export
@method_of(Tensor)
def __matmul__(self, other):
    """Matrix product: (..., m, k) @ (..., k, n) -> (..., m, n); vectors and batches as NumPy.

    Raises ValueError naming both shapes and the inner sizes if they differ, or for a scalar.
    Cost: 2*m*k*n FLOPs per matrix.

    >>> (Tensor([[1.0, 2.0]]) @ Tensor([[3.0], [4.0]])).tolist()
    [[11.0]]
    """
    ### BEGIN SOLUTION
    a, b = self.data, np.asarray(_array(other))
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(f"matmul: {a.shape} @ {b.shape}: a scalar has no rows. Use * instead.")
    inner = b.shape[0] if b.ndim == 1 else b.shape[-2]
    if a.shape[-1] != inner:
        raise ValueError(
            f"matmul: {a.shape} @ {b.shape}: inner sizes {a.shape[-1]} and {inner} differ. "
            "Transpose one side, or check in_features."
        )
    if a.ndim > 2 or b.ndim > 2:
        broadcast_shapes(a.shape[:-2], b.shape[:-2])  # the batch axes, with the better message
    return Tensor(a @ b)
    ### END SOLUTION

# %% check="Tensor.__matmul__" points=4
check.tensor("[[1, 2], [3, 4]] @ [[5, 6], [7, 8]]",
             Tensor([[1, 2], [3, 4]]) @ Tensor([[5, 6], [7, 8]]), [[19, 22], [43, 50]],
             why="rows times columns, not entry by entry")
_a, _b = np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)
check.tensor("(2, 3) @ (3, 4)", Tensor(_a) @ Tensor(_b), [[20, 23, 26, 29], [56, 68, 80, 92]],
             why="the same numbers as your loops")
check.tensor("(2, 3) @ (3,)", Tensor(_a) @ Tensor([1.0, 0.0, -1.0]), [-2, -2],
             why="a matrix times a vector is a vector")
check.tensor("a batch: (2, 1, 3) @ (2, 3, 1)",
             Tensor([[[1, 2, 0]], [[3, 4, 1]]]) @ Tensor([[[1], [1], [5]], [[2], [0], [1]]]),
             [[[3]], [[7]]],
             why="leading axes are a batch: one small product per entry")
check.raises("(2, 3) @ (3, 4, 5)", ValueError,
             lambda: Tensor(np.ones((2, 3))) @ Tensor(np.ones((3, 4, 5))),
             why="3 against 4: with three axes the first is the batch, and the 4 is what meets",
             mention=["(2, 3)", "(3, 4, 5)"])
check.raises("(2, 3) @ (4, 5)", ValueError, lambda: Tensor(np.ones((2, 3))) @ Tensor(np.ones((4, 5))),
             why="name both shapes: the reader sees at once which side to transpose",
             mention=["(2, 3)", "(4, 5)"])
check.raises("(2, 3) @ scalar", ValueError, lambda: Tensor(np.ones((2, 3))) @ Tensor(2.0),
             why="a scalar has no inner size; * is what was meant", mention=["(2, 3)"])

# %% given="rmatmul"
#| export
@method_of(Tensor)
def __rmatmul__(self, other):
    """`other @ self`, called for `array @ x`."""
    return Tensor(other) @ self

# %% [markdown]
"""
### Reductions: fewer numbers, one axis gone

`axis` names the axis that **disappears**. For a `(2, 3)` tensor:

```
[[1 2 3]      sum(axis=0) -> [5 7 9]     down the columns: 2 disappears, shape (3,)
 [4 5 6]]     sum(axis=1) -> [6 15]      along the rows:   3 disappears, shape (2,)
              sum()       -> 21          everything, shape ()
              sum(axis=1, keepdims=True) -> [[6] [15]]   3 becomes 1, shape (2, 1)
```

`keepdims=True` keeps a 1 where the axis was, so that the result still broadcasts against the
original: `x - x.mean(axis=1, keepdims=True)` works for every shape. `axis` may be negative (counted
from the end) or a tuple of axes.
"""

# %% exercise="Tensor.sum"
#| export
@method_of(Tensor)
def sum(self, axis=None, keepdims=False):
    """Sum over `axis` (int, tuple of int, or None for all).

    Shape: the axes summed over are gone, or 1 with `keepdims`. Cost: one pass.

    >>> Tensor([[1, 2, 3], [4, 5, 6]]).sum(axis=1).tolist()
    [6.0, 15.0]
    """
    ### BEGIN SOLUTION
    return Tensor(self.data.sum(axis=axis, keepdims=keepdims))
    ### END SOLUTION

# %% check="Tensor.sum" points=4
_x = Tensor([[1, 2, 3], [4, 5, 6]])
check.tensor("sum()", _x.sum(), 21, why="1 + 2 + 3 + 4 + 5 + 6, a tensor of shape ()")
check.tensor("sum(axis=0)", _x.sum(axis=0), [5, 7, 9], why="axis 0 disappears: 1 + 4, 2 + 5, 3 + 6")
check.tensor("sum(axis=1)", _x.sum(axis=1), [6, 15], why="axis 1 disappears: 1 + 2 + 3, 4 + 5 + 6")
check.tensor("sum(axis=-1, keepdims=True)", _x.sum(axis=-1, keepdims=True), [[6], [15]],
             why="keepdims leaves a 1, so that the result broadcasts against x")
check.tensor("sum(axis=(0, 1))", _x.sum(axis=(0, 1)), 21, why="a tuple names several axes")

# %% [markdown]
"""
The mean is the sum divided by the number of entries that went into it, which is not always the number
of entries of the tensor. `axis` may be a tuple, so do not look that number up in the shape: divide the
number of entries before by the number after. For `(2, 3)` and `axis=0` that is 6 / 3 = 2. (A tensor
without entries can leave a sum without entries: `max(total.size, 1)` keeps you from dividing by 0.)

Build it from your `sum` and `/`, and leave NumPy's own mean alone. In module 05 gradients travel along
tensor operations; what is computed on `.data` they cannot see.
"""

# %% exercise="Tensor.mean"
#| export
@method_of(Tensor)
def mean(self, axis=None, keepdims=False):
    """Arithmetic mean over `axis` (int, tuple of int, or None for all); shapes as for `sum`.

    >>> Tensor([[1, 2, 3], [4, 5, 6]]).mean(axis=0).tolist()
    [2.5, 3.5, 4.5]
    """
    ### BEGIN SOLUTION
    total = self.sum(axis=axis, keepdims=keepdims)
    return total / (self.size / max(total.size, 1))
    ### END SOLUTION

# %% check="Tensor.mean" points=3
_x = Tensor([[1, 2, 3], [4, 5, 9]])
check.tensor("mean()", _x.mean(), 4, why="24 / 6")
check.tensor("mean(axis=0)", _x.mean(axis=0), [2.5, 3.5, 6], why="two entries per column: (1 + 4) / 2")
check.tensor("mean(axis=1)", _x.mean(axis=1), [2, 6], why="three entries per row: (1 + 2 + 3) / 3")
check.tensor("mean(axis=-2, keepdims=True)", _x.mean(axis=-2, keepdims=True), [[2.5, 3.5, 6]],
             why="axis -2 of a matrix is axis 0, kept as a 1")
_y = Tensor(np.arange(8.0).reshape(2, 2, 2))
check.tensor("mean(axis=(0, 2)) of a (2, 2, 2)", _y.mean(axis=(0, 2)), [2.5, 4.5],
             why="a tuple names several axes: (0 + 1 + 4 + 5) / 4 and (2 + 3 + 6 + 7) / 4")
_mean = Tensor.mean
check.connected("mean(axis=0) of x", lambda x: _mean(x, axis=0), _x,
                why="built from tensor operations it gets its gradient for nothing in module 05")

# %% [markdown]
"""
The variance says how far the numbers spread: the mean of the squared distances from the mean. For
`[1, 3]` the mean is 2 and the squared distances are 1 and 1. Their sum, 2, is divided by `n - 1 = 1`,
not by `n = 2`: measured from the sample's own mean, distances come out a little too small, and
`n - 1` corrects it (Bessel's correction). `correction=0` switches that off; layer normalisation will
want it so.

Subtract the mean with `keepdims=True`, or the shapes will not go together. Again use tensor
operations only, so that gradients can follow.
"""

# %% exercise="Tensor.var"
#| export
@method_of(Tensor)
def var(self, axis=None, keepdims=False, correction=1):
    """Variance over `axis`: squared distances from the mean, summed, divided by n - correction.

    n is the number of entries reduced over. Shapes as for `sum`. Source: torch.var.

    >>> Tensor([1.0, 3.0]).var().item(), Tensor([1.0, 3.0]).var(correction=0).item()
    (2.0, 1.0)
    """
    ### BEGIN SOLUTION
    distance = self - self.mean(axis=axis, keepdims=True)
    squares = (distance * distance).sum(axis=axis, keepdims=keepdims)
    n = self.size / max(squares.size, 1)
    return squares / (n - correction)
    ### END SOLUTION

# %% check="Tensor.var" points=4
check.tensor("Tensor([1., 3.]).var()", Tensor([1.0, 3.0]).var(), 2,
             why="distances -1 and 1, squares 1 + 1 = 2, divided by n - 1 = 1")
check.tensor("Tensor([1., 3.]).var(correction=0)", Tensor([1.0, 3.0]).var(correction=0), 1,
             why="the same 2, divided by n = 2")
_x = Tensor([[1.0, 2.0, 6.0], [0.0, 4.0, 8.0]])
check.tensor("var(axis=1)", _x.var(axis=1), [7, 16],
             why="row 0: mean 3, squares 4 + 1 + 9 = 14, / 2 = 7")
check.tensor("var(axis=0, keepdims=True, correction=0)",
             _x.var(axis=0, keepdims=True, correction=0), [[0.25, 1, 1]],
             why="column 0: mean 0.5, squares 0.25 + 0.25, / 2")
check.tensor("var() of 10000 + [1, 3]", Tensor([10001.0, 10003.0]).var(), 2,
             why="a shift changes no distance; E[x²] - E[x]² would lose the digits in float32")
check.tensor("var(axis=(0, 1))", _x.var(axis=(0, 1)), 9.5,
             why="all six: mean 3.5, squares 6.25 + 2.25 + 6.25 + 12.25 + 0.25 + 20.25 = 47.5, / 5")
_var = Tensor.var
check.connected("var(axis=1) of x", lambda x: _var(x, axis=1), _x,
                why="built from tensor operations it gets its gradient for nothing in module 05")

# %% [markdown]
"""
`max` keeps the largest number where `sum` adds. `[[1 5] [7 2]]` has the maximum 7; along the rows
(`axis=1`) it is `[5 7]`, down the columns `[7 5]`. The shapes follow the rules of `sum`. You will need
it with `keepdims=True` in module 02, where every row's maximum is subtracted from that row.
"""

# %% exercise="Tensor.max"
#| export
@method_of(Tensor)
def max(self, axis=None, keepdims=False):
    """Largest entry over `axis`; shapes as for `sum`. Source: torch.amax.

    >>> Tensor([[1, 5], [7, 2]]).max(axis=1).tolist()
    [5.0, 7.0]
    """
    ### BEGIN SOLUTION
    return Tensor(self.data.max(axis=axis, keepdims=keepdims))
    ### END SOLUTION

# %% check="Tensor.max" points=2
_x = Tensor([[-1.0, -5.0], [7.0, 2.0]])
check.tensor("max()", _x.max(), 7, why="over everything")
check.tensor("max(axis=1)", _x.max(axis=1), [-1, 7], why="the largest of a row may be negative")
check.tensor("max(axis=0, keepdims=True)", _x.max(axis=0, keepdims=True), [[7, 2]],
             why="axis 0 stays as a 1: softmax will subtract this maximum")
check.tensor("max(axis=(0, 1))", _x.max(axis=(0, 1)), 7, why="a tuple names several axes")

# %% given="argmax"
#| export
@method_of(Tensor)
def argmax(self, axis=None):
    """Position of the largest entry over `axis`: a NumPy array of integers."""
    return self.data.argmax(axis=axis)

# %% [markdown]
"""
### Reshape: the same numbers, other brackets

Memory is one line of numbers; the shape only says where the brackets go. Reshaping moves nothing.

```
memory   1 2 3 4 5 6
(2, 3)   [[1 2 3] [4 5 6]]
(3, 2)   [[1 2] [3 4] [5 6]]
```

One size may be `-1`: "work it out". Accept both `x.reshape(2, 3)` and `x.reshape((2, 3))`, because
PyTorch does. When the sizes do not multiply to the number of elements, say both shapes.
"""

# %% exercise="Tensor.reshape"
#| export
@method_of(Tensor)
def reshape(self, *shape):
    """The same elements in another shape; one size may be -1. A view wherever possible.

    shape: ints, or one tuple of ints.
    Raises ValueError naming both shapes if the sizes do not fit.

    >>> Tensor([1, 2, 3, 4, 5, 6]).reshape(2, -1).tolist()
    [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    """
    ### BEGIN SOLUTION
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    try:
        return Tensor(self.data.reshape(shape))
    except ValueError:
        raise ValueError(
            f"reshape: {self.shape} has {self.size} elements, which do not fill {shape}. "
            "Use -1 for the size to be worked out."
        ) from None
    ### END SOLUTION

# %% check="Tensor.reshape" points=4
_x = Tensor([[1, 2, 3], [4, 5, 6]])
check.tensor("(2, 3) -> reshape(3, 2)", _x.reshape(3, 2), [[1, 2], [3, 4], [5, 6]],
             why="row by row through memory; this is not a transpose")
check.equal("x.shape afterwards", _x.shape, (2, 3),
            why="the result is a new tensor; x keeps the shape that its other users count on")
check.tensor("reshape((6,))", _x.reshape((6,)), [1, 2, 3, 4, 5, 6], why="a tuple is welcome too")
check.tensor("reshape(-1, 2)", _x.reshape(-1, 2), [[1, 2], [3, 4], [5, 6]], why="6 / 2 = 3 rows")
check.same_storage("x.reshape(3, 2)", _x.reshape(3, 2), _x,
                   why="no number moves, so none needs copying")
check.raises("(2, 3) -> reshape(4, 2)", ValueError, lambda: _x.reshape(4, 2),
             why="6 elements cannot fill 8 places; name both shapes", mention=["(2, 3)", "(4, 2)"])

# %% [markdown]
"""
### Permute: axes in another order

Transposing a matrix swaps its two axes: entry `(i, j)` moves to `(j, i)`. In general, `permute(2, 0,
1)` says: the new axis 0 is the old axis 2, the new axis 1 is the old axis 0, and so on. NumPy does it
without moving a number, by changing how far it jumps in memory for each axis (the **strides**).
As for `reshape`, one tuple is as welcome as several ints: `permute((2, 0, 1))`.
"""

# %% exercise="Tensor.permute"
#| export
@method_of(Tensor)
def permute(self, *axes):
    """Axes in another order: axis i of the result is axis `axes[i]` of this tensor. A view.

    axes: ints or one tuple; negative ones count from the end.
    Raises ValueError naming the shape unless every axis is named exactly once.

    >>> Tensor(np.zeros((2, 3, 4))).permute(2, 0, 1).shape
    (4, 2, 3)
    """
    ### BEGIN SOLUTION
    if len(axes) == 1 and isinstance(axes[0], (tuple, list)):
        axes = tuple(axes[0])
    try:
        return Tensor(self.data.transpose(axes))
    except ValueError:
        raise ValueError(
            f"permute: {axes} must name each axis of {self.shape} exactly once, "
            f"from 0 to {self.ndim - 1}."
        ) from None
    ### END SOLUTION

# %% check="Tensor.permute" points=4
_x = Tensor([[1, 2, 3], [4, 5, 6]])
check.tensor("(2, 3) -> permute(1, 0)", _x.permute(1, 0), [[1, 4], [2, 5], [3, 6]],
             why="rows become columns: 4 stood at (1, 0) and now stands at (0, 1)")
_y = Tensor(np.arange(24.0).reshape(2, 3, 4))
check.tensor("(2, 3, 4) -> permute(2, 0, 1)", _y.permute(2, 0, 1),
             [[[i * 12 + j * 4 + k for j in range(3)] for i in range(2)] for k in range(4)],
             why="entry (k, i, j) of the result is entry (i, j, k) of x")
check.tensor("permute((1, 2, -3))", _y.permute((1, 2, -3)),
             [[[i * 12 + j * 4 + k for i in range(2)] for k in range(4)] for j in range(3)],
             why="a tuple is welcome too, and axis -3 of three axes is axis 0")
check.equal("x.shape afterwards", _x.shape, (2, 3), why="the result is a new tensor")
check.same_storage("x.permute(1, 0)", _x.permute(1, 0), _x, why="only the strides change")
check.raises("permute(0, 0)", ValueError, lambda: _x.permute(0, 0),
             why="axis 1 is missing and axis 0 is there twice", mention=["(2, 3)"])

# %% given="shapes"
#| export
@method_of(Tensor)
def transpose(self, dim0=-2, dim1=-1):
    """Axes `dim0` and `dim1` swapped, a view."""
    return Tensor(self.data.swapaxes(dim0, dim1))


@method_of(Tensor)
@property
def T(self):
    """All axes reversed: the transpose of a matrix."""
    return self.transpose() if self.ndim == 2 else self.permute(*range(self.ndim)[::-1])


@method_of(Tensor)
def flatten(self, start_dim=0):
    """Axes from `start_dim` on merged into one."""
    return self.reshape(*self.shape[:start_dim], -1)


@method_of(Tensor)
def unsqueeze(self, dim):
    """A new axis of size 1 at position `dim`."""
    return self.reshape(np.expand_dims(self.data, dim).shape)


# %% [markdown]
"""
### Indexing

`x[0]`, `x[:, 1]`, `x[[0, 2]]`, `x[x.data > 0]`: NumPy knows them all. Yours unwraps, indexes, wraps;
and if the index itself is a tensor (of whole numbers), or a tuple with tensors in it, it must become
integers first (`_index(key)` does that), because tensors are float32 and nothing can be the 1.5th.
"""

# %% exercise="Tensor.__getitem__"
#| export
def _index(key):
    """A NumPy index from `key`: tensors of whole numbers become integer arrays."""
    if isinstance(key, tuple):
        return tuple(_index(part) for part in key)
    return key.data.astype(np.int64) if isinstance(key, Tensor) else key


@method_of(Tensor)
def __getitem__(self, key):
    """The part that `key` names: ints, slices, lists, arrays, masks, tensors of whole numbers.

    Ints and slices give a view, lists and masks a copy, as in NumPy.

    >>> Tensor([[1, 2], [3, 4]])[:, 1].tolist()
    [2.0, 4.0]
    """
    ### BEGIN SOLUTION
    return Tensor(self.data[_index(key)])
    ### END SOLUTION

# %% check="Tensor.__getitem__" points=2
_x = Tensor([[1, 2, 3], [4, 5, 6]])
check.tensor("x[1]", _x[1], [4, 5, 6], why="one row: axis 0 is gone")
check.tensor("x[:, 1]", _x[:, 1], [2, 5], why="one column: axis 1 is gone")
check.tensor("x[0, 2]", _x[0, 2], 3, why="one entry, still a tensor")
check.tensor("x[Tensor([1, 0])]", _x[Tensor([1, 0])], [[4, 5, 6], [1, 2, 3]],
             why="a tensor of whole numbers selects rows")
check.tensor("x[Tensor([1, 0]), Tensor([0, 2])]", _x[Tensor([1, 0]), Tensor([0, 2])], [4, 3],
             why="tensors inside a tuple become integers too: entries (1, 0) and (0, 2)")
check.tensor("x[x.data > 2]", _x[_x.data > 2], [3, 4, 5, 6], why="a mask keeps what is true")
check.same_storage("x[:, 1]", _x[:, 1], _x, why="a slice is a view of the same memory")

# %% [markdown]
"""
### Joining tensors

`Tensor.cat(a, b, axis=0)` lays tensors end to end along an axis they already have; all other sizes
must agree. Write it as a method that takes any number of tensors.
"""

# %% exercise="Tensor.cat"
#| export
@method_of(Tensor)
def cat(*tensors, axis=0):
    """Tensors joined along the existing axis `axis`; their other sizes must agree.

    Raises ValueError naming the shapes if not. Cost: every byte copied once.

    >>> Tensor.cat(Tensor([1, 2]), Tensor([3])).tolist()
    [1.0, 2.0, 3.0]
    """
    ### BEGIN SOLUTION
    try:
        return Tensor(np.concatenate([t.data for t in tensors], axis=axis))
    except ValueError:
        shapes = [t.shape for t in tensors]
        raise ValueError(
            f"cat: {shapes} do not join along axis {axis}: all other sizes must agree."
        ) from None
    ### END SOLUTION

# %% check="Tensor.cat" points=3
_a, _b = Tensor([[1, 2], [3, 4]]), Tensor([[5, 6]])
check.tensor("cat((2, 2), (2, 2), axis=1)", Tensor.cat(_a, _a, axis=1), [[1, 2, 1, 2], [3, 4, 3, 4]],
             why="columns beside columns")
check.tensor("cat((2, 2), (1, 2), axis=0)", Tensor.cat(_a, _b, axis=0), [[1, 2], [3, 4], [5, 6]],
             why="rows below rows: 2 + 1 = 3 rows")
check.tensor("cat of three", Tensor.cat(Tensor([1]), Tensor([2]), Tensor([3])), [1, 2, 3],
             why="any number of tensors")
check.raises("cat((2, 2), (1, 2), axis=1)", ValueError, lambda: Tensor.cat(_a, _b, axis=1),
             why="2 rows beside 1 row: name the shapes", mention=["(2, 2)", "(1, 2)"])

# %% [markdown]
"""
`stack` joins along a **new** axis: two images of shape `(28, 28)` become a batch of shape
`(2, 28, 28)`. It needs no new idea: give every tensor an axis of size 1 at that place (`unsqueeze`),
then `cat` along it. Made of tensor operations like that (and not by `np.stack`), it will pass
gradients on without a rule of its own. The next cell first gives you PyTorch's spelling of `cat`,
which takes a list.
"""

# %% exercise="stack"
#| export
def cat(tensors, axis=0):
    """The tensors of a list joined along an existing axis: `Tensor.cat` in PyTorch's spelling."""
    return Tensor.cat(*tensors, axis=axis)


def stack(tensors, axis=0):
    """The tensors of a list, all of one shape, joined along a new axis at position `axis`.

    >>> stack([Tensor([1, 2]), Tensor([3, 4])]).shape
    (2, 2)
    """
    ### BEGIN SOLUTION
    return cat([t.unsqueeze(axis) for t in tensors], axis=axis)
    ### END SOLUTION

# %% check="stack" points=3
_a, _b = Tensor([1, 2, 3]), Tensor([4, 5, 6])
check.tensor("stack([a, b])", stack([_a, _b]), [[1, 2, 3], [4, 5, 6]], why="a new axis 0 of size 2")
check.tensor("stack([a, b], axis=1)", stack([_a, _b], axis=1), [[1, 4], [2, 5], [3, 6]],
             why="the new axis comes second: pairs")
check.tensor("stack of two (1, 2)", stack([Tensor([[1, 2]]), Tensor([[3, 4]])], axis=0),
             [[[1, 2]], [[3, 4]]], why="(1, 2) twice gives (2, 1, 2): one axis more than cat")
check.connected("stack([a, b])", lambda a, b: stack([a, b]), _a, _b,
                why="built from unsqueeze and cat it gets its gradient for nothing in module 05")

# %% [markdown]
"""
Last, what needs no exercise: tensors of zeros, ones and random numbers. One generator serves the
whole framework, so that `manual_seed(0)` makes every run repeatable.
"""

# %% given="creation"
#| export
default_generator = np.random.default_rng()


def manual_seed(seed):
    """Restart the framework's random numbers; the same seed gives the same numbers."""
    default_generator.bit_generator.state = np.random.default_rng(seed).bit_generator.state


def zeros(*shape, requires_grad=False):
    """Tensor of zeros: `zeros(2, 3)`."""
    return Tensor(np.zeros(shape, dtype=Tensor.dtype), requires_grad)


def ones(*shape, requires_grad=False):
    """Tensor of ones: `ones(2, 3)`."""
    return Tensor(np.ones(shape, dtype=Tensor.dtype), requires_grad)


def arange(*limits):
    """Tensor of evenly spaced numbers: `arange(5)`, `arange(1, 5, 0.5)`."""
    return Tensor(np.arange(*limits))


def randn(*shape, requires_grad=False):
    """Tensor of standard normal numbers: mean 0, variance 1."""
    return Tensor(default_generator.standard_normal(shape, dtype=np.float32), requires_grad)


def rand(*shape, requires_grad=False):
    """Tensor of uniform numbers in [0, 1)."""
    return Tensor(default_generator.random(shape, dtype=np.float32), requires_grad)

# %% [markdown]
"""
## Use: paint with broadcasting

Two vectors, one as a row and one as a column, and every pair of coordinates is there: your tensor
computes the distance of 21 by 41 points from the centre without a loop, and draws a disc.
"""

# %% demo="disc"
x = (arange(41) - 20.0).reshape(1, 41) / 2.0
y = (arange(21) - 10.0).reshape(21, 1)
distance = (x * x + y * y).sqrt()  # (1, 41) + (21, 1) -> (21, 41)
for row in distance.tolist():
    print("".join("#" if d < 5 else "+" if d < 8 else "." for d in row))
print("shape", distance.shape, "in", distance.memory_footprint(), "bytes")

# %% [markdown]
"""
## Measure: loops against BLAS

Your loops and BLAS do the same 2·n³ operations. Before you run the cell, write down how many times
faster you expect BLAS to be: 10, 1,000, 100,000? Then look at how the ratio changes with n.
"""

# %% demo="loops_vs_blas"
def seconds(call, repeats):
    """Best time of `repeats` calls, in seconds."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


for n in (8, 32, 96):
    a, b = randn(n, n), randn(n, n)
    loops, blas = seconds(lambda: matmul_loops(a.data, b.data), 2), seconds(lambda: a @ b, 20)
    flops = 2 * n**3
    print(f"n = {n:3}: loops {loops * 1e3:8.2f} ms ({flops / loops / 1e6:6.1f} MFLOP/s)   "
          f"BLAS {blas * 1e6:7.1f} µs ({flops / blas / 1e9:6.2f} GFLOP/s)   {loops / blas:8,.0f}x")

# %% [markdown]
"""
Same arithmetic, other machine code: BLAS keeps numbers in registers, multiplies 8 or 16 pairs per
instruction and reuses every byte it loads. Module 18 shows how.

Now bytes. A view costs nothing; a copy costs every byte. Predict which of these three is which.
"""

# %% demo="views_and_copies"
big = zeros(1000, 1000)
for name, call in [("reshape(500, 2000)", lambda: big.reshape(500, 2000)),
                   ("permute(1, 0)", lambda: big.permute(1, 0)),
                   ("permute(1, 0).reshape(-1)", lambda: big.permute(1, 0).reshape(-1))]:
    shared = np.shares_memory(call().data, big.data)
    print(f"{name:27} {'view' if shared else 'copy'}   {seconds(call, 5) * 1e6:9.1f} µs")

# %% [markdown]
"""
## Break: the axis that looked right

Standardising each row: subtract the row's mean. Forget `keepdims` and one of two things happens. For
a `(2, 3)` tensor you get an error, which is the lucky case. For a `(3, 3)` tensor you get numbers,
silently wrong: the means of the *rows* are subtracted from the *columns*.
"""

# %% demo="forgotten_keepdims"
x = Tensor([[1.0, 2.0, 3.0], [10.0, 20.0, 30.0], [100.0, 200.0, 300.0]])
wrong = x - x.mean(axis=1)
right = x - x.mean(axis=1, keepdims=True)
print("row means after the wrong one:", wrong.mean(axis=1).tolist())
print("row means after the right one:", right.mean(axis=1).tolist())

# %% [markdown]
"""
## Reflect

Predict with pencil and paper and write your answer into the cell: a number, or, where you choose
between lettered options, the letter in quotes, like `"a"`. The check says whether it holds.

**1.** MNIST has 60,000 training images of 28 by 28 pixels. As one float32 tensor, how many
megabytes (10⁶ bytes)?
"""

# %% exercise="predict.mnist_megabytes"
### BEGIN SOLUTION
mnist_megabytes = 60_000 * 28 * 28 * 4 / 1e6
### END SOLUTION

# %% check="predict.mnist_megabytes" points=1
check.prediction("MNIST's training images in float32, megabytes", mnist_megabytes, "MTg4LjE2", rel=0.01, unit="MB",
                 why="images times pixels times the bytes of one float32")

# %% [markdown]
"""
**2.** `C = A @ B` with all three 1000 by 1000. How many megabytes must exist at once, at the least?
"""

# %% exercise="predict.matmul_megabytes"
### BEGIN SOLUTION
matmul_megabytes = 3 * 1000 * 1000 * 4 / 1e6
### END SOLUTION

# %% check="predict.matmul_megabytes" points=1
check.prediction("A, B and C of 1000 by 1000, megabytes", matmul_megabytes, "MTIuMA==", unit="MB",
                 why="three matrices, not one, and 4 bytes per entry")

# %% [markdown]
"""
**3.** And how many floating-point operations does that product take, in billions (10⁹)? Count a
multiplication and an addition as two.
"""

# %% exercise="predict.matmul_gigaflops"
### BEGIN SOLUTION
matmul_gigaflops = 2 * 1000**3 / 1e9
### END SOLUTION

# %% check="predict.matmul_gigaflops" points=1
check.prediction("1000 by 1000 by 1000 product, billions of operations", matmul_gigaflops, "Mi4w",
                 unit="GFLOP", why="1000 * 1000 entries, each a sum of 1000 products")

# %% [markdown]
"""
**4.** `x` has shape `(64, 3, 32, 32)`. Which call gives one mean per channel (the axis of size 3), in
a shape that can be subtracted from `x`?

- a) `x.mean(axis=1, keepdims=True)`
- b) `x.mean(axis=(0, 2, 3))`
- c) `x.mean(axis=(0, 2, 3), keepdims=True)`
"""

# %% exercise="predict.channel_mean"
### BEGIN SOLUTION
channel_mean = "c"
### END SOLUTION

# %% check="predict.channel_mean" points=1
check.choice("the call that gives one mean per channel", channel_mean, "Yw==", ["a", "b", "c"],
             why="axis names what disappears, and (3,) lines up with the last axis, which has size 32")

# %% [markdown] question="why_copy" points=2
"""
**Open question.** Ints and slices give a view, lists and masks a copy. Why can a list of rows not be
a view? And which of your programs would break if slices were copies, or if lists were views?

*Graded by a person, after you hand the notebook in; no check reads it.*

*Your answer:*
"""

# %% [markdown]
"""
## In production

PyTorch's tensor has the same three parts as yours: a block of memory (its *storage*), a shape with
strides, and a link to how it was computed. Its `reshape`, `permute` and slices are views by the same
trick. What ours does not have: other dtypes and devices (a GPU tensor is the same idea with the block
elsewhere), in-place operations (`x += y` here makes a new tensor), and its own kernels (we stand on
NumPy's). JAX goes further from us: its arrays cannot be changed at all, so that a whole function can
be compiled.

## When it fails

| symptom | cause | where to look |
|---|---|---|
| `do not broadcast` | sizes that differ and are not 1, compared from the right | print both shapes; a missing `keepdims=True` is the usual reason |
| `inner sizes` | matmul of shapes that do not meet, or a size taken from the wrong end of a shape | one side needs `.T`, or a layer got the wrong number of inputs |
| `does not support ufuncs` | a NumPy function called on a Tensor | use the tensor's method, or unwrap `.data` inside the method |
| `'int' object has no attribute 'data'`, `'float' object has no attribute 'data'` | `.data` asked of a plain number | unwrap with `_array`, which leaves numbers alone |
| `'list' object has no attribute 'data'` | a list of tensors where single tensors are taken | `Tensor.cat` takes them one by one, `cat` and `stack` take a list |
| `'Tensor' object has no attribute 'data'` | `__init__` ended without setting it | `self.data = ...`, not only `data = ...` |
| `memoryview` | `.data` asked of a NumPy array: it has a `.data` of its own, raw memory | an operation returned an array, or `.data` stands twice |
| `'NoneType' object`, `: 'NoneType'` | a method ended without `return` | the last line of the method that made this value |
| `object has no attribute` | a misspelt name, or a value of another type than you think | print `type(...)` of what stands before the dot |
| `not supported between instances of` | tensors are not compared | compare the arrays: `x.data > 0` |
| `truth value of an array` | Python's own `max`, `min` or `if` on a whole array | the array's method, or NumPy's function: `x.data.max()` |
| `object is not callable` | parentheses behind a property | `x.size` and `x.shape` take none |
| `only integers, slices` | a tensor used as an index, and tensors are float32 | `_index(key)` makes integers of it |
| `cannot be interpreted as an integer`, `for %: 'tuple' and 'int'` | a tuple where ints are wanted: with `*shape`, `reshape((6,))` arrives as `((6,),)` | unpack a single tuple first |
| `tuple indices must be integers` | a tuple of axes used to look up one size | count the entries before and after instead |
| `setting an array element with a sequence` | lists of unequal length | every row must have the same length |
| `is not defined` | a misspelt name, a cell that has not run, or a letter without quotes | the line it names |
"""
