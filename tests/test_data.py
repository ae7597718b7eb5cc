"""tito.data: the table, the search order, fetching from a server of our own, strict readers."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tito import data
from tito.course import course_dir

BUILD = course_dir() / "data" / "tinydigits" / "build.py"


def idx(array: np.ndarray) -> bytes:
    """The idx encoding, written from its definition: magic, sizes, values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


def toy_arrays() -> dict[str, np.ndarray]:
    """MNIST in miniature: noise does not compress, so cutting a file really loses data."""
    rng = np.random.default_rng(0)
    return {"train-images-idx3-ubyte.gz": rng.integers(0, 256, (60, 28, 28)),
            "train-labels-idx1-ubyte.gz": rng.integers(0, 10, 60),
            "t10k-images-idx3-ubyte.gz": rng.integers(0, 256, (10, 28, 28)),
            "t10k-labels-idx1-ubyte.gz": rng.integers(0, 10, 10)}


def write_toy(folder: Path, level: int = 9) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in toy_arrays().items():
        (folder / name).write_bytes(gzip.compress(idx(array), level, mtime=0))


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; a path with `cut` announces the whole file and sends half of it."""

    requests: list[str]

    def __init__(self, *args: object, requests: list[str], **options: object) -> None:
        self.requests = requests
        super().__init__(*args, **options)

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if "/cut/" in self.path:
            return self.send_half()
        return super().do_GET()

    def send_half(self) -> None:
        body = (Path(self.directory) / "good" / Path(self.path).name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])

    def log_message(self, *args: object) -> None:
        pass


class Server:
    """Files under `root` at `url`; `requests` are the paths asked for, in order."""

    def __init__(self, root: Path) -> None:
        self.root, self.requests = root, []
        handler = functools.partial(QuietHandler, directory=str(root), requests=self.requests)
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    write_toy(tmp_path / "www" / "good")
    running = Server(tmp_path / "www")
    yield running
    running.http.shutdown()
    running.http.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $TINYTORCH_DATA and an empty cache, and no proxy between us and our server."""
    monkeypatch.setenv("TINYTORCH_DATA", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda app: str(tmp_path / "cache" / app))
    return tmp_path / "home"


@pytest.fixture
def toy(home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> data.Dataset:
    """A row of the table whose files and mirror are ours."""
    files = tuple(
        data.File(name, len(idx(array)), hashlib.sha256(idx(array)).hexdigest(), gz=True,
                  wire=(server.root / "good" / name).stat().st_size)
        for name, array in toy_arrays().items())
    row = data.Dataset("toy", "A toy MNIST", "toy", "idx", files, "made here", "MIT",
                       mirrors=(f"{server.url}/good/",))
    monkeypatch.setitem(data.DATASETS, "toy", row)
    return row


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def failure(name: str, **options: object) -> data.DataError:
    """The error of a fetch: two lines, the second with what to do."""
    with pytest.raises(data.DataError) as caught:
        data.fetch(name, **options)
    first, second = str(caught.value).split("\n")
    assert first and second.startswith("Next: ")
    return caught.value


# The shipped data


def test_tinydigits_shapes_types_and_balance() -> None:
    digits = data.load_tinydigits()
    assert digits.train_images.shape == (4000, 8, 8) and digits.test_images.shape == (1000, 8, 8)
    assert {array.dtype.name for array in digits} == {"uint8"}
    assert digits.train_images.max() == 16 and digits.test_images.max() == 16
    assert np.bincount(digits.train_labels).tolist() == [400] * 10
    assert np.bincount(digits.test_labels).tolist() == [100] * 10


def test_tinydigits_scans_are_those_of_scikit_learn() -> None:
    from sklearn.datasets import load_digits

    digits, scans = data.load_tinydigits(), load_digits()
    arrays = np.load(data.path("tinydigits") / "tinydigits.npz", allow_pickle=False)
    assert np.array_equal(digits.test_images, scans.images[arrays["test_source"]])
    assert np.array_equal(digits.test_labels, scans.target[arrays["test_source"]])
    assert np.array_equal(digits.train_labels, scans.target[arrays["train_source"]])
    real = arrays["train_transform"] == 0
    assert real.sum() == 797
    assert np.array_equal(digits.train_images[real], scans.images[arrays["train_source"][real]])


def test_tinydigits_training_never_touches_a_test_scan() -> None:
    arrays = np.load(data.path("tinydigits") / "tinydigits.npz", allow_pickle=False)
    assert not set(arrays["train_source"]) & set(arrays["test_source"])
    assert len(set(arrays["train_source"])) + len(set(arrays["test_source"])) == 1797
    train = {image.tobytes() for image in arrays["train_images"]}
    assert not train & {image.tobytes() for image in arrays["test_images"]}


def test_tinydigits_recipe_gives_the_shipped_bytes() -> None:
    done = subprocess.run([sys.executable, "-c", "import build, hashlib; "
                           "print(hashlib.sha256(build.pack(build.build())).hexdigest())"],
                          cwd=BUILD.parent, capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})
    digest = done.stdout.strip()
    assert digest == data.DATASETS["tinydigits"].files[0].sha256
    assert digest in (BUILD.parent / "README.md").read_text(encoding="utf-8")


