"""Hidden variants of module 20: other numbers, other records, and independent Python as the oracle."""

import copy
import hashlib
import itertools
import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from tinytorch.benchmarking import Measurement
from tinytorch.olympics import (
    SCHEMA,
    Entry,
    Figures,
    Stage,
    Surprise,
    Target,
    accuracy_from,
    decide,
    front,
    in_turn,
    log_place,
    machine,
    machine_record,
    report,
    source_hash,
    submission,
    surprises,
    try_orders,
    unlike,
    validate,
    value_problems,
    waterfall,
    waterfall_svg,
    write_submission,
)

GIB = 2**30
TRACK = {
    "course": "1.2",
    "target": {"speed": 3.0, "size": 2.0, "latency": 0.1, "accuracy": 0.01},
}


def entry(track="vision"):
    return Entry(track, [
        Stage("begin", Figures(0.97, 0.02, 50_000), "as it was"),
        Stage("a & b", Figures(0.965, 0.004, 50_000), "two <steps>"),
        Stage("end", Figures(0.96, 0.001, 10_000)),
    ])  # fmt: skip


def measured(seconds, n=9):
    return Measurement("m", tuple(seconds * (1 + 0.01 * i) for i in range(n)), (1.0,) * n, 4)


@pytest.fixture
def here(tmp_path):
    """olympics/vision of a workspace."""
    place = tmp_path / "olympics" / "vision"
    place.mkdir(parents=True)
    (tmp_path / "tinytorch" / "core").mkdir(parents=True)
    (tmp_path / "tinytorch" / "benchmarking.py").write_text("# clocks\n")
    (tmp_path / "tinytorch" / "core" / "tensor.py").write_text("# numbers\n")
    for name in ("before.pt", "after.pt", "predictions.json", "entry.py"):
        (place / name).write_bytes(name.encode() * 3)
    return place


@pytest.fixture
def record(here):
    return submission(entry(), TRACK, "mnist", here, (measured(0.02), measured(0.001, 12)))


@pytest.mark.parametrize("seed", range(5))
def test_judge_against_division(seed):
    rng = np.random.default_rng(seed)
    before = Figures(rng.uniform(0.5, 1), rng.uniform(0.1, 1), int(rng.integers(1000, 9000)))
    after = Figures(rng.uniform(0.5, 1), rng.uniform(0.01, 0.5), int(rng.integers(100, 5000)))
    target = Target(*rng.uniform(0, 4, 2), rng.uniform(0, 0.5), rng.uniform(0, 0.3))
    rows = target.judge(before, after)
    got = [before[1] / after[1], before[2] / after[2], after[1], before[0] - after[0]]
    assert [row.got for row in rows] == pytest.approx(got)
    assert [row.wanted for row in rows] == pytest.approx(
        [target.speed, target.size, target.latency, target.accuracy]
    )
    assert [bool(row.met) for row in rows] == [
        got[0] >= target.speed, got[1] >= target.size, got[2] <= target.latency,
        got[3] <= target.accuracy,
    ]  # fmt: skip


@pytest.mark.parametrize(("high", "low"), [(0.9, 0.88), (0.97, 0.95), (1.0, 0.98), (0.33, 0.31)])
def test_two_points_are_two_points(high, low):
    assert Target().judge(Figures(high, 1, 1), Figures(low, 1, 1))[3].met


@pytest.mark.parametrize("n", [1, 7, 1000])
def test_accuracy_against_a_loop(n):
    rng = np.random.default_rng(n)
    said, known = rng.integers(0, 3, n), rng.integers(0, 3, n)
    right = sum(int(a) == int(b) for a, b in zip(said, known)) / n
    assert accuracy_from(said.tolist(), known) == pytest.approx(right)
    assert accuracy_from(said, known, claim=right) == pytest.approx(right)
    with pytest.raises(ValueError, match=f"{right:.4f}"):
        accuracy_from(said, known, claim=right + 0.001)


