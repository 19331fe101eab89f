"""Every file of a recording, cut at every byte, and with a byte flipped at every one.

``python -m tests.crash.cut``. A small recording of a killed process: active files, one that waits to
be sealed, sealed ones (zstd, gzip, none), a journal's segment, its table of open spans and its lock.
Each case damages one file at one offset; then the recording is read as it is, and recovered and
recorded into, without an exception. All is found but what the damage touched: of a segment one
frame (or all of an origin, where that is touched), of a file one line, of a sealed one a block.
"""

from __future__ import annotations

import gzip
import os
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryStream
from rimp_otel.journal import open_spans
from rimp_otel.journal.format import FRAME_SEPARATOR, HEADER_SIZE, find_frames_end
from rimp_otel.storage.files import blocks
from rimp_otel.storage.files.sealer import Sealer
from tests.crash.audit import Found, by_reader
from tests.crash.lives import Writer, live
from tests.crash.marks import check_of
from tests.crash.running import Outcome, Program, directory, each_seed

_SPARSE = 997
_SPANS = 8
_MARK = re.compile(rb'"mark","value":\{"stringValue":"([a-z]{4})"|"stringValue":"([a-z]{4})"')
# Far from one another: no flipped byte makes one of another.
_MARKS = [letter * 4 for letter in "abcdefghijklmnopqrstuvwxyz"]


class Case(NamedTuple):
    """One kind of damage to one file."""

    file: str
    offset: int
    #: What to exclusive-or the byte with; 0 for a cut.
    flip: int


class Part(NamedTuple):
    """A chunk of a file."""

    start: int
    end: int
    #: Of the records that go with it.
    marks: set[str]


def small_tables() -> None:
    """Make tables of open spans small, and seal files only when told."""
    create = open_spans.OpenSpanTable.create.__func__  # type: ignore[attr-defined]
    create.__defaults__ = (_SPANS,)
    Sealer.wake = lambda self: None  # type: ignore[method-assign]


def build(say: Callable[[str, str], object], path: Path) -> None:
    """Record, and die."""
    small_tables()
    blocks.BLOCK_SIZE = 1  # a block for each line
    marks = iter(_MARKS)
    journal = {"journal_size": 1024 * 1024}
    for compressed in ("zstd", "gzip", "none", "waits"):
        options = {} if compressed == "waits" else {"compression": compressed}
        writer = Writer(say, "w", path, options, journal)
        _record(writer, marks, 3)
        _rotate(writer, seal=bool(options))
        writer.close(stop=True)
    _record(writer, marks, 3)
    for number in range(5):
        _collect(writer, next(marks), "abc"[number % 3])
    for _ in range(2):
        mark = next(marks)
        writer.tracer.start_span(mark, attributes={"mark": mark, "check": check_of(mark)})
        writer.say("F", mark)


def _record(writer: Writer, marks: Iterator[str], lines: int) -> None:
    """Store so many lines of events."""
    for _ in range(lines):
        _collect(writer, next(marks), "a")
        writer.drain.run()


def _collect(writer: Writer, mark: str, source: str) -> None:
    if source == "c":
        writer.tracer.start_span(mark, attributes={"mark": mark, "check": check_of(mark)}).end()
    else:
        writer.collector.collect_event(source, mark)
    writer.say("F", mark)


def _rotate(writer: Writer, seal: bool) -> None:
    writer.drain._target.rotate()
    if seal:
        writer.storage._sealer.run()


class Recording:
    """A recording that can be made anew as it was, with the same inodes.

    Args:
        parent: where to.
    """

    def __init__(self, parent: Path) -> None:
        self.path, self.aside = parent / "telemetry", parent / "aside"
        died = live(build, self.path)
        assert not died.error, died.error
        self.marks = died.marks["F"]
        self.aside.mkdir()
        self.contents: dict[str, bytes] = {}
        self.links: dict[str, Path] = {}
        for file in sorted(path for path in self.path.rglob("*") if path.is_file()):
            name = str(file.relative_to(self.path))
            self.contents[name] = file.read_bytes()
            self.links[name] = self.aside / name.replace("/", "-")
            os.link(file, self.links[name])
        self.parts = {name: parts_of(name, self.contents[name]) for name in self.contents}

    def restore(self, case: Case) -> None:
        """Make the recording anew, with the damage."""
        for parent, _, names in os.walk(self.path):
            for name in names:
                os.unlink(os.path.join(parent, name))
        for name, content in self.contents.items():
            if name == case.file:
                content = damage(content, case)
            link = self.links[name]
            link.write_bytes(content)
            os.link(link, self.path / name)

    def cases(self, short: bool) -> list[Case]:
        """Return all cases; few for the short form."""
        chance = random.Random(0)
        found = []
        for name, content in self.contents.items():
            used = max((part.end for part in self.parts[name]), default=len(content)) + 64
            offsets = [*range(min(used, len(content))), *range(used, len(content), _SPARSE)]
            if name.endswith(".open"):
                offsets = [o for o in offsets if o < 64 or content[o] or o % _SPARSE == 0]
            for offset in offsets:
                found += [Case(name, offset, 0), Case(name, offset, chance.randrange(1, 256))]
        return chance.sample(found, 500) if short else found


def damage(content: bytes, case: Case) -> bytes:
    """Return the content, cut off or with a byte changed."""
    if not case.flip:
        return content[: case.offset]
    changed = bytearray(content)
    changed[case.offset] ^= case.flip
    return bytes(changed)


