"""Hidden variants for module 11: other shapes, seeds and lengths, against NumPy and complex numbers."""

import cmath
import math
import tracemalloc

import numpy as np
import pytest

from tinytorch.core.autograd import check_grads, enable_autograd
from tinytorch.core.layers import Module
from tinytorch.core.optimizers import SGD
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.embedding import (
    Embedding,
    LearnedPositions,
    RotaryPositions,
    SinusoidalPositions,
    embedding,
    embedding_gradient,
    one_hot,
    rotary,
    rotary_gradient,
    sinusoidal_positions,
    token_ids,
    turn_pairs,
    window,
)

enable_autograd()

SHAPES = [(), (1,), (7,), (2, 3), (3, 1, 4), (0,), (2, 0)]


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def ids_of(shape, count, seed=0):
    return np.random.default_rng(seed).integers(0, count, shape)


# The lookup


@pytest.mark.parametrize("shape", SHAPES)
def test_one_hot_has_a_single_one_at_the_index(shape):
    ids = ids_of(shape, 6)
    rows = one_hot(np.asarray(ids), 6)
    assert rows.shape == (*shape, 6) and rows.dtype == np.float32
    np.testing.assert_array_equal(rows.sum(axis=-1), np.ones(shape))
    if rows.size:
        np.testing.assert_array_equal(rows.argmax(axis=-1), ids)


def test_one_hot_makes_only_the_rows_it_needs():
    tracemalloc.start()
    one_hot(np.array([1, 2, 3]), 20_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 20_000 * 16 + 400_000


@pytest.mark.parametrize("shape", SHAPES)
def test_embedding_replaces_every_index_by_its_row(shape):
    weight, ids = numbers(6, 3), np.asarray(ids_of(shape, 6, seed=1))
    out = embedding(Tensor(weight), ids)
    assert out.shape == (*shape, 3) and out.data.dtype == np.float32
    wanted = np.array([weight[i] for i in ids.reshape(-1)]).reshape(*shape, 3)
    np.testing.assert_array_equal(out.data, wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradient_adds_up_every_place_of_a_row(shape):
    ids, g = np.asarray(ids_of(shape, 3, seed=2)), numbers(*shape, 4, seed=3)
    wanted = np.zeros((3, 4))
    for i, row in zip(ids.reshape(-1), g.reshape(-1, 4)):
        wanted[i] += row
    weight = Tensor(numbers(3, 4), requires_grad=True)
    embedding(weight, ids).backward(g)
    np.testing.assert_allclose(weight.grad, wanted, rtol=1e-5, atol=1e-6)
    assert weight.grad.dtype == np.float32


def test_gradient_leaves_its_arguments_alone():
    weight, ids, g = numbers(4, 2), np.array([3, 3, 0]), numbers(3, 2)
    before = weight.copy(), ids.copy(), g.copy()
    for array in (weight, ids, g):
        array.flags.writeable = False
    gradient = embedding_gradient(g, weight[ids], weight, ids)
    assert not np.shares_memory(gradient, weight)
    for array, was in zip((weight, ids, g), before):
        np.testing.assert_array_equal(array, was)


def test_gradients_are_the_slopes():
    ids = np.array([[1, 1, 4], [0, 1, 4]])
    assert check_grads(lambda w: embedding(w, ids) * embedding(w, ids[::-1]), Tensor(numbers(5, 2)))
    table = Embedding(5, 2)

    def loss(w):
        table.weight = w
        return (table(ids) * 2).exp()

    assert check_grads(loss, Tensor(numbers(5, 2)))


def test_two_lookups_of_one_table_add_up():
    weight = Tensor(numbers(4, 2), requires_grad=True)
    (embedding(weight, np.array([1, 2])).sum() + embedding(weight, np.array([2])).sum() * 3).backward()
    np.testing.assert_array_equal(weight.grad, [[0, 0], [1, 1], [4, 4], [0, 0]])


# Indices


@pytest.mark.parametrize(
    "given",
    [[1, 0], (1, 0), np.array([1, 0], dtype=np.uint8), np.array([1.0, 0.0]), Tensor([1, 0])],
)
def test_indices_come_in_many_forms(given):
    ids = token_ids(given, 2)
    assert ids.dtype == np.int64 and ids.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([3], ["index 3", "(0,)", "2"]),
        ([0, -1], ["index -1", "(1,)"]),
        ([[0, 1], [2, 5]], ["index 5", "(1, 1)"]),
        ([[[0], [-7]], [[9], [1]]], ["index -7", "(0, 1, 0)"]),
        (Tensor([0, 1, 300]), ["index 300", "(2,)"]),
        (4, ["index 4"]),
    ],
)
def test_index_without_a_row_is_named_with_its_place(given, words):
    for call in (lambda: token_ids(given, 3), lambda: Embedding(3, 2)(given)):
        with pytest.raises(IndexError) as caught:
            call()
        assert all(word in str(caught.value) for word in words)
        assert "np." not in str(caught.value)


