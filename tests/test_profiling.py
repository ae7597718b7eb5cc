"""Module 14 against the outside: torch's FLOP counter, the trace format, tracemalloc, XML, Amdahl.

torch counts matrix products alone. So ours are compared without what a bias adds; layers that treat
every entry alike are counted by hand in the module's own checks.
"""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tinytorch.core.activations import ReLU
from tinytorch.core.layers import Flatten, Linear, Module, Sequential
from tinytorch.core.tensor import Tensor
from tinytorch.nn.attention import MultiHeadAttention
from tinytorch.nn.conv import BatchNorm2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from tinytorch.nn.transformer import GPT, EncoderBlock, GPTConfig
from tinytorch.profiling import (
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
from torch.utils.flop_counter import FlopCounterMode


def torch_flops(call):
    """FLOPs of a call, by torch."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return counter.get_total_flops()


def products(report):
    """FLOPs of all matrix products of a report, without the additions of biases."""
    total = 0
    for row in report.rows:
        if row.type in ("Linear", "Conv2d", "MultiHeadAttention"):
            total += row.flops
            layer = next(call.layer for call in report.calls if call.name == row.name)
            if getattr(layer, "bias", None) is not None:
                total -= int(np.prod(row.out_shape))
    return total


def zeros(*shape):
    return Tensor(np.zeros(shape))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 7), (5, 7), (2, 3, 7), (2, 3, 4, 7)])
def test_linear_flops_are_torchs(shape, bias):
    wanted = torch_flops(lambda: torch.nn.Linear(7, 11, bias=bias)(torch.zeros(shape)))
    report = Profiler(Linear(7, 11, bias=bias)).report(zeros(*shape), repeats=1)
    assert products(report) == wanted > 0


CONVOLUTIONS = [
    (1, 1, 3, 1, 0), (3, 8, 3, 1, 1), (3, 8, 3, 2, 1), (4, 6, 5, 3, 2), (2, 5, 1, 1, 0),
    (2, 4, (1, 5), 1, 0),
]  # fmt: skip


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("sizes", CONVOLUTIONS)
def test_conv2d_flops_are_torchs(sizes, bias):
    c, o, kernel, stride, padding = sizes
    theirs = torch.nn.Conv2d(c, o, kernel, stride=stride, padding=padding, bias=bias)
    wanted = torch_flops(lambda: theirs(torch.zeros(2, c, 11, 9)))
    ours = Conv2d(c, o, kernel, stride=stride, padding=padding, bias=bias)
    assert products(Profiler(ours).report(zeros(2, c, 11, 9), repeats=1)) == wanted > 0


def torch_attention(x, heads, kv_heads):
    """Multi-head attention by torch's own matrix products; keys and values shared."""
    b, t, dim = x.shape
    d = dim // heads
    linear = torch.nn.Linear
    q = linear(dim, dim)(x).view(b, t, heads, d).transpose(1, 2)
    k = linear(dim, d * kv_heads)(x).view(b, t, kv_heads, d).transpose(1, 2)
    v = linear(dim, d * kv_heads)(x).view(b, t, kv_heads, d).transpose(1, 2)
    k, v = (part.repeat_interleave(heads // kv_heads, dim=1) for part in (k, v))
    out = ((q @ k.transpose(-2, -1)) / d**0.5).softmax(-1) @ v
    return linear(dim, dim)(out.transpose(1, 2).reshape(b, t, dim))


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 9, 16), (3, 20, 16)])
def test_attention_flops_are_torchs(shape, kv_heads):
    wanted = torch_flops(lambda: torch_attention(torch.zeros(shape), 4, kv_heads))
    layer = MultiHeadAttention(16, heads=4, kv_heads=kv_heads)
    assert products(Profiler(layer).report(zeros(*shape), repeats=1)) == wanted


def torch_gpt(config, tokens):
    """A GPT's products, block by block, with torch's layers."""
    c, d, linear = config, config.dim, torch.nn.Linear
    x = torch.nn.Embedding(c.vocab_size, d)(tokens)
    for _ in range(c.layers):
        x = x + torch_attention(F.layer_norm(x, (d,)), c.heads, c.key_heads)
        y = F.layer_norm(x, (d,))
        if c.mlp == "swiglu":
            gate, up = linear(d, c.hidden_size, bias=False), linear(d, c.hidden_size, bias=False)
            x = x + linear(c.hidden_size, d, bias=False)(F.silu(gate(y)) * up(y))
        else:
            x = x + linear(c.hidden_size, d)(F.gelu(linear(d, c.hidden_size)(y)))
    return linear(d, c.vocab_size, bias=False)(x)


