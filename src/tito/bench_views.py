"""Benchmarks in words: what was measured, how, with what spread, and what may be said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tito import exhibits, screen

if TYPE_CHECKING:
    from tito.bench import Result
    from tito.bench_compare import Comparison, Row
    from tito.bench_records import Record
    from tito.workspace import Workspace

LABEL = 12
STAYS = "Nothing was sent anywhere: the record stays on this machine."
GOOD = {"faster": screen.good, "better": screen.good, "less": screen.good}
BAD = {"slower": screen.warm, "worse": screen.warm, "more": screen.warm}


def rows(label: str, text: str) -> list[str]:
    """`  label       text`, wrapped under the text."""
    indent = " " * (LABEL + 2)
    first, *rest = screen.wrap(text, indent, "  " + label.ljust(LABEL))
    return ["  " + screen.dim(label.ljust(LABEL)) + first[LABEL + 2 :], *rest]


def seconds(value: float) -> str:
    """`1.25 ms`: three digits and the unit that fits."""
    for unit, scale in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * scale >= 1:
            return f"{digits(value * scale)} {unit}"
    return f"{digits(value * 1e9)} ns"


def digits(value: float) -> str:
    """Three digits, and thousands with commas: 0.512, 51.2, 5,120."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def origin(record: Record) -> list[str]:
    """Whose code ran, when it was not the learner's."""
    if record["origin"] == "student":
        return []
    text = "The course's own framework ran this: yours is measured once modules 01 to 13 are built."
    return [screen.warm(line) for line in screen.wrap(text)]


def verdict(found: dict[str, Any]) -> list[str]:
    """VALID, or INVALID with the reason and what to do about it."""
    word = screen.good("VALID") if found["valid"] else screen.bad("INVALID")
    plain = "VALID" if found["valid"] else "INVALID"
    first, *rest = rows("noise", " ".join(f"{plain}: {found['reason']} {found['remedy']}".split()))
    return [first.replace(plain, word, 1), *rest]


# Baseline ----------------------------------------------------------------------------------------


def baseline(ws: Workspace, result: Result, every: list[dict[str, Any]]) -> list[str]:
    """The set-up, the milestones, a row for each benchmark, the score and its verdict."""
    record, machine = result.record, result.record["machine"]
    text = _set_up(result, machine)
    passed, total = record["milestones"]
    text += rows("milestones", f"{passed}/{total} passed")
    text += ["", *table(record, result, every), ""]
    of = screen.count(record["of"][1], "benchmark")
    score = f"{record['score']:.1f}"
    scored = f"{score}, where {record['reference']} is 100 ({record['of'][0]} of {of})"
    first, *rest = rows("score", scored)
    text += [first.replace(score, screen.bold(score), 1), *rest]
    text += verdict(record["verdict"])
    text += rows("method", f"{record['clock']}, median of the rounds, by the harness of module 19")
    text += rows("record", str(ws.relative(result.path)))
    for blame in result.failed.values():
        text += ["", *exhibits.blame(blame)]
    return [*text, *screen.wrap(STAYS)]


def _set_up(result: Result, machine: dict[str, Any]) -> list[str]:
    last, threads = result.record["modules"], result.record["threads"]
    parts = f"NumPy {machine['numpy']}, {machine['blas']} on {screen.count(threads, 'thread')}"
    done = f"modules 01 to {last:02d} completed" if last else "no module completed yet"
    if not result.problems:
        return rows("set-up", f"✓ verified: {parts}, {done}")
    return [line for problem in result.problems for line in rows("set-up", f"✗ {problem}")]


def table(record: Record, result: Result, every: list[dict[str, Any]]) -> list[str]:
    """One line per benchmark: time, spread, ratio to the reference, what it is."""
    lines = [("  benchmark", "time", "spread", "ratio", "what")]
    for row in every:
        name = row["name"]
        if found := record["benchmarks"].get(name):
            mark = "" if found["valid"] else " !"
            lines.append((f"  {name}", seconds(found["median"]), f"{found['spread']:.1%}{mark}",
                          f"{found['ratio']:.2f}", row["what"]))  # fmt: skip
        elif name in result.failed:
            lines.append((f"  {name}", "failed", "", "", "see below"))
        else:
            lines.append((f"  {name}", "-", "", "", f"built by {record['missing'][name]}"))
    head, *rest = screen.table(lines)
    return [screen.dim(head), *rest]


# Tracks ------------------------------------------------------------------------------------------


def _end(ws: Workspace, result: Result) -> list[str]:
    r = result.record
    whose = f"{r['origin']}, {screen.count(r['threads'], 'BLAS thread')}, {r['loaded_by']}"
    return [*rows("method", r["how"]), *rows("origin", whose),
            *rows("record", str(ws.relative(result.path)))]  # fmt: skip


def accuracy(ws: Workspace, result: Result) -> list[str]:
    """The share that is right, its interval, and how it was asked."""
    r = result.record
    low, high = r["interval"]
    figure = f"{r['accuracy']:.2%} of {r['dataset']}: {r['right']:,} of {r['n']:,} right"
    return [*origin(r), *rows("accuracy", figure),
            *rows("spread", f"{low:.2%} to {high:.2%}, 95 % for so many questions"),
            *_end(ws, result)]  # fmt: skip


