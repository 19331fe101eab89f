"""A recording with something in every place, and what can be there instead of a file.

The recording is that of processes that were killed: sealed files, one that waits to be sealed, and for two
writer slots active files and journals. In each place are a span, a log record and a metric of the place's name.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from opentelemetry.sdk.trace import TracerProvider

from rimp_otel import FileStorage, SQLiteStorage
from rimp_otel.storage.files.sealer import Sealer
from tests.crash.running import call_in_child
from tests.storage.journaled import Journaled

__all__ = [
    "COMMANDS",
    "DIRECTORY_ODDITIES",
    "FILE_ODDITIES",
    "Recorded",
    "make_recording",
    "obey_modes",
    "replace",
]

SEALED = ("zstd", "gzip", "none")
SLOTS = ("", ".1")

COMMANDS: list[list[str]] = [
    ["tail", "-n", "all"],
    ["logs"],
    ["logs", "--grep", "journal"],
    ["errors"],
    ["traces"],
    ["trace", "{trace}"],
    ["top", "--at", "now"],
    ["metrics"],
    ["metrics", "place"],
    ["diff", "--window-a", "..now", "--window-b", "2000-01-01.."],
    ["export", "--since", "2000-01-01", "{out}"],
    ["stats"],
    ["sql", "SELECT Body FROM otel_logs"],
    ["parquet"],
    ["verify"],
    ["repair", "--dry-run"],
]
"""Every command that reads. ``{trace}`` is a trace's id, ``{out}`` a path that does not exist."""


class Recorded(NamedTuple):
    """A recording, and where its records are."""

    path: Path
    #: By the paths of files and directories, relative to the recording's parent, the names of the places whose
    #: records are lost with them.
    lost: dict[str, set[str]]

    @property
    def places(self) -> set[str]:
        """The names of all places."""
        return set().union(*self.lost.values())


def make_recording(path: Path) -> Recorded:
    """Make the recording at ``path``: a directory, or a database if it ends in ``.db``."""
    assert call_in_child(_record, path) is None
    lost: dict[str, set[str]] = {}
    for found in sorted(path.parent.rglob("*")):
        if found.suffix in (".idx", ".parquet"):
            continue
        name = str(found.relative_to(path.parent))
        lost[name] = _places_in(found, path)
    return Recorded(path, lost)


def _places_in(found: Path, path: Path) -> set[str]:
    slot = ".1" if ".1" in found.name or ".1" in found.parent.name else ""
    if found == path and path.suffix != ".db":
        return {
            *SEALED,
            "waiting",
            *(place + slot for slot in SLOTS for place in ("active", "journal")),
        }
    if found.name == "lock":
        return set()
    if found.name.startswith("telemetry.db") and "journal" not in found.name:
        return {f"active{slot}" for slot in SLOTS}
    if found.suffix in (".seg", ".open"):
        return {f"journal{slot}" if found.suffix == ".seg" else f"open{slot}"}
    if "journal" in found.name:
        return {f"journal{slot}", f"open{slot}"}
    if found.name == "sealed":
        return {*SEALED, "waiting"}
    if found.parent.name == "sealed":
        by_suffix = {".zst": "zstd", ".gz": "gzip"}
        is_waiting = found.name.count("-") == 1
        return {"waiting" if is_waiting else by_suffix.get(found.suffix, "none")}
    return {f"active{slot}"}


def _record(path: Path) -> None:
    Sealer.wake = lambda self: None  # type: ignore[method-assign]
    is_database = path.suffix == ".db"
    for compression in () if is_database else (*SEALED, "waiting"):
        options = {} if compression == "waiting" else {"compression": compression}
        storage = FileStorage(path, **options)
        process = Journaled(path, storage=storage)
        process.recover()
        _collect(process, compression)
        process.drain()
        process.target.rotate()
        if compression in SEALED:
            storage._sealer.run()
        process.close()
    processes = []
    for slot in SLOTS:
        kept = SQLiteStorage(path) if is_database else FileStorage(path)
        process = Journaled(path, open_spans=True, storage=kept)
        process.recover()
        processes.append(process)
        _collect(process, f"active{slot}")
        process.drain()
        _collect(process, f"journal{slot}")
        _tracer(process).start_span(f"open{slot}")
    os._exit(0)


def _collect(process: Journaled, place: str) -> None:
    process.collect(place)
    with _tracer(process).start_as_current_span(place):
        pass
    process.collector.collect_metric("place", len(place), tags={"place": place})


def _tracer(process):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(process.collector)
    return provider.get_tracer("tests")


def _make_socket(path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path has a short limit
    try:
        listener.bind(path.name)
    finally:
        os.chdir(here)
        listener.close()


def _make_unreadable(path: Path) -> None:
    path.write_bytes(b"secret")
    path.chmod(0)


def _make_unreadable_directory(path: Path) -> None:
    path.mkdir()
    path.chmod(0)


Make = Callable[[Path], object]

_ANYWHERE: dict[str, Make] = {
    "pipe": os.mkfifo,
    "socket": _make_socket,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "links in a circle": lambda path: path.symlink_to(path.name),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "0xFF": lambda path: path.write_bytes(b"\xff" * 200_000),
}

FILE_ODDITIES: dict[str, Make] = {
    **_ANYWHERE,
    "directory": lambda path: path.mkdir(),
    "unreadable": _make_unreadable,
}
"""What can be in the place of a file. ``unreadable`` can be read by root."""

DIRECTORY_ODDITIES: dict[str, Make] = {
    **_ANYWHERE,
    "file": lambda path: path.write_bytes(b"a file\n"),
    "unreadable": _make_unreadable_directory,
}
"""What can be in the place of a directory."""


def obey_modes() -> bool:
    """Give up root's right to read every file, for good, in this process; return False if that failed."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return True
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # Linux's version 3, of this process
        nothing = (ctypes.c_uint32 * 6)()
        return bool(libc.capset(header, nothing) == 0)
    except (OSError, AttributeError):
        return False


def replace(path: Path, make: Make) -> None:
    """Remove what is at a path, and make something else there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    make(path)
