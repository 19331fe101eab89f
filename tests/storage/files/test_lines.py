"""Contents: where they are, and their lines."""

from __future__ import annotations

import gzip
import os

import pytest
import zstandard

from rimp_otel.models.records import Signal
from rimp_otel.storage.files.layout import SealedName, fingerprint
from rimp_otel.storage.files.lines import (
    DataFile,
    find_last_line_end,
    fingerprint_of,
    list_data_files,
    open_data_file,
    read_lines,
)

ID = fingerprint(b"1")
WAITING = f"logs-{ID}.jsonl"
SEALED = f"logs-5-9-{ID}.jsonl.zst"


def content(path):
    """Return one of the files in a directory of sealed files."""
    name = SealedName.parse(path.name)
    return DataFile(name.signal, name.id, path, name)


def active(path):
    """Return an active file."""
    path.write_bytes(b"1\n2\n")
    return DataFile(Signal.LOGS, ID, path)


def test_contents_are_listed_by_age(tmp_path):
    """Each file is listed once, waiting ones last; foreign files are left out, and what is no file comes after all."""
    ids = [digit * 16 for digit in "abcd"]
    for name in (
        f"logs-20-30-{ids[0]}.jsonl.zst",
        f"logs-1-9-{ids[1]}.jsonl",
        f"logs-{ids[1]}.jsonl",
        f"logs-{ids[2]}.jsonl",
        f"traces-5-25-{ids[0]}.jsonl.gz",
        f"logs-5-25-{ids[3]}.jsonl.bz2",
        f".logs-{ids[3]}.tmp-7",
        f"logs-5-25-{ids[3]}.idx",
    ):
        (tmp_path / name).touch()
    (tmp_path / f"logs-{ids[3]}.jsonl").mkdir()
    assert [(found.path.name, found.id[0]) for found in list_data_files(tmp_path)] == [
        (f"logs-1-9-{ids[1]}.jsonl", "b"),
        (f"traces-5-25-{ids[0]}.jsonl.gz", "a"),
        (f"logs-20-30-{ids[0]}.jsonl.zst", "a"),
        (f"logs-{ids[2]}.jsonl", "c"),
        (f"logs-{ids[3]}.jsonl", "d"),  # a directory, which reading names
    ]
    assert list_data_files(tmp_path / "nowhere") == []


def where(content, sealed):
    """Return the name of the file that it is found in."""
    found = open_data_file(content, sealed)
    found.file.close()
    assert found.is_sealed == (found.path.parent == sealed)
    return found.path.name


def test_finding_what_was_rotated_and_sealed(tmp_path):
    """A file is found wherever it lies by then."""
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    file = active(tmp_path / "logs.jsonl")
    assert where(file, sealed) == "logs.jsonl"
    file.path.rename(sealed / WAITING)
    assert where(file, sealed) == WAITING
    file.path.write_bytes(b"another\n")
    assert where(file, sealed) == WAITING
    waiting = content(sealed / WAITING)
    waiting.path.rename(sealed / SEALED)
    assert where(file, sealed) == where(waiting, sealed) == SEALED


def test_finding_what_was_deleted(tmp_path):
    """A deleted file is not found."""
    file = active(tmp_path / "logs.jsonl")
    file.path.unlink()
    assert open_data_file(file, tmp_path / "sealed") is None
    assert open_data_file(content(tmp_path / SEALED), tmp_path) is None


def test_fingerprint(tmp_path):
    """The fingerprint is that of the first line, also before it has an end."""
    path = tmp_path / "file"
    for text, expected in [(b"", None), (b"1", ID), (b"1\n", ID), (b"1\n2", ID)]:
        path.write_bytes(text)
        with path.open("rb") as file:
            assert fingerprint_of(file) == expected


@pytest.mark.parametrize(
    ("text", "end"),
    [
        (b"", 0),
        (b"abc", 0),
        (b"a\n", 2),
        (b"a\nbc", 2),
        (b"a\n" + b"x" * 200_000, 2),
        (b"x" * 200_000 + b"\nabc", 200_001),
    ],
)
def test_last_line_end(tmp_path, text, end):
    """The end of the last complete line is found, however far back it is."""
    (tmp_path / "file").write_bytes(text)
    with (tmp_path / "file").open("rb") as file:
        assert find_last_line_end(file, len(text)) == end


def lines(path, offset=0, number=0, limit=None, torn=True):
    """Return number, end and text of each line."""
    found = open_data_file(content(path), path.parent)
    with found.file:
        return [tuple(line[:3]) for line in read_lines(found, offset, number, limit, torn)]


TEXT = b"1\n\n22\r\n333"
ROWS = [(1, 2, b"1\n"), (2, 3, b"\n"), (3, 7, b"22\r\n"), (4, 10, b"333")]


@pytest.fixture(params=["none", "zstd", "zstd in pieces", "gzip"])
def path(request, tmp_path):
    """The path of a file with four lines."""
    compress = zstandard.ZstdCompressor().compress
    packed, suffix = {
        "none": (TEXT, ""),
        "zstd": (compress(TEXT), ".zst"),
        "zstd in pieces": (b"".join(compress(TEXT[i : i + 1]) for i in range(10)), ".zst"),
        "gzip": (gzip.compress(TEXT), ".gz"),
    }[request.param]
    path = tmp_path / f"logs-5-9-{ID}.jsonl{suffix}"
    path.write_bytes(packed)
    return path


def test_lines(path):
    """Only line feeds end lines; the last may lack its end, if that is wanted."""
    assert lines(path) == ROWS
    assert lines(path, torn=False) == ROWS[:3]


def test_lines_from_a_place_on(path):
    """Lines from a place on have the numbers that they have in the whole file."""
    for index, (number, end, _) in enumerate(ROWS):
        assert lines(path, end, number) == ROWS[index + 1 :]


def test_lines_up_to_a_limit(path):
    """Lines that end before a limit are returned."""
    for limit in range(11):
        assert lines(path, limit=limit) == [row for row in ROWS if row[1] <= limit]


def test_lines_around_a_gap(tmp_path):
    """The gap counts as one line; what it cut in half is none."""
    blocks = [
        zstandard.ZstdCompressor(write_checksum=True).compress(t) for t in (b"1\n2", b"3\n4\n")
    ]
    path = tmp_path / SEALED
    path.write_bytes(blocks[0] + blocks[0][:-1] + b"!" + blocks[1])
    assert lines(path) == [(1, 2, b"1\n"), (2, 6, None), (3, 8, b"3\n"), (4, 10, b"4\n")]


def test_a_file_that_was_cut_off(tmp_path):
    """Reading continues at the new end: what was cut off was torn."""
    path = tmp_path / WAITING
    path.write_bytes(b"1\n")
    assert lines(path, offset=7, number=2) == []


def test_links(tmp_path):
    """Links to files are followed: a part of a recording may be moved to another disk."""
    (tmp_path / "elsewhere").write_bytes(b"1\n")
    os.symlink(tmp_path / "elsewhere", tmp_path / WAITING)
    assert lines(list_data_files(tmp_path)[0].path) == [(1, 2, b"1\n")]