@pytest.mark.parametrize(
    "shapes", [((3,), (4,)), ((1,), (5,)), ((5,), (1,)), ((4, 1), (4,)), ((0,), (0,)), ((), ())]
)
def test_accuracy_of_other_shapes(shapes):
    with pytest.raises(ValueError, match="accuracy_from"):
        accuracy_from(np.zeros(shapes[0]), np.zeros(shapes[1]))


@pytest.mark.parametrize(("time", "size"), [*itertools.product([0.7, 1.0, 1.3], [80, 100, 120])])
def test_decide_by_table(time, size):
    keep, reason = decide(Figures(0.9, 1.0, 100), Figures(0.9, time, size), [1.0] * 7, [time] * 7)
    better, worse = time < 1 or size < 100, time > 1 or size > 100
    assert keep == (better and not worse)
    assert {0.7: "faster", 1.0: "no difference", 1.3: "slower"}[time] in reason
    assert not decide(Figures(0.9, 1.0, 100), Figures(0.85, time, size), [1.0] * 7, [time] * 7).keep


def test_decide_needs_pairs():
    with pytest.raises(ValueError, match="7"):
        decide(Figures(0.9, 1.0, 1), Figures(0.9, 1.0, 1), [1.0] * 7, [1.0] * 8)


def trial(standing, candidate):
    """Models are tuples (accuracy, seconds, bytes)."""
    both = Figures(*standing), Figures(*candidate)
    return *both, [standing[1]] * 7, [candidate[1]] * 7


@pytest.mark.parametrize("seed", range(6))
def test_in_turn_against_one_decision_after_the_other(seed):
    rng = np.random.default_rng(seed)
    changes = {f"step {i}": rng.choice([0.5, 1.0, 1.5], 2) for i in range(8)}
    losses = dict(zip(changes, rng.uniform(-0.01, 0.02, 8)))
    steps = {
        name: lambda m, n=name: (m[0] - losses[n], m[1] * changes[n][0], m[2] * changes[n][1])
        for name in changes
    }
    kept, decisions = in_turn((0.9, 8.0, 64.0), steps, trial, may_lose=0.03)
    stands, names = (0.9, 8.0, 64.0), ["start"]
    for name, step in steps.items():
        new = step(stands)
        gains = new[1] <= stands[1] and new[2] <= stands[2] and new[1:] != stands[1:]
        keep = gains and 0.9 - new[0] <= 0.03
        assert decisions[name].keep == keep
        if keep:
            stands = new
            names.append(name)
            assert kept[name] == pytest.approx(new)
    assert list(kept) == names and list(decisions) == list(steps)


def test_in_turn_without_steps():
    assert in_turn((1.0, 1.0, 1), {}, trial) == ({"start": (1.0, 1.0, 1)}, {})


def test_surprises_are_factors():
    rng = np.random.default_rng(2)
    said = {str(i): float(v) for i, v in enumerate(rng.uniform(0.1, 9, 12))}
    got = {str(i): float(v) for i, v in enumerate(rng.uniform(0.1, 9, 15)) if i > 3}
    rows = surprises(said, got)
    assert [row.off for row in rows] == sorted((row.off for row in rows), reverse=True)
    assert {row.name for row in rows} == {str(i) for i in range(4, 12)}
    for name, predicted, came, off in rows:
        assert (predicted, came) == (said[name], got[name])
        assert off == pytest.approx(np.exp(abs(np.log(predicted) - np.log(came))))
    assert surprises({}, got) == surprises(said, {}) == []
    assert surprises(got, said) == [
        Surprise(row.name, row.came, row.predicted, pytest.approx(row.off)) for row in rows
    ]


def test_orders_against_numpy():
    rng = np.random.default_rng(3)
    start, a, b, c = rng.normal(size=(4, 3, 3))
    steps = {name: lambda x, m=m: m @ x for name, m in zip("abc", (a, b, c))}
    found = try_orders(start, steps, lambda x: x.sum())
    assert set(found) == set(itertools.permutations("abc"))
    for names, total in found.items():
        value = start
        for name in names:
            value = {"a": a, "b": b, "c": c}[name] @ value
        assert total == pytest.approx(value.sum())
    assert try_orders(5, {}, str) == {(): "5"}


