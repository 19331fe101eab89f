"""``rimp import``: what is taken, what is refused, and that both are told exactly."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli import import_
from rimp_otel.cli.import_ import Source, Taken, take
from rimp_otel.errors import MissingExtraError, StorageError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.protobuf import normalize_line, protobuf_from_line
from rimp_otel.storage import FileStorage
from tests.cli.conftest import latency, queue
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, checkout, event

SPANS, EVENTS = checkout()
DATA = TelemetryData(EVENTS, [queue(), latency()], SPANS)


def texts() -> dict[Signal, bytes]:
    """The lines of each signal."""
    return {signal: b"".join(line + b"\n" for line in DATA.otlp_json(signal)) for signal in Signal}


def recorded(path: str = "telemetry") -> TelemetryData:
    """What is in the recording."""
    return FileStorage(path).retrieve()


def lines(data: TelemetryData) -> list[bytes]:
    """Its records as text, in order."""
    return sorted(f.text.encode() for signal in Signal for f in data.encoded_records(signal))


def test_every_signal(rimp: Any) -> None:
    """From JSON and from protobuf, as a recording like any other."""
    Path("t.jsonl").write_bytes(texts()[Signal.TRACES])
    Path("l.json.gz").write_bytes(gzip.compress(texts()[Signal.LOGS]))
    Path("m.pb").write_bytes(protobuf_from_line(texts()[Signal.METRICS]).SerializeToString())
    assert rimp("import", "t.jsonl", "l.json.gz", "m.pb") == (
        0,
        """\
t.jsonl: 7 spans
l.json.gz: 3 log records
m.pb: 2 data points
telemetry: took 7 spans, 3 log records and 2 data points from 3 files
""",
        "",
    )
    assert lines(recorded()) == lines(DATA)
    assert rimp("verify").code == 0
    assert rimp("trace", "4b").code == 0


def test_what_is_refused_costs_itself(rimp: Any) -> None:
    """Exit code 1; place and reason of each."""
    good = texts()[Signal.LOGS]
    bad = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}\n'
    Path("x.jsonl").write_bytes(good + bad + b"torn\n" + good)
    code, out, err = rimp("import", "x.jsonl")
    assert (code, err) == (1, "")
    assert out == (
        "x.jsonl:2: traceId='zz' is neither 32 hex digits nor base64 of 16 bytes\n"
        "x.jsonl:3: JSON is malformed: invalid character (byte 4)\n"
        "x.jsonl: 6 log records\n"
        "telemetry: took 6 log records from 1 file, refused 2 messages\n"
    )
    assert len(recorded().events) == 6


def test_json(rimp: Any) -> None:
    """One object for each file."""
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS] + b"{\n")
    Path("y.jsonl").write_bytes(b"")
    first, second = map(json.loads, rimp("import", "--json", "x.jsonl", "y.jsonl").out.splitlines())
    assert first == {
        "file": "x.jsonl",
        "taken": {"traces": 0, "logs": 3, "metrics": 0},
        "messages": 1,
        "refused": 1,
        "reasons": [{"line": 2, "reason": "Input data was truncated"}],
        "failure": "",
    }
    assert (second["taken"], second["refused"]) == ({"traces": 0, "logs": 0, "metrics": 0}, 0)


def test_dry_run(rimp: Any) -> None:
    """Says the same, and writes nothing."""
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS])
    code, out, _ = rimp("import", "--dry-run", "x.jsonl")
    assert (code, out.splitlines()[-1]) == (0, "telemetry: would take 3 log records from 1 file")
    assert not Path("telemetry").exists()


def test_directories_and_archives(rimp: Any) -> None:
    """All files in them, by names that say where they were; nothing is unpacked to disk."""
    Path("d/sub").mkdir(parents=True)
    Path("d/b.jsonl").write_bytes(texts()[Signal.LOGS])
    Path("d/sub/a.jsonl").write_bytes(texts()[Signal.TRACES])
    Path("d/.hidden").write_bytes(b"x")
    with tarfile.open("t.tar.gz", "w:gz") as tar:
        tar.add("d/sub/a.jsonl", "../../escape.jsonl")
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with zipfile.ZipFile("z.zip", "w") as archive:
        archive.write("d/b.jsonl", "b.jsonl")
    assert rimp("import", "d", "t.tar.gz", "z.zip").out.splitlines() == [
        "d/b.jsonl: 3 log records",
        "d/sub/a.jsonl: 7 spans",
        "t.tar.gz/../../escape.jsonl: 7 spans",
        "z.zip/b.jsonl: 3 log records",
        "telemetry: took 14 spans and 6 log records from 4 files",
    ]
    assert not Path("../../escape.jsonl").exists()


def test_damaged_archives(rimp: Any) -> None:
    """Cost themselves, and the member that is cut off; what comes after them is taken."""
    Path("a.jsonl").write_bytes(texts()[Signal.TRACES])
    with tarfile.open("t.tar.gz", "w:gz") as tar:
        big = tarfile.TarInfo("x.jsonl")
        big.size = 600_000
        tar.addfile(big, io.BytesIO(os.urandom(big.size)))
    Path("cut.tar.gz").write_bytes(Path("t.tar.gz").read_bytes()[:300_000])
    Path("no.zip").write_bytes(b"PK\x03\x04")
    code, out, err = rimp("import", "cut.tar.gz", "no.zip", "a.jsonl")
    assert (code, err) == (1, "")
    assert "no.zip: no zip archive, or damaged: File is not a zip file" in out
    assert out.splitlines()[-2:] == [
        "a.jsonl: 7 spans",
        "telemetry: took 7 spans from 4 files, 3 files not to the end",
    ]


def test_standard_input(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in ``zstdcat … | rimp import -``."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(texts()[Signal.LOGS])))
    assert rimp("import", "-").out.splitlines()[0] == "standard input: 3 log records"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "there is no file nowhere"),
        ("recording", "recording is a recording: look at it with --path"),
    ],
)
def test_usage_errors(rimp: Any, name: str, message: str) -> None:
    """Before anything is written."""
    Path("recording/journal").mkdir(parents=True)
    Path("recording/journal/lock").touch()
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS])
    code, _, err = rimp("import", "x.jsonl", name)
    assert code == 2
    assert err.startswith(f"rimp: {message}")
    assert not Path("telemetry").exists()


def source(data: bytes) -> Source:
    """A file of this content."""
    return Source("x", lambda: io.BytesIO(data))


def test_a_storage_that_fails_gets_all_of_a_file_or_nothing() -> None:
    """And what is said to be taken is what it got."""

    def fail(data: TelemetryData) -> None:
        raise StorageError("no space left")

    taken = Taken("x")
    take(source(texts()[Signal.LOGS]), taken, fail)
    assert (taken.records[Signal.LOGS], taken.messages) == (0, 0)
    assert taken.failure == "no space left"


def test_long_files_are_stored_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is counted when it is stored, so that a failure in the third says two."""
    monkeypatch.setattr(import_, "_AT_ONCE", 1)
    stored: list[int] = []

    def fail_at_the_third(data: TelemetryData) -> None:
        if len(stored) == 2:
            raise StorageError("no space left")
        stored.append(len(data))

    taken = Taken("x")
    take(source(texts()[Signal.LOGS] * 5), taken, fail_at_the_third)
    assert (taken.records[Signal.LOGS], taken.messages, taken.failure) == (6, 2, "no space left")


