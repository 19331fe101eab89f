"""Layout: the names of a recording's files."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rimp_otel.errors import StorageError
from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import (
    FileKind,
    FileState,
    Layout,
    SealedName,
    classify,
    fingerprint,
    is_unfinished,
    list_entries,
)


def test_names_in_a_directory():
    """The names of slot 0 have no number."""
    layout = Layout("a/telemetry")
    assert layout.file(Signal.TRACES) == Path("a/telemetry/traces.jsonl")
    assert layout.file(Signal.LOGS, 12) == Path("a/telemetry/logs.12.jsonl")
    assert layout.journal() == Path("a/telemetry/journal")
    assert layout.journal(3) == Path("a/telemetry/journal.3")
    assert layout.sealed == Path("a/telemetry/sealed")
    assert layout.directory == Path("a/telemetry")


def test_names_of_a_family():
    """All files lie beside each other, with the family's name in front."""
    layout = Layout("a/telemetry.jsonl")
    assert layout.file(Signal.METRICS) == Path("a/telemetry-metrics.jsonl")
    assert layout.file(Signal.METRICS, 1) == Path("a/telemetry-metrics.1.jsonl")
    assert layout.journal() == Path("a/telemetry-journal")
    assert layout.journal(1) == Path("a/telemetry-journal.1")
    assert layout.sealed == Path("a/telemetry-sealed")
    assert layout.directory == Path("a")


@pytest.mark.parametrize(("path", "prefix"), [("t", ""), ("t.jsonl", "t-")])
def test_slots_that_left_something(tmp_path, path, prefix):
    """Slots are found by their journals or active files; foreign names count for nothing."""
    layout = Layout(tmp_path / path)
    assert layout.slots() == []
    layout.make_directory()
    for name in ("traces.2.jsonl", "logs.10.jsonl", "logs.2.jsonl"):
        (layout.directory / f"{prefix}{name}").touch()
    (layout.directory / f"{prefix}journal.7").mkdir()
    assert layout.slots() == [2, 7, 10]
    for name in (
        "traces.0.jsonl",
        "traces.01.jsonl",
        "traces.1.jsonl.bak",
        "traces.1.jsonl\n",
        "traces.\u0661.jsonl",
        "xtraces.1.jsonl",
        "traces.1",
        "journal.1.jsonl",
        "journal.-1",
        "journals",
        "spans.1.jsonl",
        "sealed",
    ):
        (layout.directory / f"{prefix}{name}").touch()
    (layout.directory / f"other-{prefix}traces.4.jsonl").touch()
    assert layout.slots() == [2, 7, 10]
    (layout.directory / f"{prefix}metrics.jsonl").touch()
    assert layout.slots() == [0, 2, 7, 10]


def test_family_beside_a_directory_with_the_same_names(tmp_path):
    """A family and a directory do not see each other's files."""
    (tmp_path / "traces.1.jsonl").touch()
    (tmp_path / "t-traces.2.jsonl").touch()
    assert Layout(tmp_path).slots() == [1]
    assert Layout(tmp_path / "t.jsonl").slots() == [2]