def parts_of(name: str, content: bytes) -> list[Part]:
    """Return the chunks of a file that go, or stay, together."""
    if name.endswith(".seg"):
        return _frames(content)
    if name.endswith(".open"):
        return _slots(content)
    if name.endswith((".zst", ".gz")):
        magic = b"\x28\xb5\x2f\xfd" if name.endswith(".zst") else b"\x1f\x8b\x08"
        starts = [match.start() for match in re.finditer(re.escape(magic), content)]
        ends = [*starts[1:], len(content)]
        unpack = _unzstd if name.endswith(".zst") else gzip.decompress
        return [
            Part(start, end, _marks_in(unpack(content[start:end])))
            for start, end in zip(starts, ends, strict=True)
        ]
    return _lines(content, 0, len(content))


def _unzstd(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed)


def _marks_in(text: bytes) -> set[str]:
    found = {(one or other).decode() for one, other in _MARK.findall(text)}
    return found & set(_MARKS)


def _lines(content: bytes, start: int, stop: int) -> list[Part]:
    parts = []
    for line in content[start:stop].splitlines(keepends=True):
        parts.append(Part(start, start + len(line), _marks_in(line)))
        start += len(line)
    return parts


def _frames(content: bytes) -> list[Part]:
    end, _ = find_frames_end(content[HEADER_SIZE:], HEADER_SIZE)
    parts = _lines(content.replace(FRAME_SEPARATOR.encode(), b"\n"), HEADER_SIZE, end)
    heads = [content[part.start :].split(b" ", 1)[0] for part in parts]
    for head, part in zip(heads, parts, strict=True):
        if head[:1] == b"d":
            for other, its in zip(heads, parts, strict=True):
                if other[1:] == head[1:]:
                    part.marks.update(its.marks)
    return parts


def _slots(content: bytes) -> list[Part]:
    size = open_spans.ENTRY_SIZE
    return [
        Part(start, start + size, _open_marks(content[start : start + size]))
        for start in range(open_spans.ENTRIES_START, len(content), size)
    ]


def _open_marks(slot: bytes) -> set[str]:
    return {mark for mark in _MARKS if mark.encode() in slot}


def touched(parts: list[Part], case: Case) -> set[str]:
    """Return the marks of the records that the damage may cost."""
    marks: set[str] = set()
    for number, part in enumerate(parts):
        hit = part.start <= case.offset < part.end if case.flip else part.end > case.offset
        if hit:
            marks |= part.marks
        if case.flip and case.offset == part.end - 1 and number + 1 < len(parts):
            marks |= parts[number + 1].marks
    return marks


class Trial:
    """A case, tried."""

    def __init__(self, recording: Recording, case: Case) -> None:
        self.recording, self.case = recording, case
        self.touched = touched(recording.parts[case.file], case)
        self.figures: Counter[str] = Counter()
        self.failures: list[str] = []

    def run(self) -> Outcome:
        """Read, recover, read."""
        self.recording.restore(self.case)
        try:
            self.check("read", by_reader(self.recording.path), False)
            reported = self.recover()
            self.check("recovered", by_reader(self.recording.path), reported, {"recorded anew"})
        except Exception as error:
            self.failures.append(f"{self.case}: raised {error!r}")
        kind = "flipped" if self.case.flip else "cut"
        what = re.sub(r"[0-9a-f]{6,}|-[0-9]+", "N", self.case.file)
        self.figures[f"{kind}: {what}"] += 1
        return Outcome(self.figures, self.failures)

    def recover(self) -> bool:
        """Recover as the next process does; return True if it reports damage."""
        config = TelemetryConfig(
            storage_backend="file",
            storage_path=self.recording.path,
            journal_size=1024 * 1024,
            sync="never",
        )
        collector = TelemetryCollector(config)
        stream = TelemetryStream(collector)
        stream.start()
        collector.collect_event("new", "recorded anew")
        stopped = stream.stop(20.0)
        stats = collector.stats()
        if not stopped or stats.pending or stats.dropped.keys() - {"damaged"}:
            self.failures.append(f"{self.case}: {stats}")
        aside = list(self.recording.path.rglob("*.damaged"))
        return bool(stats.dropped or aside)

    def check(
        self, when: str, found: Found, reported: bool, new: set[str] | frozenset[str] = frozenset()
    ) -> None:
        """Check that everything is there once that was not touched, and nothing else."""
        expected = self.recording.marks | new
        counted = found.all()
        missing = expected - counted.keys()
        wrong = {
            "lost": missing - self.touched,
            "twice": {mark for mark in counted if counted[mark] > 1},
            "altered": set(found.wrong) & (expected - self.touched),
        }
        strange = counted.keys() - expected
        if len(strange) > len(missing):
            wrong["unknown"] = strange
        if missing and self.case.flip and not (found.damaged or reported or strange):
            # Text without a checksum may still be OTLP JSON, with a key that nobody knows.
            checked = not self.case.file.endswith((".jsonl", ".seg"))
            wrong["lost without a word"] = missing if checked else set()
            self.figures[f"lines that lack a record, {when}"] += not checked
        self.figures[f"records that damage cost, {when}"] += len(missing)
        for what, marks in wrong.items():
            self.figures[f"{what}, {when}"] += len(marks)
            if marks:
                self.failures.append(f"{self.case}: {when}: {what}: {sorted(marks)}")


def round_of(seed: int, short: bool, rounds: int) -> Outcome:
    """Try one of so many parts of all cases."""
    small_tables()
    total = Outcome(Counter(), [])
    with directory() as parent, open(os.devnull, "w") as nowhere:
        recording = Recording(parent)
        os.dup2(nowhere.fileno(), 2)  # what is damaged is reported there
        for case in recording.cases(short)[seed::rounds]:
            total += Trial(recording, case).run()
    return total


def main() -> None:
    """Print the figures."""
    program = Program(__doc__, 50, 2)
    options = program.options()
    program.finish(each_seed(round_of, options, options.rounds))


if __name__ == "__main__":
    main()