def speed(ws: Workspace, result: Result) -> list[str]:
    """Rates with their intervals, latencies as far as the queries support them, the verdict."""
    r, text = result.record, origin(result.record)
    labels = {"write": "writing", "first": "first token", "one": "one by one", "batch": "in batch"}
    for name, row in r["queries"].items():
        low, high = (seconds(end) for end in row["interval"])
        rate = f"{digits(row['rate'])} {r['unit']}/s, " if name != "first" else ""
        text += rows(labels[name], f"{rate}{seconds(row['median'])} a query ({low} to {high}), "
                     f"{len(row['samples'])} rounds")  # fmt: skip
    s = r["scenario"]
    latencies = ", ".join(f"{q} {seconds(value)}" for q, value in s["percentiles"].items())
    text += rows("latency", f"{latencies or 'no percentile'} of {s['queries']} queries")
    if not s["valid"]:
        text += rows("", f"INVALID as {s['name']}: {s['why']}")
    return [*text, *verdict(r["verdict"]), *_end(ws, result)]


def memory(ws: Workspace, result: Result) -> list[str]:
    """Bytes at most, bytes kept, bytes of the model."""
    r, text = result.record, origin(result.record)
    for name, what in (("peak", "at most during one inference"), ("live", "kept by its result")):
        found = sorted(r[name])
        low, high = screen.size(found[0]), screen.size(found[-1])
        same = low if low == high else f"{low} to {high}"
        middle = screen.size(found[len(found) // 2])
        text += rows(name, f"{middle} {what} ({same} in {len(found)} runs)")
    return [*text, *rows("model", f"{screen.size(r['held'])} of arrays"), *_end(ws, result)]


def size(ws: Workspace, result: Result) -> list[str]:
    """Bytes on disk, parameters, numbers of each type."""
    r = result.record
    text = [*origin(r), *rows("file", f"{screen.size(r['bytes'])} ({r['bytes']:,} bytes)")]
    text += rows("parameters", f"{r['parameters']:,}")
    for dtype, row in sorted(r["types"].items()):
        arrays = screen.count(row["arrays"], "array")
        text += rows(dtype, f"{row['numbers']:,} numbers in {arrays}, {screen.size(row['bytes'])}")
    return [*text, *rows("spread", "none: bytes are counted, not measured"), *_end(ws, result)]


# Capstone ----------------------------------------------------------------------------------------


def capstone(ws: Workspace, result: Result) -> list[str]:
    """Each track's points and figures, what people still have to say, and the sum."""
    r, text = result.record, origin(result.record)
    for name, track in r["tracks"].items():
        said = [_figure(name, side, figure) for side, figure in track["figures"].items()]
        said += [f"no trained {side} model here" for side in track["missing"]]
        points = "-" if track["points"] is None else f"{track['points']:.1f}"
        text += rows(name, f"{points:>5} of {track['of']}  {'; '.join(said)}")
    text += rows("review", f"{'-':>5} of {r['review']['of']}  pending: people read the report")
    whole = r["of"] + r["review"]["of"]
    text += rows("score", f"{r['score']:.1f} of the {r['of']} points that are measured, of {whole}")
    text += rows("sessions", f"{len(r['measured'])}, the median of each figure")
    noisy = [f"{side}: {found['reason']}" for session in r["measured"]
             for side, found in session.items() if not found["valid"]]  # fmt: skip
    if noisy:
        text += rows("noise", f"INVALID in {len(noisy)} of the speeds: {noisy[0]}")
    whose = f"{r['origin']}, {screen.count(r['threads'], 'thread')}"
    return [*text, *rows("origin", whose), *rows("record", str(ws.relative(result.path)))]


def _figure(track: str, side: str, found: dict[str, Any]) -> str:
    if found["unit"] == "accuracy":
        return f"{found['median']:.1%} of {found['dataset']}"
    word = "as fast" if track == "speed" else "smaller"
    low, high = digits(found["low"]), digits(found["high"])
    return f"{side} {digits(found['median'])} times {word} ({low} to {high})"


# Two records -------------------------------------------------------------------------------------


def comparison(names: tuple[str, str], found: Comparison) -> list[str]:
    """A line for each figure of A against B, then what to know about them."""
    text = [*rows("A", names[0]), *rows("B", names[1]), ""]
    lines = [("  ", "A", "B", "A / B", "verdict")]
    lines += [(f"  {row.name}", shown(row, row.a), shown(row, row.b), _ratio(row), row.verdict)
              for row in found.rows]  # fmt: skip
    head, *rest = screen.table(lines)
    text += [screen.dim(head)]
    for row, line in zip(found.rows, rest):
        style = (GOOD | BAD).get(row.verdict, str)
        text.append(style(line))
    for note in found.notes:
        text += [screen.warm(line) for line in screen.wrap(note, "  ", "! ")]
    return text


def shown(row: Row, value: float) -> str:
    """A figure in its unit."""
    if row.unit == "s":
        return seconds(value)
    if row.unit == "bytes":
        return screen.size(value)
    return f"{value:.2%}" if row.name == "accuracy" else f"{value:,.4g}"


def _ratio(row: Row) -> str:
    if row.interval is None:
        return f"{row.ratio:.3f}"
    return f"{row.ratio:.3f} ({row.interval[0]:.3f} to {row.interval[1]:.3f})"
