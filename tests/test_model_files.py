"""tinytorch.save and load: what comes back, what is refused, that nothing in a file is run."""

import json
import os
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import tinytorch.optim.quantization as quantization
from tinytorch.core.activations import GELU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinytorch.core.layers import Dropout, Flatten, Linear, Module, Parameter, Sequential
from tinytorch.core.tensor import Tensor, manual_seed
from tinytorch.nn.attention import MultiHeadAttention
from tinytorch.nn.conv import AvgPool2d, BatchNorm2d, Conv2d, GlobalAvgPool2d, MaxPool2d
from tinytorch.nn.embedding import Embedding, LearnedPositions, RotaryPositions, SinusoidalPositions
from tinytorch.nn.transformer import (
    GPT,
    MLP,
    DecoderBlock,
    EncoderBlock,
    GPTConfig,
    LayerNorm,
    RMSNorm,
    SwiGLU,
    Transformer,
)
from tinytorch.optim.quantization import file_size, load, quantize, save

SMALL = {"dim": 16, "heads": 4, "layers": 2}
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
TOKENS = np.array([[1, 2, 3, 4]])
MODELS = {
    "linear": (lambda: Linear(8, 3), (Tensor(IMAGES),)),
    "linear without bias": (lambda: Linear(8, 3, bias=False), (Tensor(IMAGES),)),
    "mlp": (
        lambda: Sequential(Flatten(), Linear(192, 9), Tanh(), Dropout(0.3), Softmax()),
        (Tensor(IMAGES),),
    ),
    "activations": (
        lambda: Sequential(ReLU(), Sigmoid(), SiLU(), GELU("tanh"), LogSoftmax(dim=1)),
        (Tensor(IMAGES),),
    ),
    "cnn": (
        lambda: Sequential(
            Conv2d(3, 4, (3, 2), stride=2, padding=1), BatchNorm2d(4), ReLU(), MaxPool2d(2),
            AvgPool2d(1), GlobalAvgPool2d(), Linear(4, 2),
        ),
        (Tensor(IMAGES),),
    ),
    "norms": (lambda: Sequential(LayerNorm(8), RMSNorm(8, eps=1e-3)), (Tensor(IMAGES),)),
    "blocks": (
        lambda: Sequential(EncoderBlock(8, 2), DecoderBlock(8, 4), MLP(8, 12), SwiGLU(8, 6)),
        (Tensor(IMAGES[0]),),
    ),
    "attention with rotary positions": (
        lambda: MultiHeadAttention(8, 2, positions=RotaryPositions(4, 9), kv_heads=1),
        (Tensor(IMAGES[0]),),
    ),
    "embedding and positions": (
        lambda: Sequential(Embedding(9, 6), LearnedPositions(5, 6), SinusoidalPositions(5, 6)),
        (TOKENS,),
    ),
    "gpt": (lambda: GPT(GPTConfig(40, 8, **SMALL)), (TOKENS,)),
    "gpt, not tied": (lambda: GPT(GPTConfig(40, 8, tie_weights=False, **SMALL)), (TOKENS,)),
    "llama": (lambda: GPT(GPTConfig.llama(40, 8, kv_heads=2, **SMALL)), (TOKENS,)),
    "transformer": (lambda: Transformer(9, 9, max_length=6, **SMALL), (TOKENS, TOKENS)),
}  # fmt: skip


def made(name):
    manual_seed(1)
    return MODELS[name][0]().eval(), MODELS[name][1]


def is_same(again, model, inputs):
    """The same layers, arrays, types and answers, bit for bit."""
    assert repr(again) == repr(model)
    before, after = dict(model.named_tensors()), dict(again.named_tensors())
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert type(after[name]) is type(tensor), name
        assert after[name].requires_grad == tensor.requires_grad
        assert after[name].data.dtype == tensor.data.dtype
        assert after[name].data.flags.c_contiguous == tensor.data.flags.c_contiguous
        np.testing.assert_array_equal(after[name].data, tensor.data)
    np.testing.assert_array_equal(again(*inputs).data, model(*inputs).data)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_comes_back_bit_for_bit(name, tmp_path):
    model, inputs = made(name)
    save(model, tmp_path / "m.pt")
    is_same(load(tmp_path / "m.pt"), model, inputs)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("kind", ["int8", "int4", "static"])
