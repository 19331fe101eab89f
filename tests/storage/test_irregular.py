"""What is no file, or cannot be read, costs itself: it is named, and the rest is answered."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from rimp_otel import FileStorage, SQLiteStorage, open_recording
from rimp_otel.cli.main import main
from rimp_otel.storage.base import Selection
from tests.crash.running import call_in_child
from tests.oddities import (
    COMMANDS,
    DIRECTORY_ODDITIES,
    FILE_ODDITIES,
    Recorded,
    make_recording,
    obey_modes,
    replace,
)

pytestmark = pytest.mark.one_python

_PLACES = {
    "telemetry": [
        "telemetry/logs.jsonl",
        "telemetry/traces.1.jsonl",
        "telemetry/journal",
        "telemetry/journal.1",
        "telemetry/journal/lock",
        "telemetry/journal/000002.seg",
        "telemetry/journal.1/000001.open",
        "telemetry/sealed",
        "zstd",
        "gzip",
        "none",
        "waiting",
    ],
    "telemetry.db": [
        "telemetry.db.journal",
        "telemetry.db.journal.1",
        "telemetry.db.journal/000002.seg",
        "telemetry.db.journal.1/000001.open",
    ],
}


class Case(NamedTuple):
    """A recording with something odd in one place."""

    path: Path
    place: Path
    #: What is lost with the place.
    lost: set[str]
    #: All that was recorded.
    recorded: set[str]
    oddity: str


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recorded]:
    """Return the two recordings, by their names."""
    made = {}
    for name in _PLACES:
        made[name] = make_recording(tmp_path_factory.mktemp("recorded") / name)
    # So that what they import is there in the children.
    copy = shutil.copytree(made["telemetry"].path, tmp_path_factory.mktemp("loaded") / "telemetry")
    for command in COMMANDS:
        arguments = [part.format(trace="f" * 32, out=copy.parent / "out") for part in command]
        assert main([*arguments, "--path", str(copy)]) in (0, 1)
    return made


def _parameters() -> list[tuple[str, str, str]]:
    found = []
    for name, places in _PLACES.items():
        for place in places:
            is_directory = place.endswith(("journal", "journal.1", "sealed"))
            for oddity in DIRECTORY_ODDITIES if is_directory else FILE_ODDITIES:
                # A lock file that nobody signed says nothing, and holds nothing.
                if (place, oddity) != ("telemetry/journal/lock", "0xFF"):
                    found.append((name, place, oddity))
    return found


@pytest.fixture(params=_parameters(), ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest, recordings: dict[str, Recorded], tmp_path: Path) -> Case:
    """Return a recording with something odd in one place."""
    name, place, oddity = request.param
    recorded = recordings[name]
    if place in ("zstd", "gzip", "none", "waiting"):
        (place,) = [
            found
            for found, lost in recorded.lost.items()
            if lost == {place} and "/logs-" in found and found.endswith((".jsonl", ".zst", ".gz"))
        ]
    # A repair changes files.
    copy_file = shutil.copy2 if request.function is test_repair else os.link
    shutil.copytree(recorded.path.parent, tmp_path / "copy", copy_function=copy_file)
    made = DIRECTORY_ODDITIES.get(oddity) or FILE_ODDITIES[oddity]
    if (tmp_path / "copy" / place).is_file():
        made = FILE_ODDITIES[oddity]
    replace(tmp_path / "copy" / place, made)
    return Case(
        tmp_path / "copy" / name,
        tmp_path / "copy" / place,
        recorded.lost[place],
        recorded.places,
        oddity,
    )


def _messages(batches) -> list[str]:
    return [event.message for data in batches for event in data.events]


def _look(case: Case, capsys: pytest.CaptureFixture[str], commands: list[list[str]]) -> None:
    """Read a recording in every way, and by commands."""
    assert obey_modes()
    is_database = case.path.suffix == ".db"
    storage = SQLiteStorage(case.path) if is_database else FileStorage(case.path)
    is_logs = "traces" not in case.place.name
    expected = {
        place for place in case.recorded - (case.lost if is_logs else set()) if "open" not in place
    }
    recording = open_recording(case.path)
    ways = {
        "retrieve": lambda: [storage.retrieve()],
        "iter_retrieve": storage.iter_retrieve,
        "of a signal": lambda: [storage.retrieve(signals=["logs"])],
        "batches": recording.batches,
        "limited": lambda: [recording.retrieve(Selection(limit=1_000))],
        "poll": lambda: recording.poll(final=True),
    }
    for name, look in ways.items():
        found = _messages(look())
        assert sorted(found) == sorted(expected), name
        damaged = recording.damaged if name in ("batches", "limited", "poll") else storage.damaged
        is_named = any(damage.path == case.place for damage in damaged)
        assert is_named or (name == "of a signal" and not is_logs), (name, damaged)
    reported = len(recording.damaged)
    assert _messages(recording.poll(final=True)) == []
    assert len(recording.damaged) == reported, "named twice"
    open_recording(case.path).skip()
    _run_commands(case, capsys, commands)


def _run_commands(
    case: Case, capsys: pytest.CaptureFixture[str], commands: list[list[str]]
) -> None:
    for command in commands:
        arguments = [
            argument.format(trace="f" * 32, out=case.path.parent / "out") for argument in command
        ]
        code = main([*arguments, "--path", str(case.path)])
        printed = "".join(capsys.readouterr())
        allowed = {"trace": (1,), "parquet": (0, 1), "verify": (1,), "repair": (1,)}
        assert code in allowed.get(command[0], (0,)), (command, code, printed)
        assert "Traceback" not in printed
        reads_it = ["logs", "traces"]["traces" in case.place.name]
        if command[0] in ("stats", "verify", "tail", reads_it):
            is_line = "skipped 1 damaged line" in printed
            assert case.place.name in printed or is_line, (command, printed)


def test_the_rest_is_answered(case: Case, capsys: pytest.CaptureFixture[str], request) -> None:
    """Every way to read returns all the rest, and names the place once; so do the commands.

    Each place meets a part of the commands with each oddity, and all of them with all oddities.
    """
    is_database = case.path.suffix == ".db"
    number = _parameters().index(request.node.callspec.params["case"])
    commands = [
        command
        for at, command in enumerate(COMMANDS)
        if (command[0] in ("stats", "verify") or at % 6 == number % 6)
        and not (is_database and command[0] in ("verify", "repair", "parquet"))
    ]
    call_in_child(_look, case, capsys, commands)


def _repair(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert obey_modes()
    is_unreadable = case.oddity == "unreadable"
    code = main(["repair", "--path", str(case.path)])
    printed = "".join(capsys.readouterr())
    assert code == int(is_unreadable), printed
    if is_unreadable:
        assert "cannot be read: Permission denied; make it readable, and run this again" in printed
        return
    assert main(["verify", "--path", str(case.path)]) == 0, capsys.readouterr()
    found = _messages([FileStorage(case.path).retrieve()])
    assert set(case.recorded - case.lost) <= {*found, "open", "open.1"}
    assert len(set(found)) == len(found)


def test_repair(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    """A repair moves it to damaged/, and leaves what only has to be made readable."""
    if case.path.suffix == ".db":
        pytest.skip("a database is not repaired")
    call_in_child(_repair, case, capsys)
