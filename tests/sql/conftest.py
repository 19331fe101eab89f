"""A recording to query, and connections to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.sql import connect
from rimp_otel.storage.files.lines import list_data_files
from tests.contract.samples import everything


@pytest.fixture
def path(tmp_path):
    """The path of the recording."""
    return tmp_path / "t"


@pytest.fixture
def storage(path):
    """The storage of the recording."""
    storage = FileStorage(path)
    yield storage
    storage.close()


@pytest.fixture
def connection(path):
    """A connection to the recording."""
    with connect(path) as connection:
        yield connection


@pytest.fixture
def everything_stored(storage):
    """Store one record of every kind."""
    storage.store(everything())


def seal_now(storage: FileStorage) -> list[Path]:
    """Rotate and seal all files; return the paths of the sealed files."""
    storage.rotate()
    storage._writer.sealer.run()
    return sealed_files(storage.layout.path)


def sealed_files(path: Path) -> list[Path]:
    """Return the paths of the sealed files, without those that wait to be sealed."""
    found = list_data_files(path / "sealed")
    return [content.path for content in found if not content.name.is_waiting]


def ask(connection, sql, *parameters):
    """Return the rows of a query."""
    return connection.execute(sql, list(parameters) or None).fetchall()


def store(path: Path, data: TelemetryData) -> None:
    """Append to a recording, and close it."""
    storage = FileStorage(path)
    storage.store(data)
    storage.close()
