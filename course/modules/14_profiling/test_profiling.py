"""Hidden variants of module 14: other sizes, other trees, clocks that stand still, counts by loops."""

import itertools
import json
import math
import time
import tracemalloc

import numpy as np
import pytest

from tinytorch.core.activations import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.autograd import is_grad_enabled
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Sequential
from tinytorch.core.tensor import Tensor
from tinytorch.nn.attention import MultiHeadAttention
from tinytorch.nn.conv import AvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from tinytorch.nn.embedding import Embedding, LearnedPositions, RotaryPositions
from tinytorch.nn.transformer import GPT, GPTConfig, LayerNorm, RMSNorm
from tinytorch.profiling import (
    COSTS,
    Cost,
    Machine,
    Point,
    Profiler,
    Timing,
    amdahl,
    cost_of,
    profile_memory,
    roofline,
    roofline_svg,
    roofline_text,
    time_call,
)


class Clocks:
    """Clocks that move by `go` alone."""

    def __init__(self, monkeypatch):
        self.wall, self.cpu = 7.0, 3.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.wall)
        monkeypatch.setattr(time, "process_time", lambda: self.cpu)
        monkeypatch.setattr(time, "time", lambda: -self.wall)

    def go(self, wall, cpu=0.0):
        self.wall, self.cpu = self.wall + wall, self.cpu + cpu


def zeros(*shape):
    return Tensor(np.zeros(shape))


# time


@pytest.mark.parametrize("repeats, warmup", [(1, 0), (3, 1), (4, 5), (2, 0)])
def test_time_call_notes_every_repetition_after_the_warm_up(monkeypatch, repeats, warmup):
    clock, steps = Clocks(monkeypatch), itertools.count(1)

    def work():
        step = next(steps)
        clock.go(step * step, step)

    timing = time_call(work, repeats=repeats, warmup=warmup)
    numbers = range(warmup + 1, warmup + repeats + 1)
    assert timing == Timing(tuple(float(n * n) for n in numbers), tuple(float(n) for n in numbers))
    assert timing.minimum == (warmup + 1) ** 2
    assert timing.median == np.median([n * n for n in numbers])


def test_time_call_refuses_results_and_no_repeats():
    with pytest.raises(TypeError, match="lambda"):
        time_call(np.ones(3))
    with pytest.raises(ValueError, match="repeats=0"):
        time_call(lambda: 1, repeats=0)


# memory


@pytest.mark.parametrize("sizes", [(1, 0, 2), (3, 1, 1), (0, 4, 1)])
def test_profile_memory_by_hand(sizes):
    """a and b at once, b is dropped, then a and c: the peak is the larger pair."""
    first, second, third = (n * 100_000 for n in sizes)

    def work():
        a = np.ones(first, np.float32)
        b = np.ones(second, np.float32)
        del b
        c = np.ones(third, np.float32)
        return a, c

    use = profile_memory(work)
    assert use.live == pytest.approx(4 * (first + third), abs=2000)
    assert use.peak == pytest.approx(4 * (first + max(second, third)), abs=2000)
    assert [part.size for part in use.result] == [first, third]
    assert not tracemalloc.is_tracing()


def test_profile_memory_inside_of_another_count():
    tracemalloc.start()
    try:
        held = np.ones(300_000)
        del held
        held = np.ones(100_000)
        use = profile_memory(lambda: np.ones(50_000))
        assert tracemalloc.is_tracing() and held.size
        assert use.live == pytest.approx(400_000, abs=2000)
        assert use.peak == pytest.approx(400_000, abs=2000)
    finally:
        tracemalloc.stop()


def test_profile_memory_stops_after_an_error():
    with pytest.raises(ZeroDivisionError):
        profile_memory(lambda: 1 / 0)
    assert not tracemalloc.is_tracing()


# costs


def linear_by_loops(rows, inputs, outputs, bias):
    flops = 0
    for _ in range(rows):
        for _ in range(outputs):
            for _ in range(inputs):
                flops += 2
            flops += bias
    return flops


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lead", [(), (1,), (4,), (2, 3), (2, 1, 3)])
def test_linear_cost_by_loops(lead, bias):
    layer, rows = Linear(5, 4, bias=bias), math.prod(lead)
    cost = cost_of(layer, (*lead, 5), (*lead, 4))
    assert cost.flops == linear_by_loops(rows, 5, 4, bias)
    assert cost.bytes == 4 * (rows * 5 + rows * 4 + 20 + 4 * bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (3, 1, 1), (3, 2, 0), ((2, 3), 1, 0)])
def test_conv2d_cost_by_counting(kernel, stride, padding, bias):
    layer = Conv2d(3, 4, kernel, stride=stride, padding=padding, bias=bias)
    x = zeros(2, 3, 7, 8)
    out = layer(x)
    flops = sum(2 * layer.weight.data[o].size + bias for _, o, _, _ in np.ndindex(out.shape))
    held = layer.weight.size + 4 * bias
    assert cost_of(layer, x.shape, out.shape) == Cost(flops, 4 * (x.size + out.size + held))


