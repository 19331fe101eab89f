"""Mappings: what is written is in the file, and nobody else's descriptor is closed."""

from __future__ import annotations

import os

import pytest

from rimp_otel.journal.segment import FileMapping


@pytest.fixture
def opened(tmp_path):
    """A file of a page."""
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT, 0o600)
    os.ftruncate(file, 4_096)
    yield file
    os.close(file)


def descriptors():
    """Those that are open."""
    return {int(name) for name in os.listdir("/proc/self/fd")}


def test_written_through(opened):
    """What is written can be read from the file at once."""
    memory = FileMapping.of(opened, 4_096)
    memory.write(b"text")
    assert os.pread(opened, 4, 0) == b"text"
    memory.close()
    assert memory.closed
    memory.close()


def test_lets_go_of_its_descriptor(opened):
    """Where it has one."""
    before = descriptors()
    FileMapping.of(opened, 4_096).close()
    assert descriptors() == before


def test_closes_nobody_elses_descriptor(opened, tmp_path):
    """As after a program closed all descriptors, and opened others in their place."""
    before = descriptors()
    memory = FileMapping.of(opened, 4_096)
    own = descriptors() - before
    (tmp_path / "other").touch()
    other = os.open(tmp_path / "other", os.O_RDWR)
    for number in own:
        os.dup2(other, number)
    memory.close()
    assert own <= descriptors()
    with pytest.raises(ValueError):
        memory.write(b"late")
    for number in {other, *own}:
        os.close(number)
