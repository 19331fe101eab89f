"""A recording to ask, and connections to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rimp_otel import FileStorage, TelemetryData
from rimp_otel.sql import connect
from rimp_otel.storage.files.lines import list_contents
from tests.contract.samples import everything


@pytest.fixture
def path(tmp_path):
    """Of the recording."""
    return tmp_path / "t"


@pytest.fixture
def storage(path):
    """Of the recording."""
    storage = FileStorage(path)
    yield storage
    storage.close()


@pytest.fixture
def connection(path):
    """To the recording."""
    with connect(path) as connection:
        yield connection


@pytest.fixture
def everything_stored(storage):
    """One of everything is in the recording."""
    storage.store(everything())


def seal_now(storage: FileStorage) -> list[Path]:
    """Rotates and seals what there is; the paths of the sealed files."""
    storage.rotate()
    storage._writer.sealer.run()
    return sealed_files(storage.layout.path)


def sealed_files(path: Path) -> list[Path]:
    """The sealed files, those that wait excepted."""
    found = list_contents(path / "sealed")
    return [content.path for content in found if not content.name.is_waiting]


def ask(connection, sql, *parameters):
    """The rows that a query gives."""
    return connection.execute(sql, list(parameters) or None).fetchall()


def store(path: Path, data: TelemetryData) -> None:
    """Appends to a recording, and lets go of it."""
    storage = FileStorage(path)
    storage.store(data)
    storage.close()