CONFIGS = {
    "GPT-2's kind": GPTConfig(50, 32, dim=24, heads=3, layers=3),
    "Llama's kind": GPTConfig.llama(40, 32, dim=32, heads=4, layers=2, kv_heads=2),
    "sinusoidal": GPTConfig(30, 16, dim=16, heads=2, layers=1, positions="sinusoidal"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_gpt_flops_are_torchs(config):
    tokens = np.random.default_rng(0).integers(0, config.vocab_size, (2, 13))
    wanted = torch_flops(lambda: torch_gpt(config, torch.from_numpy(tokens)))
    report = Profiler(GPT(config)).report(tokens, repeats=1)
    assert products(report) == wanted
    assert all(row.flops is not None for row in report.rows), "a layer of the course has no rule"


def cnn():
    return Sequential(
        Conv2d(1, 4, 3, padding=1), BatchNorm2d(4), ReLU(), MaxPool2d(2),
        Conv2d(4, 6, 3, stride=2, bias=False), ReLU(), GlobalAvgPool2d(), Linear(6, 10),
    )  # fmt: skip


def test_cnn_flops_are_torchs():
    nn = torch.nn
    theirs = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 10),
    )  # fmt: skip
    wanted = torch_flops(lambda: theirs(torch.zeros(5, 1, 14, 14)))
    report = Profiler(cnn()).report(zeros(5, 1, 14, 14), repeats=1)
    assert products(report) == wanted
    assert report.parameters == sum(p.numel() for p in theirs.parameters())


# bytes


def test_bytes_are_those_of_the_arrays():
    """Linear, ReLU and Conv2d: x, the layer's tensors and the result, as NumPy counts them."""
    cases = [(Linear(7, 3), (5, 7)), (ReLU(), (4, 9)), (Conv2d(2, 3, 3), (2, 2, 6, 6))]
    for layer, shape in cases:
        x = zeros(*shape)
        out = layer(x)
        held = sum(v.data.nbytes for v in vars(layer).values() if isinstance(v, Tensor))
        wanted = x.data.nbytes + out.data.nbytes + held
        assert cost_of(layer, shape, out.shape).bytes == wanted


def test_activation_bytes_are_results_and_views_are_none():
    report = Profiler(Sequential(ReLU(), Flatten(), Linear(12, 5))).report(zeros(2, 3, 4))
    assert [row.activation_bytes for row in report.rows] == [2 * 12 * 4, 0, 2 * 5 * 4]


@pytest.mark.parametrize("count", [1_000, 250_000])
def test_profile_memory_counts_array_bytes(count):
    """tracemalloc sees the arrays' bytes and, per object, some hundred bytes of Python."""

    def work():
        a, b = np.ones(count, np.float32), np.ones(count, np.float32)
        return a + b  # of unnamed operands NumPy would reuse the memory of one

    use = profile_memory(work)
    assert 0 <= use.live - 4 * count < 1000
    assert 0 <= use.peak - 12 * count < 2000


# the report


def test_the_report_leaves_model_and_modes_as_they_were():
    model = cnn()
    model.layers[1].training = False
    before = model.state_dict()
    own = [set(vars(layer)) | {"training"} for layer in model.layers]
    report = Profiler(model).report(zeros(2, 1, 14, 14))
    modules = [layer for layer in model.layers if isinstance(layer, Module)]
    assert [layer.training for layer in modules].count(False) == 1
    assert [set(vars(layer)) | {"training"} for layer in model.layers] == own
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[name])
    assert [row.name for row in report.rows] == [str(i) for i in range(8)]
    assert report.hottest.seconds == max(row.seconds for row in report.rows)


def test_seconds_are_counted_once():
    report = Profiler(EncoderBlock(32, heads=4)).report(zeros(2, 16, 32))
    assert 0 < sum(row.seconds for row in report.rows) <= report.seconds
    assert sum(row.share for row in report.rows) <= 1
    names = [row.name for row in report.rows]
    assert names.index("attention") < names.index("attention.query")
    assert "between the layers" in str(report) and "attention.query" in str(report)


def test_a_layer_without_rule_is_unknown_not_zero():
    class Unit(Module):
        def forward(self, x):
            return x * 2

    report = Profiler(Sequential(Linear(3, 3), Unit())).report(zeros(2, 3))
    assert report.rows[1].flops is None
    assert "COSTS[Unit]" in str(report)
    assert report.flops == report.rows[0].flops