def test_interrupt(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What had been taken by then is said."""
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS])

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(import_, "take", interrupt)
    assert rimp("import", "x.jsonl") == (
        130,
        "x.jsonl: interrupted\nx.jsonl: nothing\n"
        "telemetry: took nothing from 1 file, 1 file not to the end\n",
        "",
    )


def test_interrupted_in_the_middle(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C waits until what is stored is counted; what is said is what is there."""
    monkeypatch.setattr(import_, "_AT_ONCE", 1)
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS] * 5)
    stored = []
    store = FileStorage.store

    def press(self: FileStorage, data: TelemetryData) -> None:
        store(self, data)
        stored.append(len(data))
        if len(stored) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(FileStorage, "store", press)
    assert rimp("import", "x.jsonl") == (
        130,
        "x.jsonl: interrupted\nx.jsonl: 6 log records\n"
        "telemetry: took 6 log records from 1 file, 1 file not to the end\n",
        "",
    )
    assert len(recorded().events) == 6


def test_lines_are_stored_as_they_are(rimp: Any) -> None:
    """But for what is not strict OTLP JSON in them."""
    (line,) = texts()[Signal.TRACES].splitlines()
    Path("x.jsonl").write_bytes((line.replace(b'"name":', b' "name" : ') + b"\n") * 2)
    rimp("import", "x.jsonl")
    (file,) = Path("telemetry").glob("traces*.jsonl")
    assert file.read_bytes().splitlines() == [normalize_line(line)] * 2


def test_protobuf_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to install it; other files are taken."""

    def missing(*_: object) -> None:
        raise MissingExtraError("protobuf", "protobuf")

    monkeypatch.setattr("rimp_otel.otlp.files.signal_of_protobuf", missing)
    taken = Taken("x")
    take(source(b"\x0a\x01"), taken, lambda data: None)
    assert taken.failure.endswith("pip install 'rimp-otel[protobuf]'")


def test_long_messages_become_lines_that_readers_like(rimp: Any) -> None:
    """A message of megabytes is not one line."""
    many = TelemetryData(events=[event(f"m{i}", i, n=i) for i in range(3_000)])
    (line,) = [b"".join(many.otlp_json(Signal.LOGS)[:1])]
    whole = json.loads(line)
    for other in many.otlp_json(Signal.LOGS)[1:]:
        whole["resourceLogs"] += json.loads(other)["resourceLogs"]
    Path("x.json").write_text(json.dumps(whole, indent=1))
    assert rimp("import", "x.json").out.splitlines()[0] == "x.json: 3,000 log records"
    written = b"".join(p.read_bytes() for p in Path("telemetry").glob("logs*.jsonl")).splitlines()
    assert max(map(len, written)) < 128 * 1024
    assert lines(recorded()) == lines(many)


def test_hostile_names_and_reasons(rimp: Any) -> None:
    """Nothing raw on the terminal."""
    name = HOSTILE.replace("/", "").replace("\0", "").replace("\ud800", "") + ".zip"
    shown = HOSTILE_SHOWN.replace("\\x00", "").replace("\\ud800", "")
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr("member\x1b[2J", '{"resourceLogs":[{"scopeLogs":"\x1b"}]}')
    out = rimp("import", name).out
    assert out.replace("\n", "").isprintable()
    assert shown in out


def test_many_refusals(rimp: Any) -> None:
    """Do not flood the terminal."""
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS] + b"x\n" * 100)
    out = rimp("import", "x.jsonl").out.splitlines()
    assert len(out) == 23
    assert out[-3:] == [
        "x.jsonl: and 80 more are refused",
        "x.jsonl: 3 log records",
        "telemetry: took 3 log records from 1 file, refused 100 messages",
    ]
