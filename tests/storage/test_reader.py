"""Reading a recording while it is written."""

from __future__ import annotations

from rimp_otel import FileStorage, TelemetryData, TelemetryEvent
from rimp_otel.otlp.signals import Signal
from rimp_otel.storage.reader import RecordingReader

from ..contract.samples import everything


def batch(*messages):
    """Events of these messages."""
    return TelemetryData(events=[TelemetryEvent("a", message) for message in messages])


def polled(reader, **arguments):
    """The messages of what a poll gives."""
    return [e.message for data in reader.poll(**arguments) for e in data.events]


def test_nothing_there_yet(tmp_path):
    """Is no error."""
    reader = RecordingReader(tmp_path / "t")
    assert reader.files() == []
    assert polled(reader) == []


def test_files_that_there_are(tmp_path):
    """With signal and size."""
    FileStorage(tmp_path / "t").store(everything())
    files = RecordingReader(tmp_path / "t").files()
    assert [file.signal for file in files] == [Signal.TRACES, Signal.LOGS, Signal.METRICS]
    assert all(file.size == file.path.stat().st_size > 0 for file in files)


def test_poll_gives_what_is_new(tmp_path):
    """From where it stopped."""
    storage, reader = FileStorage(tmp_path / "t"), RecordingReader(tmp_path / "t")
    storage.store(batch("1", "2"))
    assert polled(reader) == ["1", "2"]
    assert polled(reader) == []
    storage.store(batch("3"))
    assert polled(reader) == ["3"]


def test_poll_that_is_broken_off_goes_on(tmp_path):
    """With the line after the last that was given."""
    storage, reader = FileStorage(tmp_path / "t"), RecordingReader(tmp_path / "t")
    for message in "123":
        storage.store(batch(message))
    first = next(iter(reader.poll()))
    assert [event.message for event in first.events] == ["1"]
    assert polled(reader) == ["2", "3"]


def test_half_a_line_waits_for_its_end(tmp_path):
    """Unless this is the final poll."""
    storage, reader = FileStorage(tmp_path / "t"), RecordingReader(tmp_path / "t")
    storage.store(batch("1"))
    path = tmp_path / "t" / "logs.jsonl"
    (line,) = batch("2").otlp_json(Signal.LOGS)
    with path.open("ab", buffering=0) as file:
        file.write(line[:20])
        assert polled(reader) == ["1"]
        file.write(line[20:])
        assert polled(reader) == []
        file.write(b"\n")
        assert polled(reader) == ["2"]
        file.write(line)
        assert polled(reader, final=True) == ["2"]
    assert reader.damaged == []


def test_file_that_is_replaced_or_truncated(tmp_path):
    """Is read from its start."""
    storage, reader = FileStorage(tmp_path / "t"), RecordingReader(tmp_path / "t")
    path = tmp_path / "t" / "logs.jsonl"
    storage.store(batch("1", "a longer message"))
    assert polled(reader) == ["1", "a longer message"]
    path.rename(tmp_path / "t" / "logs.jsonl.1")
    storage.store(batch("2"))
    assert polled(reader) == ["2"]
    path.write_bytes(b"")
    assert polled(reader) == []
    storage.store(batch("3"))
    assert polled(reader) == ["3"]


def test_damaged_lines_are_skipped_and_counted(tmp_path):
    """With their place; empty lines are nothing."""
    path = tmp_path / "t" / "logs.jsonl"
    storage = FileStorage(tmp_path / "t")
    storage.store(batch("1"))
    with path.open("ab") as file:
        file.write(b'\n\nnot json\n{"resourceLogs":7}\n\xff\xfe\n{"foreign":[]}\n')
    storage.store(batch("2"))
    reader = RecordingReader(tmp_path / "t")
    assert polled(reader) == ["1", "2"]
    assert [line.line for line in reader.damaged] == [4, 5, 6, 7]
    assert {line.path for line in reader.damaged} == {path}
    assert all(line.reason for line in reader.damaged)


def test_file_that_goes_away_between_two_looks(tmp_path, monkeypatch):
    """As logrotate may have it: no error."""
    FileStorage(tmp_path / "t").store(everything())
    reader = RecordingReader(tmp_path / "t")
    found = reader.files()
    monkeypatch.setattr(reader, "files", lambda: found)
    (tmp_path / "t" / "logs.jsonl").unlink()
    kinds = [(len(d.spans), len(d.events), len(d.metrics)) for d in reader.poll()]
    assert kinds == [(2, 0, 0), (0, 0, 7)]
