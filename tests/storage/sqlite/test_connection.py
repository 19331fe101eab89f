"""Making the file of a database, while others do the same."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from rimp_otel import StorageError
from rimp_otel.fsutil import lock_file, unlock_file
from rimp_otel.storage.sqlite import connection as files
from rimp_otel.storage.sqlite.connection import create_database_file


@pytest.fixture
def held(tmp_path):
    """Hold the lock of the directory, as another process would."""
    file = os.open(tmp_path, os.O_RDONLY)
    assert lock_file(file)
    yield file
    os.close(file)


def test_whoever_else_makes_it_is_waited_for(tmp_path, held, monkeypatch):
    """A process that is creating the file is waited for."""
    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: unlock_file(held))
    monkeypatch.setattr(files, "time", clock)
    create_database_file(tmp_path / "telemetry.db")
    assert (tmp_path / "telemetry.db").stat().st_mode & 0o777 == 0o600


def test_but_not_for_ever(tmp_path, held, monkeypatch):
    """A lock that is never released is an error, and nothing is created."""
    now = [0.0]
    clock = SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    monkeypatch.setattr(files, "time", clock)
    with pytest.raises(StorageError, match="another process is creating it"):
        create_database_file(tmp_path / "telemetry.db")
    assert os.listdir(tmp_path) == []
    assert 1.0 <= now[0] < 1.01
