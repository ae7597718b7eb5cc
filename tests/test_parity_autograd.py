"""How the tape behaves, against PyTorch's: accumulation, freeing, switching off, long chains."""

import gc
import time
import weakref

import numpy as np
import pytest
import torch
from tinytorch.core.activations import ReLU
from tinytorch.core.autograd import check_grads, enable_autograd, is_grad_enabled, no_grad
from tinytorch.core.layers import Linear, Module, Sequential
from tinytorch.core.losses import BCELoss, CrossEntropyLoss, MSELoss
from tinytorch.core.tensor import Tensor, cat

from tests.oracles import assert_close


def pair(values):
    """The same leaf in both libraries."""
    array = np.asarray(values, dtype=np.float32)
    return Tensor(array.copy(), requires_grad=True), torch.tensor(array, requires_grad=True)


def test_backward_twice_adds_up():
    x, t = pair([1.0, -2.0, 3.0])
    for _ in range(2):
        (x * x).sum().backward()
        (t * t).sum().backward()
    assert_close("after two", x.grad, t.grad)
    assert x.grad.tolist() == [4.0, -8.0, 12.0]  # 2x, twice


def test_accumulated_batches_are_the_batch():
    data = np.random.default_rng(0).standard_normal((8, 3)).astype(np.float32)
    w, t = pair(np.ones((3, 1)))
    for rows in (data[:4], data[4:]):
        ((Tensor(rows) @ w).sum() * 0.5).backward()
    ((torch.from_numpy(data) @ t).sum() * 0.5).backward()
    assert_close("two halves", w.grad, t.grad)


def test_retain_graph_allows_a_second_walk():
    x, t = pair([2.0, 3.0])
    y, u = (x**3).sum(), (t**3).sum()
    for walk in range(3):
        y.backward(retain_graph=walk < 2)
        u.backward(retain_graph=walk < 2)
    assert_close("three walks", x.grad, t.grad)


def test_freed_graph_is_an_error_as_in_torch():
    x, t = pair([2.0, 3.0])
    y, u = (x * x).sum(), (t * t).sum()
    y.backward()
    u.backward()
    with pytest.raises(RuntimeError, match=r"freed.*retain_graph=True"):
        y.backward()
    with pytest.raises(RuntimeError):
        u.backward()
    assert x.grad.tolist() == [4.0, 6.0], "the failed walk must leave gradients alone"


def test_shared_part_of_two_graphs_is_freed_with_the_first():
    x, t = pair([2.0, 3.0])
    shared, theirs = x * x, t * t
    (shared * 2).sum().backward()
    (theirs * 2).sum().backward()
    with pytest.raises(RuntimeError, match="freed"):
        (shared * 3).sum().backward()
    with pytest.raises(RuntimeError):
        (theirs * 3).sum().backward()
    assert_close("the first walk only", x.grad, t.grad)


def test_gradient_argument_is_the_seed():
    x, t = pair(np.arange(6.0).reshape(2, 3))
    seed = np.array([[1, 0, -1], [2, 0.5, 0]], dtype=np.float32)
    (x * x).backward(Tensor(seed))
    (t * t).backward(torch.from_numpy(seed))
    assert_close("seeded", x.grad, t.grad)
    x.grad[...] = 7
    assert seed[0, 0] == 1, "the caller's array is not the gradient's memory"


def test_backward_of_a_leaf_is_one():
    x, t = pair(3.0)
    x.backward()
    t.backward()
    assert_close("a leaf", x.grad, t.grad)


def test_only_leaves_keep_gradients():
    x, t = pair([1.0, 2.0])
    middle, theirs = x * 2, t * 2
    (middle * middle).sum().backward()
    (theirs * theirs).sum().backward()
    assert middle.grad is None
    assert_close("leaf", x.grad, t.grad)


def test_no_grad_records_nothing():
    x, t = pair([1.0, 2.0])
    with no_grad():
        y = x * 2
        assert not is_grad_enabled()
        with no_grad():
            pass
        assert not is_grad_enabled(), "an inner block gives back what it found"
    with torch.no_grad():
        u = t * 2
    assert y.requires_grad == u.requires_grad is False
    assert is_grad_enabled()
    (y + x).sum().backward()
    (u + t).sum().backward()
    assert_close("the recorded way only", x.grad, t.grad)