def test_several_inputs_and_named_layers_are_watched():
    class Both(Module):
        def __init__(self):
            self.left, self.right = Linear(3, 2), Linear(4, 2)

        def forward(self, a, b):
            return self.left(a) + self.right(b)

    report = Profiler(Both()).report(zeros(5, 3), zeros(5, 4))
    assert [(row.name, row.x_shape) for row in report.rows] == [("left", (5, 3)), ("right", (5, 4))]


# the trace


def test_the_trace_follows_the_event_format(tmp_path):
    """Complete events: name, cat, ph X, ts and dur in microseconds, pid, tid; nested by time."""
    config = GPTConfig(20, 8, dim=16, heads=2, layers=2)
    report = Profiler(GPT(config)).report(np.zeros((1, 8), dtype=int))
    report.save_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len(events) == len(report.calls)
    for event in events:
        assert event["ph"] == "X" and isinstance(event["name"], str)
        assert isinstance(event["cat"], str) and isinstance(event["args"], dict)
        assert event["pid"] == events[0]["pid"] and event["tid"] == events[0]["tid"]
        assert event["ts"] >= 0 and event["dur"] > 0
    assert events[0]["ts"] == 0
    assert events[0]["dur"] == pytest.approx(report.seconds * 1e6)
    stack = []  # a viewer's own way: an event lies in the last one that has not ended yet
    for event, call in zip(events, report.calls):
        while stack and event["ts"] >= stack[-1]["ts"] + stack[-1]["dur"]:
            stack.pop()
        above = stack[-1]["name"] if stack else None
        assert above == (None if call.parent is None else report.calls[call.parent].name)
        if stack:
            assert event["ts"] + event["dur"] <= stack[-1]["ts"] + stack[-1]["dur"] + 1e-3
        stack.append(event)


# Amdahl and the roofline


@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 0.95, 1.0])
@pytest.mark.parametrize("speedup", [0.5, 1.0, 2.0, 10.0])
def test_amdahl_is_what_a_run_of_100_steps_gives(share, speedup):
    fast = round(100 * share)
    after = (100 - fast) + sum(1 / speedup for _ in range(fast))
    assert amdahl(share, speedup) == pytest.approx(100 / after)


def test_amdahl_of_70_percent_at_twice_is_1_53():
    assert int(100 * amdahl(0.7, 2)) == 153
    with pytest.raises(ValueError, match="70 percent"):
        amdahl(70, 2)


def test_machine_measures_plausible_speeds():
    machine = Machine.measure(size=256, megabytes=8)
    assert 1e8 < machine.peak_flops < 1e14 and 1e8 < machine.bandwidth < 1e13


POINTS = [Point("matmul", 170.0, 50e9), Point("a & <b>", 0.125, 2e9), Point("conv", 40.0, 5e9)]


def test_the_picture_is_xml_with_every_point_below_its_roof(tmp_path):
    machine = Machine(60e9, 20e9)
    roofline_svg(machine, POINTS, tmp_path / "roof.svg")
    root = ET.parse(tmp_path / "roof.svg").getroot()
    space = "{http://www.w3.org/2000/svg}"
    texts = [node.text or "" for node in root.iter(f"{space}text")]
    assert any("a & <b>" in text for text in texts)
    corners = [
        tuple(map(float, pair.split(",")))
        for pair in next(root.iter(f"{space}polyline")).get("points").split()
    ]
    circles = [(float(c.get("cx")), float(c.get("cy"))) for c in root.iter(f"{space}circle")]
    assert len(circles) == 3 and len(corners) == 3
    assert corners[1][1] == corners[2][1] < corners[0][1], "sloped, then flat"
    for (x, y), point in zip(circles, POINTS):
        roof = np.interp(x, [c[0] for c in corners], [c[1] for c in corners])
        below = point.speed < roofline(machine, point.intensity)
        assert (y > roof - 0.1) == below


def test_the_text_picture_has_every_letter():
    text = roofline_text(Machine(60e9, 20e9), POINTS)
    grid = text.split("+---")[0]
    assert all(grid.count(letter) >= 1 for letter in "abc")
    assert "/" in grid and "-" in grid
    with pytest.raises(ValueError, match="embedding"):
        roofline_text(Machine(1e9, 1e9), [Point("embedding", 0.0, 0.0)])


def test_time_call_keeps_both_clocks():
    timing = time_call(lambda: sum(range(1000)), repeats=4)
    assert isinstance(timing, Timing) and len(timing.wall) == len(timing.cpu) == 4
    assert timing.minimum <= timing.median <= max(timing.wall)
