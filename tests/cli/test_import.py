"""``rimp import``: which messages are imported, and that the report is exact."""

from __future__ import annotations

import argparse
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
from rimp_otel.cli.import_ import ImportedFile, InputFile, import_file, parse_size
from rimp_otel.errors import StorageError
from rimp_otel.models.records import Signal
from rimp_otel.otlp.protobuf import normalize_line, protobuf_from_line
from rimp_otel.storage import FileStorage
from tests.cli.conftest import latency, queue
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, checkout, event

SPANS, EVENTS = checkout()
DATA = TelemetryData(EVENTS, [queue(), latency()], SPANS)


def texts() -> dict[Signal, bytes]:
    """Return the lines of each signal."""
    return {signal: b"".join(line + b"\n" for line in DATA.otlp_json(signal)) for signal in Signal}


def recorded(path: str = "telemetry") -> TelemetryData:
    """Return the records of the recording."""
    return FileStorage(path).retrieve()


def lines(data: TelemetryData) -> list[bytes]:
    """Return the records of a batch as sorted texts."""
    return sorted(f.text.encode() for signal in Signal for f in data.encoded_records(signal))


def test_every_signal(rimp: Any) -> None:
    """JSON and protobuf of every signal become a recording like any other."""
    Path("t.jsonl").write_bytes(texts()[Signal.TRACES])
    Path("l.json.gz").write_bytes(gzip.compress(texts()[Signal.LOGS]))
    Path("m.pb").write_bytes(protobuf_from_line(texts()[Signal.METRICS]).SerializeToString())
    assert rimp("import", "t.jsonl", "l.json.gz", "m.pb") == (
        0,
        """\
t.jsonl: 7 spans
l.json.gz: 3 log records
m.pb: 2 data points
telemetry: imported 7 spans, 3 log records and 2 data points from 3 files
""",
        "",
    )
    assert lines(recorded()) == lines(DATA)
    assert rimp("verify").code == 0
    assert rimp("trace", "4b").code == 0


def test_refused_messages(rimp: Any) -> None:
    """Invalid messages are reported with place and reason; the others are imported."""
    good = texts()[Signal.LOGS]
    bad = b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"zz"}]}]}]}\n'
    Path("x.jsonl").write_bytes(good + bad + b"torn\n" + good)
    code, out, err = rimp("import", "x.jsonl")
    assert (code, err) == (1, "")
    assert out == (
        "x.jsonl:2: traceId='zz' is neither 32 hex digits nor base64 of 16 bytes\n"
        "x.jsonl:3: JSON is malformed: invalid character (byte 4)\n"
        "x.jsonl: 6 log records\n"
        "telemetry: imported 6 log records from 1 file, refused 2 messages\n"
    )
    assert len(recorded().events) == 6


def test_json(rimp: Any) -> None:
    """JSON is one object per file."""
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
    """--dry-run reports the same, and writes nothing."""
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS])
    code, out, _ = rimp("import", "--dry-run", "x.jsonl")
    assert (code, out.splitlines()[-1]) == (0, "telemetry: would import 3 log records from 1 file")
    assert not Path("telemetry").exists()


def test_directories_and_archives(rimp: Any) -> None:
    """Files in directories and archives are imported; nothing is extracted to disk."""
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
        "telemetry: imported 14 spans and 6 log records from 4 files",
    ]
    assert not Path("../../escape.jsonl").exists()


def test_damaged_archives(rimp: Any) -> None:
    """A damaged archive does not prevent the import of other files."""
    Path("a.jsonl").write_bytes(texts()[Signal.TRACES])
    with tarfile.open("t.tar.gz", "w:gz") as tar:
        big = tarfile.TarInfo("x.jsonl")
        big.size = 600_000
        tar.addfile(big, io.BytesIO(os.urandom(big.size)))
    Path("cut.tar.gz").write_bytes(Path("t.tar.gz").read_bytes()[:300_000])
    Path("no.zip").write_bytes(b"PK\x03\x04")
    code, out, err = rimp("import", "cut.tar.gz", "no.zip", "a.jsonl")
    assert (code, err) == (1, "")
    assert "no.zip: not a zip archive, or damaged: File is not a zip file" in out
    assert out.splitlines()[-2:] == [
        "a.jsonl: 7 spans",
        "telemetry: imported 7 spans from 4 files, 3 files incomplete",
    ]


def test_standard_input(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file can come from a pipe."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(texts()[Signal.LOGS])))
    assert rimp("import", "-").out.splitlines()[0] == "standard input: 3 log records"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "no such file: nowhere"),
        ("recording", "recording is a recording: read it with --path"),
    ],
)
def test_usage_errors(rimp: Any, name: str, message: str) -> None:
    """Usage errors are found before anything is written."""
    Path("recording/journal").mkdir(parents=True)
    Path("recording/journal/lock").touch()
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS])
    code, _, err = rimp("import", "x.jsonl", name)
    assert code == 2
    assert err.startswith(f"rimp: {message}")
    assert not Path("telemetry").exists()


def input_file(data: bytes) -> InputFile:
    """Return a file of this content."""
    return InputFile("x", lambda: io.BytesIO(data))


def test_failing_storage() -> None:
    """A file that cannot be stored counts as not imported."""

    def fail(data: TelemetryData) -> None:
        raise StorageError("no space left")

    imported = ImportedFile("x")
    import_file(input_file(texts()[Signal.LOGS]), imported, fail)
    assert (imported.records[Signal.LOGS], imported.messages) == (0, 0)
    assert imported.failure == "no space left"