def test_no_grad_decorates_and_survives_an_error():
    @no_grad()
    def fails(x):
        assert not (x * 2).requires_grad
        raise KeyError("oops")

    with pytest.raises(KeyError):
        fails(pair([1.0])[0])
    assert is_grad_enabled()


def test_detach_cuts_one_way():
    x, t = pair([1.0, 2.0])
    (x * x.detach() + x.detach()).sum().backward()
    (t * t.detach() + t.detach()).sum().backward()
    assert_close("one factor is a constant", x.grad, t.grad)
    assert np.shares_memory(x.detach().data, x.data)


def test_constants_get_no_gradient():
    x, t = pair([1.0, 2.0])
    c, k = Tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])
    (x * c).sum().backward()
    (t * k).sum().backward()
    assert c.grad is None
    assert k.grad is None
    assert_close("x", x.grad, t.grad)


SIBLINGS = {
    "a + b": lambda a, b: a + b,
    "a.T + b": lambda a, b: a.T + b,
    "a.reshape + b.reshape": lambda a, b: a.reshape(4) + b.reshape(4),
    "b - a + b": lambda a, b: b - a + b,
    "sum of views": lambda a, b: a.permute(1, 0) + b.permute(1, 0),
    "cat": lambda a, b: cat([a, b]),
    "clones": lambda a, b: a.clone() + b.clone(),
}


@pytest.mark.parametrize("run", SIBLINGS.values(), ids=SIBLINGS)
def test_gradients_of_siblings_do_not_share_memory(run):
    a, b = pair(np.ones((2, 2)))[0], pair(np.ones((2, 2)))[0]
    out = run(a, b)
    seed = np.arange(out.size, dtype=np.float32).reshape(out.shape)
    out.backward(seed)
    assert not np.shares_memory(a.grad, b.grad)
    assert not np.shares_memory(a.grad, seed)
    assert not np.shares_memory(b.grad, seed)


def test_gradients_are_writable_and_float32():
    x, t = pair(np.ones((3, 4)))
    x.sum().backward()
    t.sum().backward()
    x.grad *= 0.5
    assert_close("halved", x.grad, t.grad.numpy() * np.float32(0.5))


def test_float64_neighbours_do_not_promote():
    x, _ = pair(np.ones((3, 4)))
    out = (x * np.float64(2) + np.ones(4)) / 3.0 - np.arange(4)
    out.sum().backward()
    assert out.data.dtype == x.grad.dtype == np.float32


def test_view_used_in_place_elsewhere():
    """A view taken before an update sees it, and gradients go through the view, as in PyTorch."""
    x, t = pair(np.arange(6.0).reshape(2, 3))
    row, theirs = x.detach()[0], t.detach()[0]
    row.data += 10
    theirs += 10
    (x.T * x.T).sum().backward()
    (t.T * t.T).sum().backward()
    assert_close("values", x.data, t.detach())
    assert_close("gradient at the new values", x.grad, t.grad)


def test_update_in_place_reaches_every_view():
    x, t = pair(np.ones((2, 3)))
    view, theirs = x.T, t.T
    (view.sum() * 2).backward()
    (theirs.sum() * 2).backward()
    x.data -= 0.5 * x.grad
    with torch.no_grad():
        t -= 0.5 * t.grad
    assert_close("the view", view.data, theirs.detach())


def test_recording_twice_enabled_is_recorded_once():
    enable_autograd()
    enable_autograd()
    x, t = pair([3.0])
    (2 * x + x * 5 - 1).sum().backward()
    (2 * t + t * 5 - 1).sum().backward()
    assert_close("7", x.grad, t.grad)


def test_integer_keys_may_be_tensors():
    x, t = pair(np.arange(12.0).reshape(4, 3))
    rows = [3, 0, 3]
    (x[Tensor(rows)] * Tensor([[1.0], [2.0], [3.0]])).sum().backward()
    (t[torch.tensor(rows)] * torch.tensor([[1.0], [2.0], [3.0]])).sum().backward()
    assert_close("scatter-add", x.grad, t.grad)


def test_int_beside_list_indexes_as_numpy():
    """`x[0, :, [1, 3]]`: NumPy, and so we, move the list's axis to the front; PyTorch does not."""
    values = np.arange(24.0, dtype=np.float32).reshape(3, 2, 4)
    x = Tensor(values, requires_grad=True)
    out = x[0, :, [1, 3]]
    assert out.data.tolist() == values[0, :, [1, 3]].tolist()
    out.backward(np.array([[1, 2], [3, 4]]))
    assert x.grad[0].tolist() == [[0, 1, 0, 3], [0, 2, 0, 4]]
    assert not x.grad[1:].any()