@pytest.mark.parametrize("given", [[0.5], [math.nan], [math.inf], ["a"], "text", [True, False]])
def test_what_is_no_whole_number_is_refused(given):
    with pytest.raises(ValueError, match="whole numbers"):
        token_ids(given, 3)


# The layer


def test_embedding_starts_as_a_standard_normal_and_repeats_with_the_seed():
    manual_seed(3)
    first = Embedding(400, 50).weight.data.copy()
    manual_seed(3)
    np.testing.assert_array_equal(first, Embedding(400, 50).weight.data)
    assert abs(first.mean()) < 0.03 and abs(first.std() - 1) < 0.02


def test_layers_name_their_parameters_and_buffers():
    class Both(Module):
        def __init__(self):
            self.tokens, self.learned = Embedding(5, 4), LearnedPositions(7, 4)
            self.waves, self.turns = SinusoidalPositions(9, 4), RotaryPositions(4, 9)

    model = Both()
    found = {name: p.shape for name, p in model.named_parameters()}
    assert found == {"tokens.weight": (5, 4), "learned.weight": (7, 4)}
    assert set(model.state_dict()) == {*found, "waves.table"}
    assert repr(model.tokens) == "Embedding(5, 4)"


def test_only_rows_of_the_batch_move():
    table = Embedding(6, 3)
    before = table.weight.data.copy()
    table([[1, 4], [4, 4]]).sum().backward()
    SGD(table.parameters(), lr=0.5).step()
    np.testing.assert_allclose(before - table.weight.data, 0.5 * np.outer([0, 1, 0, 0, 3, 0], np.ones(3)), atol=1e-6)


# Positions


@pytest.mark.parametrize(("length", "start", "count"), [(5, 0, 5), (5, 4, 1), (9, 3, 2), (3, 3, 0)])
def test_window_gives_count_rows_from_start(length, start, count):
    assert list(range(length))[window(length, start, count)] == list(range(start, start + count))


@pytest.mark.parametrize(("start", "count"), [(0, 6), (5, 1), (3, 3), (-1, 2), (-5, 5)])
def test_window_refuses_positions_that_do_not_exist(start, count):
    with pytest.raises(ValueError, match=f"{start} to {start + count - 1}.*5"):
        window(5, start, count)


@pytest.mark.parametrize(("length", "dim", "base"), [(1, 2, 1e4), (20, 8, 1e4), (7, 5, 100.0), (4, 1, 1e4), (300, 6, 50.0)])
def test_waves_follow_the_formula(length, dim, base):
    table = sinusoidal_positions(length, dim, base)
    assert table.shape == (length, dim)
    for position in range(length):
        for column in range(dim):
            angle = position / base ** (2 * (column // 2) / dim)
            wanted = math.cos(angle) if column % 2 else math.sin(angle)
            assert table[position, column] == pytest.approx(wanted, abs=1e-9)


def test_product_of_two_waves_knows_the_distance_only():
    table = sinusoidal_positions(60, 16)
    products = table @ table.T
    for distance in range(10):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], atol=1e-9)


@pytest.mark.parametrize("kind", [LearnedPositions, SinusoidalPositions])
@pytest.mark.parametrize(("shape", "start"), [((2, 4, 6), 0), ((2, 4, 6), 5), ((4, 6), 3), ((1, 1, 6), 8), ((2, 3, 4, 6), 1)])
def test_positions_are_added_from_start(kind, shape, start):
    layer, x = kind(9, 6), numbers(*shape, seed=4)
    table = (layer.weight if kind is LearnedPositions else layer.table).data
    out = layer(Tensor(x), start=start)
    np.testing.assert_allclose(out.data, x + table[start : start + shape[-2]], rtol=1e-6)
    with pytest.raises(ValueError, match="table of 9"):
        layer(Tensor(x), start=10 - shape[-2])


def test_learned_positions_get_the_sum_over_texts():
    layer, g = LearnedPositions(6, 2), numbers(3, 4, 2, seed=5)
    x = Tensor(numbers(3, 4, 2), requires_grad=True)
    layer(x, start=1).backward(g)
    np.testing.assert_allclose(layer.weight.grad[1:5], g.sum(axis=0), rtol=1e-5, atol=1e-6)
    assert not layer.weight.grad[[0, 5]].any()
    np.testing.assert_array_equal(x.grad, g)


