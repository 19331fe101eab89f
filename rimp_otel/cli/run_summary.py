"""Counts the records that a program adds to a recording, and adds how it ended.

Apart from `run`, since reading needs the SDK, which `rimp run --help` must not load.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

from rimp_otel.batch import TelemetryData
from rimp_otel.cli.child_process import signal_name
from rimp_otel.collector.collector import resource_from_config
from rimp_otel.collector.service_name import name_of_command
from rimp_otel.config import TelemetryConfig
from rimp_otel.convert.resources import resource_from_sdk
from rimp_otel.errors import RimpError, StorageError
from rimp_otel.models.records import EventType, ScopeInfo, Signal, TelemetryEvent
from rimp_otel.storage.base import Recording
from rimp_otel.storage.files.recording import FileRecording
from rimp_otel.storage.reading import count_line
from rimp_otel.storage.sqlite.recording import SQLiteRecording
from rimp_otel.streaming.stream import storage_for

__all__ = ["AddedRecords", "record_end"]


class AddedRecords:
    """The records that any process adds to a recording from now on."""

    def __init__(self, path: str | os.PathLike[str], is_database: bool = False) -> None:
        make = SQLiteRecording if is_database else FileRecording
        self._recording: Recording = make(path, count_line)
        self._recording.skip()
        self.records: Counter[Signal] = Counter()
        #: Their size as OTLP JSON, in bytes.
        self.size = 0

    def count(self) -> Counter[Signal]:
        """Count the added records by signal, and their bytes in ``size``."""
        try:
            for data in self._recording.poll(final=True):
                for signal in filter(data.count_of, Signal):
                    self.records[signal] += data.count_of(signal)
                    self.size += sum(len(line) + 1 for line in data.otlp_json(signal))
        except StorageError:
            pass  # readable records are counted; `rimp stats` lists the damage
        return self.records


def record_end(
    command: Sequence[str],
    ended: int,
    report: Mapping[str, Sequence[str]],
    path: str | os.PathLike[str],
    backend: str,
    env: Mapping[str, str],
) -> None:
    """Record that a program has failed: its exit code, or -n for signal n. Raises nothing.

    What a killed process left in its journal is stored by that, too.
    """
    program = name_of_command(command, env)
    attributes: dict[str, object] = {"process.pid": int(report["started"][0])}
    if ended < 0:
        message = f"{program} was killed by {signal_name(-ended)}"
        attributes["process.exit.signal"] = signal_name(-ended)
    else:
        message = f"{program} ended with exit code {ended}"
        attributes["process.exit.code"] = ended
    try:
        config = TelemetryConfig.from_env(env, storage_path=str(path), storage_backend=backend)
        resource = resource_from_sdk(resource_from_config(config))
        event = TelemetryEvent(
            "rimp_otel",
            message,
            EventType.ERROR,
            attributes,
            event_name="process.exit",
            scope=ScopeInfo("rimp_otel"),
            resource=resource,
        )
        storage = storage_for(config)
        try:
            storage.store(TelemetryData(events=[event]))
        finally:
            storage.close()
    except (RimpError, OSError, ValueError):
        pass  # the exit code of the program matters more than this record