@pytest.mark.parametrize("heads, kv_heads", [(1, 1), (2, 2), (4, 2), (4, 1)])
def test_attention_cost_by_products(heads, kv_heads):
    b, t, dim = 3, 5, 8
    width = dim // heads
    flops = b * heads * (t * t * width * 2 + t * width * t * 2)
    scores, keys = b * heads * t * t, b * kv_heads * t * width
    moved = (b * t * dim + keys + scores) + (scores + scores) + (scores + keys + b * t * dim)
    layer = MultiHeadAttention(dim, heads, kv_heads=kv_heads)
    assert cost_of(layer, (b, t, dim), (b, t, dim)) == Cost(flops, 4 * moved)


@pytest.mark.parametrize(
    "layer, flops",
    [(ReLU(), 1), (Tanh(), 1), (Sigmoid(), 4), (SiLU(), 5), (GELU(), 5), (GELU("tanh"), 9),
     (Softmax(), 5), (LogSoftmax(), 5), (LayerNorm(6), 7), (RMSNorm(6), 4)],
)
def test_layers_that_treat_entries_alike(layer, flops):
    held = {LayerNorm: 12, RMSNorm: 6}.get(type(layer), 0)
    assert cost_of(layer, (5, 6), (5, 6)) == Cost(flops * 30, 4 * (60 + held))


def test_the_other_layers_of_the_table():
    norm = BatchNorm2d(3)
    assert cost_of(norm, (2, 3, 4, 4), (2, 3, 4, 4)).flops == 6 * 96
    assert cost_of(norm.eval(), (2, 3, 4, 4), (2, 3, 4, 4)) == Cost(2 * 96, 4 * (192 + 12))
    for pool in (MaxPool2d(3, stride=2), AvgPool2d(3, stride=2)):
        assert cost_of(pool, (2, 3, 7, 7), (2, 3, 3, 3)) == Cost(9 * 54, 4 * (294 + 54))
    assert cost_of(GlobalAvgPool2d(), (2, 3, 4, 5), (2, 3)) == Cost(120, 4 * 126)
    assert cost_of(Embedding(50, 6), (2, 5), (2, 5, 6)) == Cost(0, 80 + 8 * 60)
    assert cost_of(LearnedPositions(9, 6), (2, 5, 6), (2, 5, 6)) == Cost(60, 4 * (120 + 30))
    assert cost_of(RotaryPositions(6, 9), (2, 4, 5, 6), (2, 4, 5, 6)) == Cost(720, 4 * (480 + 30))
    assert cost_of(Flatten(), (2, 3, 4), (2, 12)) == Cost(0, 0)
    assert cost_of(Dropout(0.5).eval(), (2, 3), (2, 3)) == Cost(0, 0)


def test_cost_of_takes_the_nearest_class():
    class Base(Module):
        pass

    class Middle(Base):
        pass

    class Leaf(Middle):
        pass

    assert cost_of(Leaf(), (1,), (1,)) is None
    try:
        COSTS[Base] = lambda layer, x, out: Cost(1, 1)
        assert cost_of(Leaf(), (1,), (1,)) == Cost(1, 1)
        COSTS[Middle] = lambda layer, x, out: Cost(x[0], out[0])
        assert cost_of(Leaf(), (8,), (9,)) == Cost(8, 9)
        assert cost_of(Base(), (8,), (9,)) == Cost(1, 1)
    finally:
        COSTS.pop(Base), COSTS.pop(Middle, None)


# watching


class Takes(Module):
    """Takes `before` seconds, calls its parts, takes `after` seconds."""

    def __init__(self, clock, before, after, **parts):
        self.clock, self.before, self.after, self.names = clock, before, after, list(parts)
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x, scale=1.0):
        self.clock.go(self.before)
        for name in self.names:
            x = getattr(self, name)(x)
        self.clock.go(self.after)
        return x * scale


def test_rows_have_their_own_seconds(monkeypatch):
    clock = Clocks(monkeypatch)
    a, b = Takes(clock, 1.0, 0.5), Takes(clock, 2.0, 0.0)
    inner = Takes(clock, 0.25, 0.25, a=a, b=b)
    model = Takes(clock, 3.0, 1.0, first=inner, second=a)
    report = Profiler(model).report(zeros(2, 2), repeats=2)
    assert report.seconds == 9.5
    assert [(row.name, row.seconds) for row in report.rows] == [
        ("first.a", 1.5), ("first.b", 2.0), ("first.a", 1.5)
    ]
    assert [row.share for row in report.rows] == [1.5 / 9.5, 2.0 / 9.5, 1.5 / 9.5]
    assert report.hottest.name == "first.b"
    assert [call.parent for call in report.calls] == [None, 0, 1, 1, 0]
    assert "47.4 %" in str(report), "4.5 of 9.5 seconds lie between the layers"


def test_the_fastest_pass_counts(monkeypatch):
    clock, lengths = Clocks(monkeypatch), iter([100.0, 5.0, 2.0, 4.0])

    class Varies(Module):
        def forward(self, x):
            clock.go(next(lengths))
            return x

    assert Profiler(Varies()).report(zeros(1), repeats=3).seconds == 2.0