def test_place_that_is_no_directory(tmp_path):
    """A path that is not a directory is named."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as caught:
        Layout(tmp_path / "file").slots()
    assert str(caught.value) == f"cannot read {tmp_path / 'file'}: Not a directory"


def test_directory_is_private(tmp_path):
    """New directories are private, also those above."""
    before = os.umask(0)
    try:
        Layout(tmp_path / "a" / "b").make_directory()
    finally:
        os.umask(before)
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


SEALED = {
    "traces-0123456789abcdef.jsonl": SealedName(Signal.TRACES, "0123456789abcdef"),
    "logs-0-0-0123456789abcdef.jsonl": SealedName(Signal.LOGS, "0123456789abcdef", 0, 0),
    "metrics-1-18446744073709551615-00000000000000ff.jsonl.zst": SealedName(
        Signal.METRICS, "00000000000000ff", 1, 18446744073709551615, "zstd"
    ),
    "traces-5-6-0123456789abcdef.jsonl.gz": SealedName(
        Signal.TRACES, "0123456789abcdef", 5, 6, "gzip"
    ),
}


def test_names_of_sealed_files():
    """A name says the same when it is read and written."""
    for name, meaning in SEALED.items():
        assert SealedName.parse(name) == meaning
        assert str(meaning) == name
    assert [name.is_waiting for name in SEALED.values()] == [True, False, False, False]
    assert SEALED["logs-0-0-0123456789abcdef.jsonl"].stem == "logs-0-0-0123456789abcdef"


@pytest.mark.parametrize(
    "name",
    [
        "traces-0123456789abcdef.jsonl.zst",
        "traces-0123456789ABCDEF.jsonl",
        "traces-0123456789abcde.jsonl",
        "traces-01-2-0123456789abcdef.jsonl",
        "traces-1-0123456789abcdef.jsonl",
        "traces--1-2-0123456789abcdef.jsonl",
        "spans-1-2-0123456789abcdef.jsonl",
        "traces-1-2-0123456789abcdef.jsonl.zst.bak",
        "traces-1-2-0123456789abcdef.jsonl\n",
        "traces-1-2-0123456789abcdef.idx",
        "traces-1-\u0662-0123456789abcdef.jsonl",
        ".traces-0123456789abcdef.tmp-1",
        "traces.jsonl",
        "",
    ],
)
def test_foreign_names_are_none_of_ours(name):
    """Similar names are foreign."""
    assert SealedName.parse(name) is None


@given(st.sampled_from(sorted(SEALED)), st.data())
def test_a_changed_name_means_itself_or_nothing(name, data):
    """Whatever is parsed from a name makes just that name."""
    at = data.draw(st.integers(0, len(name) - 1))
    changed = name[:at] + data.draw(st.characters(codec="utf-8")) + name[at + 1 :]
    meaning = SealedName.parse(changed)
    assert meaning is None or str(meaning) == changed


def test_fingerprint_is_of_the_line_without_its_end():
    """The fingerprint is a BLAKE2b hash of 8 bytes."""
    expected = blake2b(b'{"a":1}', digest_size=8).hexdigest()
    assert fingerprint(b'{"a":1}\n') == fingerprint(b'{"a":1}') == expected
    assert len(expected) == 16


KINDS = {
    "traces.jsonl": FileKind.ACTIVE,
    "logs.12.jsonl": FileKind.ACTIVE,
    "logs.012.jsonl": FileKind.FOREIGN,
    "journal": FileKind.JOURNAL,
    "journal.3": FileKind.JOURNAL,
    "sealed": FileKind.DIRECTORY,
    "damaged": FileKind.DIRECTORY,
    "logs-0123456789abcdef.jsonl": FileKind.WAITING,
    "logs-1-2-0123456789abcdef.jsonl": FileKind.SEALED,
    "logs-1-2-0123456789abcdef.jsonl.zst": FileKind.SEALED,
    "logs-1-2-0123456789abcdef.idx": FileKind.DERIVED,
    "logs-1-2-0123456789abcdef.parquet": FileKind.DERIVED,
    ".logs-1-2-0123456789abcdef.parquet.tmp": FileKind.PARQUET,
    ".logs-0123456789abcdef.tmp-77": FileKind.SEALING,
    ".logs.jsonl.tmp-77": FileKind.REWRITE,
    "logs.jsonl.tmp-77": FileKind.FOREIGN,
    "notes.txt": FileKind.FOREIGN,
    "": FileKind.FOREIGN,
}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_every_name_has_a_kind(name, kind):
    """Each name has its kind; similar ones are foreign."""
    assert classify(name) is kind
    assert is_unfinished(name) is (kind in (FileKind.WAITING, FileKind.SEALING))


def test_state_of_what_lies_there(tmp_path):
    """The state follows from the name, and from whether the source is there."""
    layout = Layout(tmp_path)
    states = {
        "traces.jsonl": FileState.OWN,
        ".gitignore": FileState.OWN,
        ".traces.jsonl.tmp-7": FileState.STALE,
        "notes.txt": FileState.FOREIGN,
        "journal/lock": FileState.OWN,
        "journal/000001.seg": FileState.OWN,
        "journal/000001.seg.damaged": FileState.QUARANTINED,
        "journal/000002.tmp": FileState.STALE,
        "journal/notes.txt": FileState.FOREIGN,
        "sealed/logs-0123456789abcdef.jsonl": FileState.OWN,
        "sealed/.logs-0123456789abcdef.tmp-7": FileState.OWN,
        "sealed/.logs-0123456789abcde0.tmp-7": FileState.STALE,
        "sealed/logs-1-2-0123456789abcdef.jsonl.gz": FileState.OWN,
        "sealed/logs-1-2-0123456789abcdef.idx": FileState.OWN,
        "sealed/logs-1-3-0123456789abcdef.idx": FileState.ORPHANED,
        "sealed/traces.jsonl": FileState.FOREIGN,
    }
    for name in states:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    entries = {os.fspath(path.relative_to(tmp_path)): state for path, state in list_entries(layout)}
    assert entries == {**states, "journal": FileState.OWN, "sealed": FileState.OWN}
