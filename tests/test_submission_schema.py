"""Module 20's validator against jsonschema, and its schema against the course's file."""

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from tinytorch.olympics import SCHEMA, validate

FILE = Path(__file__).parents[1] / "course" / "events" / "submission.schema.json"
SHA = "0123456789abcdef" * 4
SPEED = {"seconds": 0.01, "interval": [0.009, 0.011], "n": 20, "throughput": 100.0}
RECORD: dict[str, Any] = {
    "schema": 1, "track": "speed", "course": "1.0", "harness": SHA[:16], "origin": "student",
    "date": "2026-01-02T03:04:05Z", "machine": {"cores": 2, "memory_gib": 4, "cpu": "x86_64"},
    "dataset": "digits",
    "models": {"before": {"file": "before.pt", "bytes": 9, "sha256": SHA},
               "after": {"file": "after.pt", "bytes": 3, "sha256": SHA}},
    "predictions": {"file": "predictions.json", "sha256": SHA},
    "accuracy": {"before": 0.97, "after": 0.96},
    "speed": {"before": SPEED | {"percentiles": {"p50": 0.01}}, "after": SPEED},
    "target": {"speed": 10.0, "size": 4, "latency": 0.1, "accuracy": 0.02},
    "source": {"files": ["olympics/speed/entry.py"], "sha256": SHA},
    "stages": [{"name": "before", "note": "", "accuracy": 0.97, "seconds": 0.01, "bytes": 9},
               {"name": "after", "accuracy": 0.96, "seconds": 0.001, "bytes": 3}],
}  # fmt: skip
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, 1e9 + 0.5, 65537, "", "speed", "a b", "../x", "1.0", SHA,
    [], [-1], [0.5, "x"], {}, {"before": 1}, {"p50": -1},
]  # fmt: skip


def test_one_source_of_the_schema() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == SCHEMA


def test_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def places(value: Any) -> list[tuple[Any, Any]]:
    """(object or list, key) of everything inside a record."""
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    found = [(value, key) for key, _ in inside]
    for _, part in inside:
        found += places(part) if isinstance(part, (dict, list)) else []
    return found


def agree(record: Any, schema: dict[str, Any] = SCHEMA) -> bool:
    """Whether both find nothing, or both something, and at as many places."""
    theirs = list(Draft202012Validator(schema).iter_errors(record))
    ours = validate(record, schema)
    assert bool(ours) == bool(theirs), (ours, [error.message for error in theirs])
    named = {tuple(map(str, error.absolute_path)) for error in theirs}
    said = {text.split(":")[0] for text in ours}
    assert len(named) == len(said), (ours, named)
    return not ours


def test_the_whole_record() -> None:
    assert agree(RECORD)


@pytest.mark.parametrize("number", range(len(places(RECORD))))
def test_one_place_changed(number: int) -> None:
    for value in VALUES:
        record = copy.deepcopy(RECORD)
        holder, key = places(record)[number]
        holder[key] = value
        agree(record)
    record = copy.deepcopy(RECORD)
    holder, key = places(record)[number]
    del holder[key]
    agree(record)


@pytest.mark.parametrize("seed", range(40))
def test_several_things_wrong(seed: int) -> None:
    rng, record = random.Random(seed), copy.deepcopy(RECORD)
    for _ in range(rng.randint(1, 5)):
        holder, key = rng.choice(places(record))
        if rng.random() < 0.3 and isinstance(holder, dict):
            holder[f"more {rng.randint(0, 9)}"] = rng.choice(VALUES)
        else:
            holder[key] = rng.choice(VALUES)
    agree(record)


@pytest.mark.parametrize("schema", [
    {"type": "array", "items": {"type": "integer", "minimum": 0}},
    {"additionalProperties": {"type": "string", "pattern": "a$"}},
    {"properties": {"a": {"enum": [1, "x", False]}}, "required": ["a", "b"]},
    {"maximum": 1, "pattern": "^s", "items": {"enum": ["x", 0.5]}},
    {"enum": [0, True, "speed"]},
])  # fmt: skip
def test_small_schemas(schema: dict[str, Any]) -> None:
    for value in [
        *VALUES,
        {"a": 1, "b": 2},
        {"a": True},
        {"a": 0, "b": "ba"},
        {"x": "ab", "y": "ba"},
    ]:
        theirs = not list(Draft202012Validator(schema).iter_errors(value))
        assert (not validate(value, schema)) == theirs, value


def test_stricter_in_one_point() -> None:
    assert validate(1.0, {"type": "integer"}) and not list(
        Draft202012Validator({"type": "integer"}).iter_errors(1.0)
    )
