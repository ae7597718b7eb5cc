"""Hidden variants of the checks of module 06: other numbers, shapes and seeds."""

import numpy as np
import pytest

from tinytorch.core.optimizers import SGD, Adam, AdamW, Optimizer, decayed, descend
from tinytorch.core.tensor import Tensor

SHAPES = [(3, 4), (5,), (2, 1, 3)]


def walk(optimizer_class, steps=20, seed=3, **options):
    """Parameters after `steps` of noisy gradients, the third without one in every second step."""
    rng = np.random.default_rng(seed)
    params = [Tensor(rng.standard_normal(shape)) for shape in SHAPES]
    optimizer = optimizer_class(params, **options)
    for t in range(steps):
        for i, param in enumerate(params):
            gradient = (param.data + rng.standard_normal(param.shape)).astype(np.float32)
            param.grad = None if i == 2 and t % 2 else gradient
        optimizer.step()
    return [param.data for param in params]


def expected(rule, steps=20, seed=3):
    """The same walk in float64, `rule(w, g, memory)` returning the new weights."""
    rng = np.random.default_rng(seed)
    weights = [rng.standard_normal(shape) for shape in SHAPES]
    memories = [{} for _ in SHAPES]
    for t in range(steps):
        for i, memory in enumerate(memories):
            gradient = weights[i] + rng.standard_normal(SHAPES[i])
            if not (i == 2 and t % 2):
                weights[i] = rule(weights[i], gradient, memory)
    return weights


def sgd_rule(lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    def rule(w, g, memory):
        g = g + weight_decay * w
        if momentum:
            first = "v" not in memory
            memory["v"] = g if first else momentum * memory["v"] + (1 - dampening) * g
            g = g + momentum * memory["v"] if nesterov else memory["v"]
        return w - lr * g

    return rule


def adam_rule(lr, betas=(0.9, 0.999), eps=1e-8, l2=0.0, decoupled=0.0):
    """Adam from its definition: the averages as explicit weighted sums over all gradients."""

    def rule(w, g, memory):
        w = w - lr * decoupled * w
        seen = memory.setdefault("seen", [])
        seen.append(g + l2 * w)
        t = len(seen)
        shares = [[(1 - b) * b ** (t - 1 - i) / (1 - b**t) for i in range(t)] for b in betas]
        m = sum(share * old for share, old in zip(shares[0], seen, strict=True))
        v = sum(share * old * old for share, old in zip(shares[1], seen, strict=True))
        return w - lr * m / (np.sqrt(v) + eps)

    return rule


def assert_walks_agree(got, want):
    for one, other in zip(got, want, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-5)


def test_descend_changes_a_view_in_place():
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    before = weights.copy()
    gradient = np.full(3, 2.0, dtype=np.float32)
    descend(weights[:, 1], gradient, 0.5)
    before[:, 1] -= 1
    np.testing.assert_array_equal(weights, before)
    np.testing.assert_array_equal(gradient, 2.0)


def test_decayed_adds_the_pull_and_leaves_its_arguments():
    rng = np.random.default_rng(11)
    weights, gradient = rng.standard_normal((2, 4, 3)).astype(np.float32)
    kept = weights.copy(), gradient.copy()
    np.testing.assert_allclose(decayed(weights, gradient, 0.3), gradient + 0.3 * weights, rtol=1e-5)
    np.testing.assert_array_equal(weights, kept[0])
    np.testing.assert_array_equal(gradient, kept[1])
    assert np.shares_memory(decayed(weights, gradient, 0), gradient)


@pytest.mark.parametrize("kind", [Optimizer, SGD, Adam, AdamW])
def test_optimizer_refuses_bad_arguments(kind):
    weight = Tensor([[1.0, 2.0]])
    with pytest.raises(TypeError):
        kind(weight, lr=0.1)
    with pytest.raises(TypeError, match="ndarray"):
        kind([weight, weight.data], lr=0.1)
    with pytest.raises(ValueError):
        kind((p for p in []), lr=0.1)
    with pytest.raises(ValueError, match=r"-0\.5"):
        kind([weight], lr=-0.5)


def test_optimizer_reads_a_generator_once_and_keeps_order():
    weights = [Tensor([float(i)]) for i in range(5)]
    optimizer = SGD((w for w in weights), lr=0.1)
    assert all(a is b for a, b in zip(list(optimizer.params), weights, strict=True))
    assert len(list(optimizer.params)) == 5


def test_zero_grad_forgets_every_gradient_and_keeps_their_arrays():
    weights = [Tensor(np.ones(shape)) for shape in SHAPES]
    arrays = [np.full(shape, 3.0, dtype=np.float32) for shape in SHAPES]
    for weight, array in zip(weights, arrays, strict=True):
        weight.grad = array
    SGD(weights, lr=0.1).zero_grad()
    assert all(weight.grad is None for weight in weights)
    assert all((array == 3).all() for array in arrays)
    assert all((weight.data == 1).all() for weight in weights)


def test_step_changes_data_in_place_and_leaves_gradients():
    weights = [Tensor(np.ones(shape)) for shape in SHAPES]
    arrays = [weight.data for weight in weights]
    for weight in weights:
        weight.grad = np.full(weight.shape, 2.0, dtype=np.float32)
        weight.grad.flags.writeable = False
    for kind, options in [(SGD, {"momentum": 0.9, "nesterov": True}), (Adam, {}), (AdamW, {})]:
        optimizer = kind(weights, lr=0.1, **options)
        optimizer.step()
        optimizer.step()
    for weight, array in zip(weights, arrays, strict=True):
        assert weight.data is array
        assert (array < 1).all()


def test_step_skips_parameters_without_gradient():
    weights = [Tensor([1.0]), Tensor([1.0]), Tensor([1.0])]
    weights[2].grad = np.ones(1, dtype=np.float32)
    optimizer = AdamW(weights, lr=0.1, weight_decay=0.5)
    optimizer.step()
    assert [weight.item() == 1.0 for weight in weights] == [True, True, False]
    assert list(optimizer.state) == [2]


def test_step_reads_the_rate_of_the_moment():
    weight = Tensor([0.0])
    optimizer = SGD([weight], lr=1.0)
    weight.grad = np.ones(1, dtype=np.float32)
    for rate in (1.0, 0.5, 0.0):
        optimizer.lr = rate
        optimizer.step()
    assert weight.item() == -1.5


def test_step_handles_a_scalar_parameter():
    for kind, options in [(SGD, {"momentum": 0.5}), (Adam, {}), (AdamW, {})]:
        weight = Tensor(2.0)
        weight.grad = np.array(1.0, dtype=np.float32)
        optimizer = kind([weight], lr=0.25, **options)
        optimizer.step()
        assert weight.data.shape == () and weight.item() < 2.0


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"momentum": 0.8, "dampening": 0.3},
        {"momentum": 0.7, "nesterov": True},
        {"weight_decay": 0.2},
        {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    ],
)
def test_sgd_twenty_steps(options):
    assert_walks_agree(walk(SGD, lr=0.05, **options), expected(sgd_rule(0.05, **options)))