def test_every_quantized_model_comes_back_bit_for_bit(name, kind, tmp_path):
    model, inputs = made(name)
    if kind == "static" and len(inputs) > 1:
        inputs = ()  # a model of two inputs is calibrated by hand: quantize passes one
    calibration = [inputs[0]] if kind == "static" and inputs else None
    twin = quantize(model, 4 if kind == "int4" else 8, calibration=calibration)
    save(twin, tmp_path / "m.pt")
    is_same(load(tmp_path / "m.pt"), twin, MODELS[name][1])


def test_shared_parts_are_stored_once_and_shared_again(tmp_path):
    llama, _ = made("llama")
    save(llama, tmp_path / "m.pt")
    again = load(tmp_path / "m.pt")
    assert again.head.weight is again.embedding.weight
    assert again.blocks[0].attention.positions is again.blocks[1].attention.positions
    assert again.config == llama.config
    with safetensors.safe_open(tmp_path / "m.pt", "numpy") as file:
        assert "head.weight" not in file.keys()  # noqa: SIM118


def test_other_programs_can_read_the_arrays(tmp_path):
    model, _ = made("cnn")
    save(model, tmp_path / "m.safetensors")
    arrays = safetensors.numpy.load_file(tmp_path / "m.safetensors")
    state = model.state_dict()
    assert arrays.keys() == state.keys()
    assert all(np.array_equal(arrays[name], state[name]) for name in state)


def test_the_same_model_gives_the_same_bytes(tmp_path):
    first, second = tmp_path / "a.pt", tmp_path / "b.pt"
    save(made("gpt")[0], first)
    save(load(first), second)
    assert first.read_bytes() == second.read_bytes()
    assert file_size(load(first)) == os.stat(first).st_size


def test_loading_draws_no_random_number(tmp_path):
    save(made("gpt")[0], tmp_path / "m.pt")
    manual_seed(3)
    wanted = Linear(2, 2).weight.data
    manual_seed(3)
    load(tmp_path / "m.pt")
    assert (Linear(2, 2).weight.data == wanted).all()


def test_what_is_loaded_learns_on(tmp_path):
    save(made("mlp")[0], tmp_path / "m.pt")
    again = load(tmp_path / "m.pt")
    assert not again.training and not any(m.training for m in again.modules())
    again.train()(Tensor(IMAGES)).sum().backward()
    assert all(p.grad is not None for p in again.parameters())


# classes of one's own


class Unit(Module):
    """A layer of somebody's own, with a constructor that the file knows nothing about."""

    def __init__(self, width, secret):
        self.secret, self.sizes = secret, (width, [width])[:1]
        self.inner = Linear(width, width)

    def forward(self, x):
        return self.inner(x) * self.secret


def test_own_classes_are_asked_for(tmp_path):
    path, net = tmp_path / "m.pt", Sequential(Unit(8, 3.5), ReLU()).eval()
    save(net, path)
    with pytest.raises(ValueError) as caught:
        load(path)
    first, second = str(caught.value).split("\n")
    assert str(path) in first and 'load(path, classes={"Unit": Unit})' in second
    is_same(load(path, classes={"Unit": Unit}), net, (Tensor(IMAGES),))


def test_a_class_that_takes_a_course_layers_name_is_refused(tmp_path):
    class Linear(Module):
        """Not the course's."""

    with pytest.raises(TypeError, match="Linear"):
        save(Linear(), tmp_path / "m.pt")


@pytest.mark.parametrize(
    "part", [len, {"a": 1}, [1], object(), lambda x: x], ids=lambda part: type(part).__name__
)
def test_what_a_file_cannot_hold_is_named(part, tmp_path):
    net = Sequential(ReLU())
    net.extra = part
    with pytest.raises(TypeError, match=r"save: extra is a .*\nNext: "):
        save(net, tmp_path / "m.pt")
    assert os.listdir(tmp_path) == []


# damage


def refused(path, words="."):
    """load raises ValueError of two lines: the file's name and what, then what to do."""
    with pytest.raises(ValueError, match=words) as caught:
        load(path)
    first, second = str(caught.value).split("\n")
    assert first.startswith(f"{path}: ") and second.startswith("Next: ")