def test_variance_of_one_number_is_nan_as_in_torch():
    x, t = pair([3.0])
    with np.errstate(invalid="ignore"):
        y = x.var()
        y.backward()
    with pytest.warns(UserWarning, match="degrees of freedom"):
        u = t.var()
    u.backward()
    assert_close("value", y.data, u.detach())
    assert_close("gradient", x.grad, t.grad)


@pytest.mark.parametrize("op", ["log", "sqrt", "div"])
def test_borders_give_infinities_as_in_torch(op):
    x, t = pair([0.0, 4.0])
    run = {"log": lambda v: v.log(), "sqrt": lambda v: v.sqrt(), "div": lambda v: 1 / v}[op]
    with np.errstate(divide="ignore"):
        y = run(x)
        y.sum().backward()
    u = run(t)
    u.sum().backward()
    assert_close("value", y.data, u.detach())
    assert_close("gradient", x.grad, t.grad)


def test_network_step_is_torchs():
    rng = np.random.default_rng(3)
    data, classes = rng.standard_normal((16, 5)).astype(np.float32), rng.integers(0, 3, 16)
    model = Sequential(Linear(5, 8), ReLU(), Linear(8, 3))
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    theirs.load_state_dict({k: torch.tensor(v) for k, v in model.state_dict().items()})
    loss = CrossEntropyLoss()(model(Tensor(data)), classes)
    wanted = torch.nn.CrossEntropyLoss()(theirs(torch.from_numpy(data)), torch.from_numpy(classes))
    loss.backward()
    wanted.backward()
    assert_close("loss", loss.data, wanted.detach())
    for (name, mine), its in zip(model.named_parameters(), theirs.parameters(), strict=True):
        assert_close(name, mine.grad, its.grad)