def test_nothing_stays_on_after_an_error():
    class Fails(Module):
        def forward(self, x):
            raise KeyError("row 7")

    model = Sequential(Linear(2, 2), ReLU(), Sequential(Linear(2, 2), Fails()))
    model.train()
    with pytest.raises(KeyError):
        Profiler(model).report(zeros(1, 2))
    layers = [model, *model, *model[2]]
    assert not [layer for layer in layers if "forward" in vars(layer)]
    assert model.training and model[0].training and is_grad_enabled()


def test_a_watch_inside_of_a_watch():
    model = Sequential(Linear(2, 2), ReLU())
    outer, inner = Profiler(model), Profiler(model)
    with outer.watching():
        model(zeros(1, 2))
        with inner.watching():
            model(zeros(1, 2))
        model(zeros(1, 2))
    assert len(outer.calls) == 9 and len(inner.calls) == 3
    assert not [layer for layer in (model, *model) if "forward" in vars(layer)]


def test_two_models_share_a_layer_and_a_single_layer_is_a_model():
    shared = Linear(2, 2)
    one, two = Sequential(shared, ReLU()), Sequential(ReLU(), shared)
    names = [row.name for row in Profiler(one).report(zeros(1, 2)).rows]
    assert names == ["0", "1"]
    assert [row.name for row in Profiler(two).report(zeros(1, 2)).rows] == ["0", "1"]
    alone = Profiler(shared).report(zeros(3, 2))
    assert [(row.name, row.flops) for row in alone.rows] == [("Linear", 30)]


def test_the_profiled_model_gives_what_it_gave_before():
    model = GPT(GPTConfig(11, 8, dim=8, heads=2, layers=2, dropout=0.5))
    tokens = np.arange(8)[None] % 11
    before = model.eval()(tokens).data
    report = Profiler(model.train()).report(tokens)
    assert model.training and model.blocks[0].dropout.training
    np.testing.assert_array_equal(model.eval()(tokens).data, before)
    assert report.parameters == sum(p.size for p in model.parameters())
    assert report.flops == sum(row.flops for row in report.rows)
    assert [row.type for row in report.rows].count("MultiHeadAttention") == 2
    assert report.peak > 0 and report.activation_bytes > 0


def test_the_trace_nests_by_time(monkeypatch, tmp_path):
    clock = Clocks(monkeypatch)
    model = Takes(clock, 1.0, 1.0, a=Takes(clock, 0.5, 0.0), b=Takes(clock, 0.25, 0.0))
    Profiler(model).report(zeros(2, 3)).save_trace(tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [(e["name"], e["ts"], e["dur"]) for e in events] == [
        ("Takes", 0.0, 2.75e6), ("a", 1e6, 0.5e6), ("b", 1.5e6, 0.25e6)
    ]
    assert {e["ph"] for e in events} == {"X"} and len({(e["pid"], e["tid"]) for e in events}) == 1
    assert events[1]["args"] == {"input": [2, 3], "output": [2, 3]}


# laws


@pytest.mark.parametrize("share, speedup", [(0.3, 3), (0.9, 100), (0.5, 0.25), (1.0, 7), (0.0, 7)])
def test_amdahl_by_adding_up_times(share, speedup):
    assert amdahl(share, speedup) == pytest.approx(1 / (1 - share + share / speedup))


def test_amdahl_at_the_corners():
    assert amdahl(0.75, math.inf) == 4.0 and amdahl(1.0, math.inf) == math.inf
    for share, speedup in [(1.5, 2), (-0.1, 2), (0.5, 0), (0.5, -1)]:
        with pytest.raises(ValueError, match="amdahl"):
            amdahl(share, speedup)


def test_roofline_on_both_sides_of_the_ridge():
    machine = Machine(peak_flops=40e9, bandwidth=8e9)
    assert machine.ridge == 5.0
    for intensity in (0.1, 1.0, 4.9):
        assert roofline(machine, intensity) == pytest.approx(8e9 * intensity)
    for intensity in (5.0, 5.1, 1e4):
        assert roofline(machine, intensity) == 40e9


def test_machine_measures_with_the_smallest_time(monkeypatch):
    clock, looks = Clocks(monkeypatch), itertools.count()
    pattern = itertools.cycle([5.0, 4.0, 9.0])

    def look():
        if next(looks) % 2:
            clock.go(next(pattern))
        return clock.wall

    monkeypatch.setattr(time, "perf_counter", look)
    machine = Machine.measure(size=16, megabytes=2)
    assert machine.peak_flops == 2 * 16**3 / 4 and machine.bandwidth == 2 * 2**21 / 4


def test_pictures_show_every_point(tmp_path):
    machine = Machine(50e9, 10e9)
    points = [Point(f"op {i}", 0.1 * 10**i, 1e9 * 2**i) for i in range(4)]
    assert all(f"op {i}" in roofline_text(machine, points) for i in range(4))
    roofline_svg(machine, points, tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_text().count("<circle") == 4