@pytest.fixture
def raw(tmp_path):
    manual_seed(2)
    net = Sequential(Linear(3, 2), ReLU(), quantize(Linear(2, 2)))
    save(net, tmp_path / "good.pt")
    return (tmp_path / "good.pt").read_bytes()


def test_every_cut_is_noticed(raw, tmp_path):
    path = tmp_path / "bad.pt"
    for end in range(len(raw)):
        path.write_bytes(raw[:end])
        refused(path)


def test_every_flipped_bit_is_noticed(raw, tmp_path):
    path = tmp_path / "bad.pt"
    for place in range(len(raw)):
        bent = bytearray(raw)
        bent[place] ^= 1 << (place % 8)
        path.write_bytes(bent)
        refused(path)


def test_random_damage_is_noticed(raw, tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "bad.pt"
    for _ in range(300):
        bent = bytearray(raw)
        start = int(rng.integers(len(raw)))
        piece = rng.bytes(int(rng.integers(1, 40)))
        kind = rng.integers(3)
        if kind == 0:
            bent[start : start + len(piece)] = piece  # overwritten
        elif kind == 1:
            bent[start:start] = piece  # something in between
        else:
            del bent[start : start + len(piece)]
        path.write_bytes(bent)
        if bytes(bent) != raw:
            refused(path)


FOREIGN = {
    "empty": b"",
    "text": b"this is no model\n" * 50,
    "zeros": bytes(1000),
    "ones": b"\xff" * 1000,
    "huge header": (2**62).to_bytes(8, "little") + b"{}",
    "png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "web page": b"<!DOCTYPE html><html>please log in</html>",
    "json": b'{"format": 1, "model": {"type": "Linear"}}',
    "plain safetensors": safetensors.numpy.save({"weight": np.ones(3, np.float32)}),
    "other metadata": safetensors.numpy.save({"w": np.ones(3)}, {"tinytorch": "hello"}),
    "deep": safetensors.numpy.save({"w": np.ones(1)}, {"tinytorch": "[" * 100_000}),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_files_are_refused(name, tmp_path):
    path = tmp_path / "foreign.pt"
    path.write_bytes(FOREIGN[name])
    refused(path)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        load(tmp_path / "none.pt")


def test_a_checkpoint_of_module_07_is_no_model(tmp_path):
    from tinytorch.core.training import save_checkpoint

    save_checkpoint(tmp_path / "run.ckpt", {"epoch": 1, "w": np.ones(2)})
    refused(tmp_path / "run.ckpt")


# malice: the checksum is right, the content is not


class Loud:
    """Says so when it is unpickled or built."""

    heard: list[str] = []  # noqa: RUF012

    def __new__(cls, *args):
        cls.heard.append("built")
        return object.__new__(cls)

    def __reduce__(self):
        return (self.heard.append, ("unpickled",))


def forge(path: Path, model: object, arrays: dict[str, np.ndarray] | None = None, **more: object):
    """A file whose checksum is right, with any content."""
    about = {"format": 1, "crc32": "00000000", "origin": "student", "model": model, **more}
    text = json.dumps(about, separators=(",", ":"))
    raw = safetensors.numpy.save(arrays or {"weight": np.ones(2, np.float32)}, {"tinytorch": text})
    mark = quantization.NO_CRC
    crc = mark.replace(b"00000000", b"%08x" % zlib.crc32(raw))
    path.write_bytes(raw.replace(mark, crc, 1))


def test_a_forged_file_with_good_content_loads(tmp_path):
    forge(tmp_path / "m.pt", {"type": "Flatten", ".start_dim": 1})
    assert load(tmp_path / "m.pt").start_dim == 1


FORGED = {
    "a number": 3,
    "a list": [],
    "null": None,
    "no layer": {"type": "Module", ".weight": {"array": "Parameter", "order": "X"}},
    "array that is missing": {"type": "Module", ".bias": {"array": "Parameter", "order": "C"}},
    "array of a kind that is none": {"type": "Module", ".weight": {"array": "eval", "order": "C"}},
    "floats as integers": {"type": "Module", ".weight": {"array": "Integers", "order": "C"}},
    "same as nothing": {"type": "Module", ".a": {"same": "nowhere"}},
    "nothing known": {"type": "Module", ".a": {"strange": 1}},
    "a type that is a list": {"type": ["Module"]},
    "an activation": {"type": "ReLU"},
    "a tuple that is a number": {"type": "Module", ".a": {"tuple": 3}},
    "an array": {"array": "ndarray", "order": "C"},
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_files_are_refused(name, tmp_path):
    forge(tmp_path / "m.pt", FORGED[name])
    refused(tmp_path / "m.pt")


def test_a_newer_format_is_refused(tmp_path):
    forge(tmp_path / "m.pt", {"type": "Flatten", ".start_dim": 1}, format=2)
    refused(tmp_path / "m.pt", "newer")


def test_deeply_nested_layers_are_refused(tmp_path):
    text = (
        '{"format":1,"crc32":"00000000","model":'
        + '{"type":"Module",".m":' * 5000
        + "0"
        + "}" * 5001
    )
    raw = safetensors.numpy.save({"w": np.ones(1)}, {"tinytorch": text})
    mark = quantization.NO_CRC
    crc = mark.replace(b"00000000", b"%08x" % zlib.crc32(raw))
    (tmp_path / "m.pt").write_bytes(raw.replace(mark, crc, 1))
    refused(tmp_path / "m.pt")


def test_no_name_reaches_beyond_the_layers(tmp_path):
    for name in ("eval", "object", "Path", "Popen", "os", "Loud", "Trainer", "builtins"):
        forge(tmp_path / "m.pt", {"type": name})
        with pytest.raises(ValueError, match=rf"m\.pt: has layers.*\n.*{name}"):
            load(tmp_path / "m.pt")
    assert Loud.heard == []
    kinds = (Module, quantization.Activation, GPTConfig)
    assert all(issubclass(kind, kinds) for kind in quantization.LAYERS.values())


def test_constructors_are_not_called_and_special_names_are_only_entries(tmp_path):
    forge(tmp_path / "m.pt", {"type": "Flatten", ".__class__": "os", ".__init__": 3, ".forward": 1})
    again = load(tmp_path / "m.pt")
    assert type(again) is Flatten
    with pytest.raises(TypeError):
        again(Tensor(IMAGES))


def test_a_pickle_is_not_opened(tmp_path):
    (tmp_path / "m.pt").write_bytes(pickle.dumps(Loud()))
    Loud.heard.clear()
    refused(tmp_path / "m.pt")
    assert Loud.heard == []


# writing


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "m.pt"
    save(Linear(2, 2), path)
    before = path.read_bytes()

    def full(_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        save(Linear(3, 3), path)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["m.pt"]


def test_the_file_says_whose_code_made_it(tmp_path):
    save(Linear(2, 2), tmp_path / "m.pt")
    with safetensors.safe_open(tmp_path / "m.pt", "numpy") as file:
        about = json.loads(file.metadata()["tinytorch"])
    assert (about["format"], about["origin"]) == (1, "reference")
    assert about["model"]["type"] == "Linear"


def test_save_and_load_are_names_of_the_framework():
    import tinytorch

    assert tinytorch.save is save and tinytorch.load is load and tinytorch.quantize is quantize


def test_parameters_of_any_order_and_size_come_back(tmp_path):
    net = Module()
    net.scalar = Parameter(2.5)
    net.empty = Tensor(np.zeros((0, 3)))
    net.columns = Parameter(np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    net.nan = Tensor([np.nan, np.inf, -0.0])
    net.unicode, net.number, net.flag, net.nothing = 'größe "x" type', 3, True, None
    net.pair = (1, (2.5, "a", None))
    save(net, tmp_path / "m.pt")
    again = load(tmp_path / "m.pt")
    for name in ("scalar", "empty", "columns", "nan"):
        np.testing.assert_array_equal(getattr(again, name).data, getattr(net, name).data)
        assert getattr(again, name).shape == getattr(net, name).shape
    assert (again.unicode, again.number, again.flag, again.nothing, again.pair) == (
        net.unicode, 3, True, None, net.pair,
    )  # fmt: skip
