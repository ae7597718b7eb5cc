"""`tito data`: the table, checksums, and a fetch that shows first what it will do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tito import data

TEXT = b"To be"


@pytest.fixture
def person(nowhere: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Somebody with an empty data folder, the real course, and one small data set to fetch."""
    monkeypatch.delenv("TITO_COURSE")
    monkeypatch.setenv("TINYTORCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = data.File("input.txt", len(TEXT), None)
    small = data.Dataset("small", "Small", "small", "text", (file,), "nobody", "none",
                         mirrors=(tmp_path.joinpath("mirror").as_uri() + "/",))
    monkeypatch.setitem(data.DATASETS, "small", small)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "input.txt").write_bytes(TEXT)
    return nowhere


def test_list_shows_every_data_set(person: Any) -> None:
    rows = json.loads(person.tito("data", "list", "--json", code=0).stdout)["datasets"]
    states = {row["name"]: row["state"] for row in rows}
    assert states["tinydigits"] == "shipped" and states["mnist"] == "absent"
    text = person.tito("data", "list", code=0).stdout
    assert "mnist" in text and text.splitlines()[-1].startswith("Next: tito data fetch mnist")


def test_fetch_shows_address_and_size_and_dry_run_writes_nothing(
    person: Any, tmp_path: Path
) -> None:
    result = person.tito("data", "fetch", "small", "--dry-run", code=0)
    assert "mirror/input.txt  5 bytes" in result.stderr
    assert "would be fetched" in result.stdout and not (tmp_path / "data").exists()


def test_fetch_then_verify_then_path(person: Any, tmp_path: Path) -> None:
    assert "1 files fetched" in person.tito("data", "fetch", "small", code=0).stdout
    assert "here and whole" in person.tito("data", "fetch", "small", code=0).stdout
    assert "small: whole" in person.tito("data", "verify", "small", code=0).stdout
    folder = person.tito("data", "path", "small", code=0).stdout.strip()
    assert Path(folder) == tmp_path / "data" / "small"


def test_verify_of_damage_is_code_1(person: Any, tmp_path: Path) -> None:
    person.tito("data", "fetch", "small", code=0)
    (tmp_path / "data" / "small" / "input.txt").write_bytes(b"To")
    result = person.tito("data", "verify", code=1)
    assert "small: damaged" in result.stdout and "Next: tito data fetch small" in result.stdout
    found = json.loads(person.tito("data", "verify", "--json", code=1).stdout)
    assert not found["ok"] and len(found["datasets"]["small"]) == 1


def test_network_that_does_not_answer_is_code_3(person: Any, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "input.txt").unlink()
    lines = person.tito("data", "fetch", "small", code=3).stderr.splitlines()
    assert "could not fetch input.txt" in lines[-2] and lines[-1].startswith("Next: ")


def test_absent_data_set_says_how_to_get_it(person: Any) -> None:
    lines = person.tito("data", "path", "mnist", code=3).stderr.splitlines()
    assert len(lines) == 2 and lines[1].startswith("Next: tito data fetch mnist")


def test_unknown_data_set_is_a_usage_error(person: Any) -> None:
    assert "did you mean mnist?" in person.tito("data", "fetch", "mnits", code=2).stderr