def test_learned_positions_start_small():
    manual_seed(0)
    assert LearnedPositions(500, 40).weight.data.std() == pytest.approx(0.02, rel=0.03)


# Turns


@pytest.mark.parametrize("shape", [(1, 2), (5, 8), (2, 3, 4, 6), (1, 4, 1, 2)])
def test_turn_is_a_product_of_complex_numbers(shape):
    rng = np.random.default_rng(6)
    x, angle = rng.standard_normal(shape), rng.uniform(-9, 9, (shape[-2], shape[-1] // 2))
    turned, half = turn_pairs(x, np.cos(angle), np.sin(angle)), shape[-1] // 2
    for place in np.ndindex(*shape[:-1]):
        for i in range(half):
            point = complex(x[place][i], x[place][i + half]) * cmath.exp(1j * angle[place[-1], i])
            assert turned[place][i] == pytest.approx(point.real)
            assert turned[place][i + half] == pytest.approx(point.imag)


def test_turning_back_undoes_a_turn():
    rng = np.random.default_rng(7)
    x, angle = rng.standard_normal((3, 5, 8)), rng.uniform(0, 6, (5, 4))
    there = turn_pairs(x, np.cos(angle), np.sin(angle))
    back = rotary_gradient(there, there, x, np.cos(angle), np.sin(angle))
    np.testing.assert_allclose(back, x, atol=1e-12)


@pytest.mark.parametrize(("shape", "start"), [((1, 2, 3, 4), 0), ((2, 1, 2, 6), 5), ((3, 2), 7)])
def test_rotary_gradients_are_the_slopes(shape, start):
    layer = RotaryPositions(shape[-1], 10)
    assert check_grads(lambda x: layer(x, start=start) * layer(x), Tensor(numbers(*shape)))


def test_turns_keep_lengths():
    x = numbers(2, 3, 50, 8)
    out = RotaryPositions(8, 50)(Tensor(x)).data
    np.testing.assert_allclose((out**2).sum(axis=-1), (x**2).sum(axis=-1), rtol=1e-5)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 10.0])
def test_scores_know_the_distance_only(base):
    layer, q, k = RotaryPositions(8, 3000, base=base), Tensor(numbers(1, 8)), Tensor(numbers(1, 8, seed=1))

    def score(i, j):
        return (layer(q, start=i) * layer(k, start=j)).sum().item()

    for i, j in [(0, 0), (5, 2), (2, 5), (900, 100)]:
        assert score(i + 1700, j + 1700) == pytest.approx(score(i, j), abs=2e-5)
    assert abs(score(5, 2) - score(2, 5)) > 1e-3


def test_start_equals_the_later_part_of_a_longer_text():
    layer, x = RotaryPositions(6, 20), numbers(2, 2, 12, 6)
    whole = layer(Tensor(x)).data
    for cut in (1, 5, 11):
        np.testing.assert_array_equal(layer(Tensor(x[..., cut:, :]), start=cut).data, whole[..., cut:, :])


def test_far_positions_are_exact():
    layer = RotaryPositions(4, 100_001)
    out = layer(Tensor([[1.0, 1.0, 0.0, 0.0]]), start=100_000).data[0]
    wanted = [math.cos(1e5), math.cos(1e3), math.sin(1e5), math.sin(1e3)]
    np.testing.assert_allclose(out, wanted, atol=1e-6)


def test_turns_stay_float32_all_the_way():
    layer, x = RotaryPositions(4, 8), Tensor(numbers(1, 2, 3, 4), requires_grad=True)
    out = layer(x)
    g = np.ones_like(out.data)
    part = out._node.rules[0](g, out.data, *out._node.args, **out._node.kwargs)
    assert out.data.dtype == part.dtype == np.float32


def test_rotary_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="even, got 5"):
        RotaryPositions(5, 10)
    layer = RotaryPositions(4, 10)
    with pytest.raises(ValueError, match="8.*one head"):
        layer(Tensor(numbers(1, 2, 3, 8)))
    with pytest.raises(ValueError, match="table of 10"):
        layer(Tensor(numbers(1, 2, 3, 4)), start=8)
    with pytest.raises(ValueError, match="-2 to 0"):
        layer(Tensor(numbers(1, 2, 3, 4)), start=-2)


def test_rotary_is_recorded_under_its_name():
    x = Tensor(numbers(3, 4), requires_grad=True)
    assert rotary(x, np.ones((3, 2)), np.zeros((3, 2)))._node.name == "rotary"
    weight = Tensor(numbers(3, 4), requires_grad=True)
    assert embedding(weight, np.array([1]))._node.name == "embedding"
