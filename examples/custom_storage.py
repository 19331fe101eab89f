"""Write a storage: a database table. It needs two methods."""

from __future__ import annotations

import json
import sqlite3
import threading
import time

from rimp_otel import (
    EventType,
    TelemetryCollector,
    TelemetryConfig,
    TelemetryData,
    TelemetryEvent,
    TelemetryStorage,
    TelemetryStream,
)


class DatabaseStorage(TelemetryStorage):
    """Stores events, and nothing else, in SQLite. Times are seconds since the epoch."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        # store() is called on the stream's thread, retrieve() on any thread.
        self._database = sqlite3.connect(path, check_same_thread=False)
        self._database.execute("CREATE TABLE IF NOT EXISTS events (time, source, message, rest)")

    def store(self, data):
        rows = [
            (
                e.time_unix_nano / 1e9,
                e.source,
                e.message,
                json.dumps([e.event_type.value, e.metadata]),
            )
            for e in data.events
        ]
        with self._lock, self._database:  # a transaction: all of the batch or nothing
            self._database.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", rows)

    def retrieve(self, start_time=None, end_time=None, limit=None):
        query = "SELECT * FROM events WHERE time >= ? AND time < ? ORDER BY time DESC LIMIT ?"
        with self._lock:
            found = self._database.execute(
                query, (start_time or 0, end_time or float("inf"), -1 if limit is None else limit)
            ).fetchall()
        return TelemetryData(events=[self._event(row) for row in reversed(found)])

    def _event(self, row: tuple[float, str, str, str]) -> TelemetryEvent:
        seconds, source, message, rest = row
        kind, metadata = json.loads(rest)
        return TelemetryEvent(source, message, EventType(kind), metadata, round(seconds * 1e9))

    def close(self) -> None:
        self._database.close()


collector = TelemetryCollector(TelemetryConfig())
storage = DatabaseStorage(":memory:")
stream = TelemetryStream(collector, storage, interval=1.0)
began = time.time()
stream.start()
collector.collect_event("app", "Started", EventType.INFO)
collector.collect_event("app", "Login failed", EventType.WARNING, {"user": "ada", "attempts": 3})
collector.collect_event("app", "Stopped", EventType.INFO)
collector.flush()

for event in storage.retrieve(start_time=began, limit=2).events:
    print(event.event_type.value, event.message, event.metadata)
stream.stop()