def test_tinydigits_variant_can_be_made_again_from_its_provenance() -> None:
    from sklearn.datasets import load_digits

    spec = importlib.util.spec_from_file_location("tinydigits_build", BUILD)
    assert spec and spec.loader
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    scans = load_digits().images.astype(np.uint8)
    assert all(np.array_equal(build.variant(scan, "scan", 0), scan) for scan in scans[:50])
    arrays = np.load(BUILD.with_name("tinydigits.npz"), allow_pickle=False)
    for i in np.flatnonzero(arrays["train_transform"])[:20]:
        made = build.variant(scans[arrays["train_source"][i]],
                             build.TRANSFORMS[arrays["train_transform"][i]],
                             int(arrays["train_seed"][i]))
        assert np.array_equal(made, arrays["train_images"][i])


def test_tinydigits_is_learnable_by_a_linear_model() -> None:
    from sklearn.linear_model import LogisticRegression

    digits = data.load_tinydigits()
    model = LogisticRegression(max_iter=300).fit(digits.train_images.reshape(-1, 64) / 16.0,
                                                 digits.train_labels)
    assert model.score(digits.test_images.reshape(-1, 64) / 16.0, digits.test_labels) > 0.95


def test_load_tinydigits_refuses_a_foreign_file(tmp_path: Path) -> None:
    (tmp_path / "tinydigits.npz").write_bytes(b"not a zip")
    with pytest.raises(data.DataError, match="is not TinyDigits"):
        data.load_tinydigits(tmp_path)
    np.savez(tmp_path / "tinydigits.npz", train_images=np.array([object()], dtype=object))
    with pytest.raises(data.DataError, match="is not TinyDigits"):
        data.load_tinydigits(tmp_path)


# The table and the search order


def test_find_suggests_a_misspelt_name() -> None:
    with pytest.raises(data.DataError, match="did you mean mnist"):
        data.find("minst")
    assert data.find(" MNIST ").name == "mnist"


def test_table_sizes_and_checksums_are_well_formed() -> None:
    for dataset in data.DATASETS.values():
        for file in (*dataset.files, *filter(None, [dataset.archive])):
            assert file.size > 0
            assert file.sha256 is None or len(bytes.fromhex(file.sha256)) == 32
        assert all(url.startswith("https://") for url in dataset.mirrors)
    # 60,000 images of 28x28 and a header of 4 + 3 * 4 bytes; 10,000 records of 1 + 3072 bytes.
    assert data.find("mnist").files[0].size == 60_000 * 28 * 28 + 16
    assert data.find("cifar10").files[0].size == 10_000 * (1 + 3 * 32 * 32)