@pytest.mark.parametrize(
    "options", [{"nesterov": True}, {"momentum": 0.9, "dampening": 0.1, "nesterov": True}]
)
def test_sgd_refuses_nesterov_without_plain_momentum(options):
    with pytest.raises(ValueError, match="nesterov"):
        SGD([Tensor([1.0])], lr=0.1, **options)


def test_sgd_velocity_is_a_copy_of_the_first_gradient():
    sgd, state = SGD([Tensor(np.zeros((2, 2)))], momentum=0.6), {}
    gradient = np.arange(4, dtype=np.float32).reshape(2, 2)
    for factor in (1.0, 1.6, 1.96):
        np.testing.assert_allclose(sgd.velocity(gradient, state), factor * gradient, rtol=1e-5)
    np.testing.assert_array_equal(gradient, [[0, 1], [2, 3]])
    np.testing.assert_allclose(state["momentum"], 1.96 * gradient, rtol=1e-5)


def test_adam_moments_are_weighted_sums():
    rng = np.random.default_rng(5)
    adam, state = Adam([Tensor(np.zeros(3))], betas=(0.8, 0.95)), {}
    gradients = rng.standard_normal((6, 3)).astype(np.float32)
    for gradient in gradients:
        adam.moments(gradient, state)
    shares = [np.array([(1 - b) * b ** (5 - i) for i in range(6)]) for b in (0.8, 0.95)]
    np.testing.assert_allclose(state["m"], shares[0] @ gradients, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state["v"], shares[1] @ gradients**2, rtol=1e-4, atol=1e-6)
    assert state["step"] == 6