def test_orders_begin_anew():
    start = {"log": []}
    steps = {name: lambda x, n=name: x["log"].append(n) or x for name in "xy"}
    assert try_orders(start, steps, lambda x: x["log"]) == {
        ("x", "y"): ["x", "y"], ("y", "x"): ["y", "x"]
    }  # fmt: skip
    assert start == {"log": []}


@pytest.mark.parametrize("gib", [0.2, 0.9, 1.3, 1.5, 3.7, 7.6, 31.2, 62.7, 100, 251, 1000])
def test_memory_is_the_nearest_power_in_logarithm(gib):
    powers = [2**k for k in range(20)]
    nearest = min(powers, key=lambda p: abs(np.log(p) - np.log(gib)))
    assert machine_record(4, int(gib * GIB), "x")["memory_gib"] == nearest


def test_this_machine_fits_the_schema():
    assert validate(machine(), SCHEMA["properties"]["machine"]) == []
    for cpu in ("", "Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "<script>", "a\tb\nc", "é" * 90):
        assert validate(machine_record(0, 0, cpu), SCHEMA["properties"]["machine"]) == []


@pytest.mark.parametrize("names", [["x/y.py"], ["b", "a", "x/y.py"], ["a", "b", "a"]])
def test_source_hash_against_joined_bytes(tmp_path, names):
    rng = np.random.default_rng(1)
    (tmp_path / "x").mkdir()
    contents = {name: rng.bytes(30) for name in ("a", "b", "x/y.py")}
    for name, raw in contents.items():
        (tmp_path / name).write_bytes(raw)
    joined = b"".join(
        b"\0".join([name.encode(), str(len(contents[name])).encode(), contents[name]])
        for name in sorted(set(names))
    )
    assert source_hash(tmp_path, names) == hashlib.sha256(joined).hexdigest()


@pytest.mark.parametrize(("value", "schema", "count"), [
    (5, {"minimum": 5.5}, 1), (5.5, {"maximum": 5.5}, 0), (-0.1, {"minimum": 0}, 1),
    (float("nan"), {"type": "number"}, 1), (True, {"minimum": 2}, 0), (True, {"enum": [1]}, 1),
    (False, {"enum": [False]}, 0), ("Ab", {"pattern": "b$"}, 0), ("Ab", {"pattern": "^b"}, 1),
    (None, {"type": "object"}, 1), (True, {"type": "integer"}, 1), (True, {"type": "boolean"}, 0),
    ([], {"minimum": 2}, 0), ("a", {"enum": ["b"], "pattern": "c"}, 2),
])  # fmt: skip
def test_one_value(value, schema, count):
    assert len(value_problems(value, schema)) == count


def test_places_of_problems():
    schema = {"properties": {"a": {"items": {"items": {"maximum": 1}}}}}
    (problem,) = validate({"a": [[0], [1, 7]]}, schema)
    assert problem.startswith("record.a[1][1]: 7")
    deep = {"additionalProperties": {"additionalProperties": False, "properties": {"z": {}}}}
    assert validate({"k": {"z": 1}, "l": {"y": 1}}, deep) == ["record.l: y has no place in it"]


def test_what_is_there_is_not_missing():
    schema = {"required": ["a", "b", "c", "d"]}
    assert validate({"a": 0, "b": "", "c": False, "d": []}, schema) == []
    assert validate({"a": 0}, schema) == [f"record: {name} is missing" for name in "bcd"]


@pytest.mark.parametrize("claim", [0.6249, 0.6251, 0.62, 0.63, 1.0])
def test_a_claim_that_is_nearly_right(claim):
    with pytest.raises(ValueError, match="0.625"):
        accuracy_from([1] * 5 + [0] * 3, [1] * 8, claim=claim)


def test_the_record(record, here):
    assert validate(record) == []
    for side in ("before", "after"):
        raw = (here / f"{side}.pt").read_bytes()
        assert record["models"][side] == {
            "file": f"{side}.pt", "bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()
        }  # fmt: skip
    assert record["accuracy"] == {"before": 0.97, "after": 0.96}
    assert [record["speed"][side]["n"] for side in ("before", "after")] == [9, 12]
    assert record["speed"]["after"]["seconds"] == pytest.approx(0.001 * 1.055)
    assert [stage["name"] for stage in record["stages"]] == ["begin", "a & b", "end"]
    assert record["source"]["files"] == [
        "tinytorch/benchmarking.py", "tinytorch/core/tensor.py", "olympics/vision/entry.py"
    ]  # fmt: skip
    assert record["harness"] == hashlib.sha256(b"# clocks\n").hexdigest()[:16]


@pytest.mark.parametrize("missing", ["before.pt", "after.pt", "predictions.json", "entry.py"])
def test_a_file_is_missing(here, missing):
    (here / missing).unlink()
    with pytest.raises(FileNotFoundError, match=missing.split(".")[0]):
        submission(entry(), TRACK, "mnist", here, (measured(0.02), measured(0.001)))


def test_what_is_written(record, tmp_path):
    path = tmp_path / "out.json"
    write_submission(record, path)
    assert json.loads(path.read_text("utf-8")) == record


@pytest.mark.parametrize("change", [
    {"track": "chess"}, {"accuracy": {"before": 1.0, "after": 1.01}}, {"host": "a"}, {"date": "today"},
    {"stages": [{"name": "x"}]}, {"schema": 2}, {"harness": "short"},
])  # fmt: skip
def test_what_is_refused(record, tmp_path, change):
    path = tmp_path / "out.json"
    with pytest.raises(ValueError, match=next(iter(change))):
        write_submission(copy.deepcopy(record) | change, path)
    assert not path.exists()


@pytest.mark.parametrize(("change", "said"), [
    ({}, []), ({"date": "x", "origin": "reference"}, []),
    ({"dataset": "digits"}, ["dataset: 'mnist' and 'digits'"]),
    ({"machine": {}}, "all"),
])  # fmt: skip
def test_records_of_two_machines(record, change, said):
    if said == "all":
        mine = sorted(record["machine"].items())
        said = [f"machine.{name}: {value!r} and None" for name, value in mine]
    assert unlike(record, record | change) == said
    swapped = [line.replace(" and ", ": ").split(": ") for line in said]
    assert unlike(record | change, record) == [f"{n}: {b} and {a}" for n, a, b in swapped]


@pytest.mark.parametrize(("low", "high", "width"), [(1e-4, 1e-1, 33), (3, 7, 10), (1e3, 1e6, 320)])
def test_log_place_against_numpy(low, high, width):
    for value in np.geomspace(low, high, 11):
        wanted = np.interp(np.log10(value), np.log10([low, high]), [0, width])
        assert abs(log_place(value, low, high, width) - wanted) <= 0.5 + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_front_by_comparing_all(seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(1, 5, (8, 3))
    stages = [Stage(str(i), Figures(r[0] / 10, float(r[1]), int(r[2]))) for i, r in enumerate(rows)]

    def beaten(i):
        return any(
            a >= rows[i][0] and s <= rows[i][1] and b <= rows[i][2] and (a, s, b) != tuple(rows[i])
            for a, s, b in rows
        )

    assert [s.name for s in front(Entry("speed", stages))] == [
        str(i) for i in range(8) if not beaten(i)
    ]


def test_pictures_and_report(tmp_path):
    text = waterfall(entry())
    bars = [line.count("#") for line in text.splitlines() if "|" in line]
    assert bars[0] > bars[1] > bars[2] and bars[3] == bars[4] > bars[5]
    waterfall_svg(entry(), tmp_path / "w.svg")
    root = ElementTree.parse(tmp_path / "w.svg").getroot()
    drawn = [int(one.get("width")) for one in root.iter("{http://www.w3.org/2000/svg}rect")]
    assert len(drawn) == 7 and min(drawn) > 0
    said = ["1.0x", "5.0x", "20.0x", "1.0x", "1.0x", "5.0x"]
    assert [
        line.split("x less")[0].split()[-1] + "x" for line in text.splitlines() if "|" in line
    ] == said
    page = report(entry(), Target(speed=10, size=10))
    assert "missed size" in page and "two <steps>" in page
    with pytest.raises(ValueError, match="no stages"):
        report(Entry("speed", []), Target())