def test_long_files_are_stored_in_parts() -> None:
    """Each part is counted when it is stored."""
    stored: list[int] = []

    def fail_at_the_third(data: TelemetryData) -> None:
        if len(stored) == 2:
            raise StorageError("no space left")
        stored.append(len(data))

    imported = ImportedFile("x")
    import_file(input_file(texts()[Signal.LOGS] * 5), imported, fail_at_the_third, batch_size=1)
    assert (imported.records[Signal.LOGS], imported.messages, imported.failure) == (
        6,
        2,
        "no space left",
    )


def test_interrupt(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupt in a read ends the command, with a report."""

    class Interrupted(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Interrupted())))
    assert rimp("import", "-") == (
        130,
        "standard input: interrupted\nstandard input: nothing\n"
        "telemetry: imported nothing from 1 file, 1 file incomplete\n",
        "",
    )


def test_interrupted_in_the_middle(rimp: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C waits until the stored records are counted."""
    # Two messages of this length are stored together.
    (line,) = TelemetryData(events=[event("x" * 17 * 1024 * 1024)]).otlp_json(Signal.LOGS)
    Path("x.jsonl").write_bytes((line + b"\n") * 3)
    store = FileStorage.store

    def press(self: FileStorage, data: TelemetryData) -> None:
        store(self, data)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(FileStorage, "store", press)
    assert rimp("import", "x.jsonl") == (
        130,
        "x.jsonl: interrupted\nx.jsonl: 2 log records\n"
        "telemetry: imported 2 log records from 1 file, 1 file incomplete\n",
        "",
    )
    assert len(recorded().events) == 2


def test_lines_are_stored_normalized(rimp: Any) -> None:
    """Lines are stored as strict OTLP JSON."""
    (line,) = texts()[Signal.TRACES].splitlines()
    Path("x.jsonl").write_bytes((line.replace(b'"name":', b' "name" : ') + b"\n") * 2)
    rimp("import", "x.jsonl")
    (file,) = Path("telemetry").glob("traces*.jsonl")
    assert file.read_bytes().splitlines() == [normalize_line(line)] * 2


@pytest.mark.usefixtures("no_protobuf")
def test_protobuf_without_the_extra() -> None:
    """The message says how to install protobuf."""
    imported = ImportedFile("x")
    import_file(input_file(b"\x0a\x01"), imported, lambda data: None)
    assert imported.failure.endswith("pip install 'rimp-otel[protobuf]'")


def test_long_messages(rimp: Any) -> None:
    """A long message is stored in lines of limited length."""
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
    """Control characters are escaped."""
    name = HOSTILE.replace("/", "").replace("\0", "").replace("\ud800", "") + ".zip"
    shown = HOSTILE_SHOWN.replace("\\x00", "").replace("\\ud800", "")
    with zipfile.ZipFile(name, "w") as archive:
        archive.writestr("member\x1b[2J", '{"resourceLogs":[{"scopeLogs":"\x1b"}]}')
    out = rimp("import", name).out
    assert out.replace("\n", "").isprintable()
    assert shown in out


def test_many_refused_messages(rimp: Any) -> None:
    """Only the first refused messages are printed."""
    Path("x.jsonl").write_bytes(texts()[Signal.LOGS] + b"x\n" * 100)
    out = rimp("import", "x.jsonl").out.splitlines()
    assert len(out) == 23
    assert out[-3:] == [
        "x.jsonl: and 80 more refused messages",
        "x.jsonl: 3 log records",
        "telemetry: imported 3 log records from 1 file, refused 100 messages",
    ]


def test_pipes_and_devices_are_refused(rimp: Any, tmp_path: Path) -> None:
    """They may never end, and are told so at once."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    for path in (str(tmp_path / "pipe.jsonl"), "/dev/zero"):
        code, _, err = rimp("import", path)
        assert code == 2
        assert "is a pipe or a device" in err


def test_limits(rimp: Any, tmp_path: Path) -> None:
    """What is too large is refused with the option that allows it."""
    path = tmp_path / "logs.jsonl"
    path.write_bytes(texts()[Signal.LOGS])
    code, out, _ = rimp("import", str(path), "--max-message", "10B", "--dry-run")
    assert code == 1
    assert "the limit of a message; see --max-message" in out
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "logs.jsonl")
    code, out, _ = rimp("import", str(tmp_path / "a.zip"), "--max-unpacked", "20", "--dry-run")
    assert code == 1
    assert "unpacks to more than 20 bytes; see --max-unpacked" in out


def test_an_archive_that_is_a_bomb(rimp: Any, tmp_path: Path) -> None:
    """An archive that holds a thousand times its size is not unpacked."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("logs.jsonl", b"\n" * (80 * 1024 * 1024))
    out = rimp("import", str(tmp_path / "a.zip"), "--dry-run").out
    assert "unpacks to more than 500 times its size" in out


@pytest.mark.parametrize(
    ("text", "size"), [("5", 5), ("5B", 5), ("2kB", 2_048), ("3 MiB", 3 * 2**20), ("4G", 4 * 2**30)]
)
def test_sizes(text: str, size: int) -> None:
    """Sizes have units of 1,024."""
    assert parse_size(text) == size
    for wrong in ("", "0", "x", "1.5M", "5X"):
        with pytest.raises(argparse.ArgumentTypeError, match="expected a size such as"):
            parse_size(wrong)