def test_path_prefers_tinytorch_data_then_cache_then_course(
        home: Path, tmp_path: Path, toy: data.Dataset) -> None:
    assert data.path("tinydigits") == course_dir() / "data" / "tinydigits"
    write_toy(tmp_path / "cache" / "tinytorch" / "toy")
    assert data.path("toy") == tmp_path / "cache" / "tinytorch" / "toy"
    write_toy(home / "toy")
    assert data.path("toy") == home / "toy"
    (home / "toy" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert data.path("toy") == tmp_path / "cache" / "tinytorch" / "toy"


def test_path_says_where_it_looked(home: Path) -> None:
    with pytest.raises(data.DataError) as caught:
        data.path("mnist")
    assert str(home / "mnist") in caught.value.what
    assert caught.value.next.startswith("tito data fetch mnist")


def test_fetch_root_ignores_an_empty_variable(
        home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINYTORCH_DATA", "")
    assert data.fetch_root() == tmp_path / "cache" / "tinytorch"
    assert len(data.roots()) == 2


def test_status_tells_shipped_absent_incomplete_ready(home: Path, toy: data.Dataset) -> None:
    def state(name: str) -> str:
        return next(row.state for row in data.status() if row.name == name)

    assert state("tinydigits") == "shipped" and state("toy") == "absent"
    write_toy(home / "toy")
    assert state("toy") == "ready"
    (home / "toy" / "t10k-labels-idx1-ubyte.gz").unlink()
    assert state("toy") == "incomplete"
    with pytest.raises(data.DataError, match=r"is incomplete in .*: t10k-labels"):
        data.path("toy")


def test_importing_data_does_not_import_numpy_or_the_network() -> None:
    code = ("import sys, tito.data; tito.data.status(); "
            "print([m for m in ('numpy', 'urllib.request', 'tarfile') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Verifying


def test_verify_accepts_contents_zipped_differently(home: Path, toy: data.Dataset) -> None:
    write_toy(home / "toy", level=1)
    assert data.verify("toy") == []


def test_verify_names_every_damaged_file(home: Path, toy: data.Dataset) -> None:
    write_toy(home / "toy")
    images, labels, test_images, test_labels = (home / "toy" / file.name for file in toy.files)
    images.write_bytes(images.read_bytes()[:-100])
    swapped = toy_arrays()[labels.name]
    swapped[0] += 1
    labels.write_bytes(gzip.compress(idx(swapped)))
    test_images.write_text("<!DOCTYPE html><title>Sign in</title>")
    test_labels.write_bytes(gzip.compress(idx(np.zeros(4))))
    problems = data.verify("toy")
    assert [problem.split()[0] for problem in problems] == [file.name for file in toy.files]
    wording = ("truncated", "other bytes", "web page", "expected 18")
    assert all(word in problem for word, problem in zip(wording, problems, strict=True))


def test_verify_of_cifar_checks_size_and_labels(
        home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = bytes([9]) + bytes(3072)
    row = data.Dataset("c", "", "c", "cifar", (data.File("a.bin", 2 * 3073),), "", "",
                       mirrors=("https://example.org/",))
    monkeypatch.setitem(data.DATASETS, "c", row)
    (home / "c").mkdir(parents=True)
    (home / "c" / "a.bin").write_bytes(record * 2)
    assert data.verify("c") == []
    (home / "c" / "a.bin").write_bytes(record + bytes([10]) + bytes(3072))
    assert "label above 9" in data.verify("c")[0]
    (home / "c" / "a.bin").write_bytes(record)
    assert "expected 6,146" in data.verify("c")[0]


# Fetching


def test_fetch_brings_whole_files_and_reports_progress(
        home: Path, toy: data.Dataset, server: Server) -> None:
    seen: list[tuple[str, int, int]] = []
    fetched = data.fetch("toy", lambda *step: seen.append(step))
    assert [item.path for item in fetched] == [home / "toy" / file.name for file in toy.files]
    assert leftovers(home) == sorted(file.name for file in toy.files)
    assert data.verify("toy") == []
    assert [seen[-1][0], seen[-1][1]] == [toy.files[-1].name, seen[-1][2]]
    digits = data.load_mnist(home / "toy")
    assert np.array_equal(digits.train_images, toy_arrays()["train-images-idx3-ubyte.gz"])
    server.requests.clear()
    assert data.fetch("toy") == [] and server.requests == []


def test_fetch_dry_run_asks_nobody_and_writes_nothing(
        home: Path, toy: data.Dataset, server: Server) -> None:
    plan = data.fetch("toy", dry_run=True)
    assert [item.urls for item in plan] == [(f"{server.url}/good/{f.name}",) for f in toy.files]
    assert [item.size for item in plan] == [file.wire for file in toy.files]
    assert server.requests == [] and not home.exists()


def test_fetch_goes_on_after_an_interruption_with_what_is_missing(
        home: Path, toy: data.Dataset, server: Server) -> None:
    def stop(name: str, got: int, total: int) -> None:
        if name.startswith("t10k-images"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.fetch("toy", stop)
    assert leftovers(home) == ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"]
    server.requests.clear()
    data.fetch("toy")
    assert server.requests == [f"/good/t10k-{kind}-ubyte.gz" for kind in
                               ("images-idx3", "labels-idx1")]


def test_fetch_replaces_a_damaged_file_and_only_that(
        home: Path, toy: data.Dataset, server: Server) -> None:
    write_toy(home / "toy")
    (home / "toy" / toy.files[1].name).write_bytes(b"damaged")
    assert [item.path.name for item in data.fetch("toy")] == [toy.files[1].name]
    assert data.verify("toy") == []


def test_fetch_falls_back_to_the_next_mirror(
        home: Path, toy: data.Dataset, server: Server) -> None:
    data.fetch("toy", mirrors=[f"{server.url}/nowhere", f"{server.url}/cut", f"{server.url}/good"])
    assert data.verify("toy") == []


def test_fetch_truncated_leaves_nothing_behind(
        home: Path, toy: data.Dataset, server: Server) -> None:
    error = failure("toy", mirrors=[f"{server.url}/cut/"])
    assert "truncated" in error.what and "127.0.0.1" in error.what
    assert error.next.startswith("tito data fetch toy")
    assert leftovers(home) == []


def test_fetch_refuses_wrong_bytes_pages_and_endless_files(
        home: Path, toy: data.Dataset, server: Server) -> None:
    name = toy.files[0].name
    wrong = toy_arrays()[name]
    wrong[3, 3, 3] ^= 1
    bodies = {"other bytes": gzip.compress(idx(wrong)),
              "web page": b"\n<html><body>Please sign in</body></html>",
              "not sound gzip": b"\x1f\x8b garbage",
              "holds more than": gzip.compress(idx(np.zeros((600, 28, 28)))),
              "sent more than": bytes(toy.files[0].size * 2)}
    for n, (wording, body) in enumerate(bodies.items()):
        (server.root / f"bad{n}").mkdir()
        (server.root / f"bad{n}" / name).write_bytes(body)
        assert wording in failure("toy", mirrors=[f"{server.url}/bad{n}"]).what
    assert leftovers(home) == []


def test_fetch_says_when_a_file_is_not_there_or_nobody_answers(
        home: Path, toy: data.Dataset, server: Server) -> None:
    assert "answered 404" in failure("toy", mirrors=[f"{server.url}/nowhere"]).what
    closed = http.server.HTTPServer(("127.0.0.1", 0), QuietHandler)
    port = closed.server_port
    closed.server_close()
    assert "no connection" in failure("toy", mirrors=[f"http://127.0.0.1:{port}"]).what
    assert "connection lost" in failure("toy", mirrors=["nonsense"]).what


def test_fetch_says_when_it_cannot_write(
        home: Path, toy: data.Dataset, server: Server) -> None:
    home.write_text("a file where the folder should be")
    error = failure("toy")
    assert "cannot write in" in error.what and "TINYTORCH_DATA" in error.next
    assert server.requests == []


def test_fetch_of_shipped_data_says_so() -> None:
    assert "comes with the course" in failure("tinydigits").what


def test_fetch_takes_only_its_files_out_of_an_archive(
        home: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in ("x/data_batch_1.bin", "../../escape.txt", "x/readme.html"):
            entry = tarfile.TarInfo(name)
            entry.size = 3073
            archive.addfile(entry, io.BytesIO(bytes(3073)))
    body = packed.getvalue()
    (server.root / "good" / "a.tar.gz").write_bytes(body)
    row = data.Dataset("c", "", "c", "cifar", (data.File("data_batch_1.bin", 3073),), "", "",
                       mirrors=(f"{server.url}/good",), archive=data.File(
                           "a.tar.gz", len(body), hashlib.sha256(body).hexdigest()))
    monkeypatch.setitem(data.DATASETS, "c", row)
    assert [item.size for item in data.fetch("c", dry_run=True)] == [len(body)]
    data.fetch("c")
    assert leftovers(home) == ["data_batch_1.bin"] and data.verify("c") == []
    assert not (home.parent / "escape.txt").exists()


# Reading idx


def test_read_idx_worked_example(tmp_path: Path) -> None:
    # 00 00 08 02: bytes, two axes; 2 rows; 3 columns; then 1..6 row by row.
    encoded = bytes.fromhex("00000802 00000002 00000003 010203040506")
    (tmp_path / "plain").write_bytes(encoded)
    (tmp_path / "zipped.gz").write_bytes(gzip.compress(encoded))
    for name in ("plain", "zipped.gz"):
        assert data.read_idx(tmp_path / name).tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(("encoded", "wording"), [
    ("", "not an idx file"),
    ("00000d01 00000001 00", "not an idx file"),
    ("00000800", "not an idx file"),
    ("00000801 00000003 0102", "announces 3 = 3 values and holds 2"),
    ("00000801 00000001 0102", "announces 1 = 1 values and holds 2"),
    ("00000803 00000001", "holds 0"),
])
def test_read_idx_refuses_what_is_not_exact(tmp_path: Path, encoded: str, wording: str) -> None:
    (tmp_path / "file").write_bytes(bytes.fromhex(encoded))
    with pytest.raises(data.DataError, match=wording):
        data.read_idx(tmp_path / "file")


def test_read_idx_names_a_missing_or_cut_file(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match="cannot read"):
        data.read_idx(tmp_path / "none.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(idx(np.arange(99)))[:-12])
    with pytest.raises(data.DataError, match=r"truncated|sound gzip"):
        data.read_idx(tmp_path / "cut.gz")


def test_load_mnist_refuses_images_without_their_labels(tmp_path: Path) -> None:
    write_toy(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.zeros(9))))
    with pytest.raises(data.DataError, match="do not belong together"):
        data.load_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.full(10, 11))))
    with pytest.raises(data.DataError, match="label above 9"):
        data.load_mnist(tmp_path)


def test_data_examples_run() -> None:
    import doctest

    assert doctest.testmod(data).failed == 0