def chain(length):
    """A leaf, and the result of `length` multiplications and additions on it."""
    x = y = Tensor([1.0], requires_grad=True)
    for step in range(length // 2):
        y = y * 1.00001 + (1e-6 if step % 2 else -1e-6)
    return x, y


def test_chain_of_100_000_is_right():
    x, y = chain(100_000)
    y.backward()
    # (1 + 1e-5)^50,000 = e^0.5, computed with 1.00001 as float32 does
    wanted = float(np.float32(1.00001)) ** 50_000
    np.testing.assert_allclose(x.grad, [wanted], rtol=1e-2)


def seconds(length):
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        chain(length)[1].backward()
        best = min(best, time.process_time() - start)
    return best


def test_chain_takes_linear_time():
    # 8 times as long takes about 8 times; quadratic would be 64. 24 leaves room for a busy machine.
    assert seconds(40_000) < 24 * seconds(5_000)


def test_graph_is_freed_by_backward_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        x = Tensor(np.ones(1000), requires_grad=True)
        steps, y = [], x
        for _ in range(100):
            y = (y * 1.01).exp().log()
            steps.append(weakref.ref(y.data))
        y.sum().backward()
        alive = [number for number, ref in enumerate(steps) if ref() is not None]
        assert alive == [99], "only the result that we hold may survive"
    finally:
        gc.enable()


def test_graph_of_100_000_is_dropped_without_backward():
    gc.collect()
    x, y = chain(100_000)
    inner = weakref.ref(y._node.parents[0][1].data)
    del y
    assert inner() is None, "nothing holds the chain once its end is gone"
    assert x.grad is None


def test_training_loop_does_not_grow():
    model = Sequential(Linear(4, 4), ReLU(), Linear(4, 1))
    counts = []
    for _ in range(6):
        model.zero_grad()
        (model(Tensor(np.ones((2, 4)))) ** 2).sum().backward()
        gc.collect()
        counts.append(sum(issubclass(type(o), Tensor) for o in gc.get_objects()))
    assert counts[-1] == counts[1]


def test_check_grads_restores_the_type():
    assert check_grads(
        lambda a, b: (a @ b).exp(), Tensor(np.ones((2, 3)) / 3), Tensor(np.ones((3, 2)))
    )
    assert Tensor.dtype is np.float32
    assert Tensor([1.0]).data.dtype == np.float32


def filled(*shape):
    return Tensor(np.ones(shape), requires_grad=True)


def spent():
    y = (filled(2) * 2).sum()
    y.backward()
    y.backward()


class NoForward(Module):
    pass


# What went wrong, on what, and the likely repair: the message must carry all of it.
ERRORS = [
    ("add", lambda: filled(2, 3) + filled(2), ValueError,
     ["(2, 3)", "(2,)", "neither is 1", "Reshape"]),
    ("subtract", lambda: 1 - filled(4) * filled(3), ValueError, ["(4,)", "(3,)", "broadcast"]),
    ("array", lambda: np.ones(4) * filled(3), ValueError, ["(4,)", "(3,)", "Reshape"]),
    ("matmul", lambda: filled(2, 3) @ filled(4, 5), ValueError,
     ["(2, 3) @ (4, 5)", "inner sizes 3 and 4", "Transpose", "in_features"]),
    ("matmul vector", lambda: filled(2, 3) @ filled(2), ValueError, ["(2, 3) @ (2,)", "3 and 2"]),
    ("matmul scalar", lambda: filled(2, 3) @ filled(), ValueError, ["(2, 3)", "Use *"]),
    ("matmul batches", lambda: filled(2, 3, 4) @ filled(5, 4, 6), ValueError,
     ["(2,)", "(5,)", "broadcast"]),
    ("linear", lambda: Linear(3, 2)(filled(5, 4)), ValueError, ["(5, 4)", "in_features"]),
    ("reshape", lambda: filled(2, 3).reshape(4, 2), ValueError, ["(2, 3)", "(4, 2)", "-1"]),
    ("permute", lambda: filled(2, 3).permute(0, 0), ValueError,
     ["(2, 3)", "(0, 0)", "exactly once"]),
    ("cat", lambda: cat([filled(2, 2), filled(1, 2)], axis=1), ValueError,
     ["(2, 2)", "(1, 2)", "axis 1"]),
    ("backward without a graph", lambda: Tensor([1.0]).backward(), RuntimeError,
     ["(1,)", "requires_grad=True", "no_grad"]),
    ("backward of many", lambda: (filled(2, 3) * 2).backward(), RuntimeError,
     ["(2, 3)", ".sum()", "backward(gradient)"]),
    ("backward with a wrong seed",
     lambda: (filled(2, 3) * 2).backward(np.ones((3, 2))), RuntimeError, ["(2, 3)", "(3, 2)"]),
    ("backward twice", spent, RuntimeError, ["freed", "retain_graph=True"]),
    ("cross-entropy, one class number too few",
     lambda: CrossEntropyLoss()(filled(3, 2), [0, 1]), ValueError, ["(3, 2)", "(2,)", "(3,)"]),
    ("cross-entropy, class out of range",
     lambda: CrossEntropyLoss()(filled(2, 2), [0, 2]), ValueError, ["2", "0 to 1"]),
    ("cross-entropy, one-hot rows",
     lambda: CrossEntropyLoss()(filled(2, 2), np.eye(2)), ValueError, ["(2, 2)", "argmax"]),
    ("mean squared error, column against vector",
     lambda: MSELoss()(filled(3, 1), np.ones(3)), ValueError, ["(3, 1)", "(3,)", "Reshape"]),
    ("BCE of a logit", lambda: BCELoss()(filled(2) * 3, [0, 1]), ValueError,
     ["3", "BCEWithLogitsLoss"]),
    ("load_state_dict, shape",
     lambda: Linear(3, 2).load_state_dict({"weight": np.ones((3, 2)), "bias": np.ones(2)}),
     ValueError, ["weight", "(3, 2)", "(2, 3)"]),
    ("load_state_dict, names",
     lambda: Linear(3, 2).load_state_dict({"w": np.ones((2, 3)), "bias": np.ones(2)}),
     ValueError, ["weight", "w"]),
    ("activation of an array", lambda: ReLU()(np.ones(3)), TypeError, ["ndarray", "Tensor(x)"]),
    ("ufunc of a tensor", lambda: np.exp(filled(2)), TypeError, ["ufunc"]),
    ("module without forward", lambda: NoForward()(filled(2)), NotImplementedError, ["NoForward"]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "call", "error", "mentions"), ERRORS, ids=[e[0] for e in ERRORS])
def test_error_says_what_and_how_to_repair(name, call, error, mentions):
    with pytest.raises(error) as caught:
        call()
    message = str(caught.value)
    assert all(part in message for part in mentions), message