@pytest.mark.parametrize(
    "options", [{}, {"betas": (0.7, 0.9)}, {"eps": 1e-2}, {"betas": (0.0, 0.5), "eps": 1e-4}]
)
def test_adam_and_adamw_twenty_steps(options):
    rule = adam_rule(0.03, **options)
    assert_walks_agree(walk(Adam, lr=0.03, **options), expected(rule))
    assert_walks_agree(walk(AdamW, lr=0.03, weight_decay=0, **options), expected(rule))


def test_adam_decay_is_part_of_the_gradient_and_adamw_decay_is_not():
    coupled, decoupled = adam_rule(0.03, l2=0.4), adam_rule(0.03, decoupled=0.4)
    assert_walks_agree(walk(Adam, lr=0.03, weight_decay=0.4), expected(coupled))
    assert_walks_agree(walk(AdamW, lr=0.03, weight_decay=0.4), expected(decoupled))


def test_adam_first_step_is_the_rate_at_every_scale():
    weight = Tensor(np.zeros(5))
    weight.grad = np.array([1e6, -3.0, 1e-3, -1e5, 0.2], dtype=np.float32)
    Adam([weight], lr=0.02).step()
    np.testing.assert_allclose(weight.data, [-0.02, 0.02, -0.02, 0.02, -0.02], rtol=1e-3)


def test_adam_leaves_weights_where_the_gradient_is_zero():
    weight = Tensor([1.0, 2.0])
    weight.grad = np.zeros(2, dtype=np.float32)
    Adam([weight], lr=0.1).step()
    np.testing.assert_array_equal(weight.data, [1, 2])


@pytest.mark.parametrize(
    ("kind", "options", "arrays"),
    [(SGD, {}, 0), (SGD, {"momentum": 0.9}, 1), (Adam, {}, 2), (AdamW, {}, 2)],
)
def test_memory_footprint_counts_the_state(kind, options, arrays):
    weights = [Tensor(np.zeros(shape)) for shape in SHAPES]
    optimizer = kind(weights, lr=0.1, **options)
    assert optimizer.memory_footprint() == 0
    for weight in weights[:2]:
        weight.grad = np.ones(weight.shape, dtype=np.float32)
    optimizer.step()
    assert optimizer.memory_footprint() == arrays * (12 + 5) * 4


@pytest.mark.parametrize(
    ("kind", "options"), [(SGD, {"momentum": 0.9, "nesterov": True}), (Adam, {}), (AdamW, {})]
)
def test_state_dict_resumes_bit_for_bit(kind, options):
    rng = np.random.default_rng(9)
    gradients = rng.standard_normal((10, 4)).astype(np.float32)

    def run(optimizer, weight, part):
        for gradient in part:
            weight.grad = gradient
            optimizer.step()

    whole = Tensor(np.ones(4))
    run(kind([whole], lr=0.1, **options), whole, gradients)
    half = Tensor(np.ones(4))
    first = kind([half], lr=0.1, **options)
    run(first, half, gradients[:5])
    saved = first.state_dict()
    data = half.data.copy()
    run(first, half, gradients[5:])
    resumed = Tensor(data)
    second = kind([resumed], lr=0.7, **options)
    second.load_state_dict(saved)
    run(second, resumed, gradients[5:])
    np.testing.assert_array_equal(resumed.data, whole.data)
    np.testing.assert_array_equal(half.data, whole.data)


def test_load_state_dict_refuses_and_changes_nothing():
    weights = [Tensor(np.zeros((2, 3))), Tensor(np.zeros(3))]
    optimizer = Adam(weights, lr=0.1)
    other = {"step": 1, "m": np.zeros((3, 2)), "v": np.zeros((3, 2))}
    with pytest.raises(ValueError, match=r"\(3, 2\).*\(2, 3\)"):
        optimizer.load_state_dict({"lr": 5.0, "state": {0: other}})
    with pytest.raises(ValueError):
        optimizer.load_state_dict({"lr": 5.0, "state": {2: {"step": 1}}})
    assert optimizer.lr == 0.1 and optimizer.state == {}


def test_state_dict_and_load_state_dict_copy():
    weight = Tensor(np.zeros(3))
    weight.grad = np.ones(3, dtype=np.float32)
    optimizer = SGD([weight], lr=0.1, momentum=0.5)
    optimizer.step()
    saved = optimizer.state_dict()
    twin = SGD([Tensor(np.zeros(3))], lr=0.1, momentum=0.5)
    twin.load_state_dict(saved)
    saved["state"][0]["momentum"][:] = 99
    np.testing.assert_array_equal(optimizer.state[0]["momentum"], 1)
    np.testing.assert_array_equal(twin.state[0]["momentum"], 1)
