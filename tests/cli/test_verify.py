"""``rimp verify``: what is damaged, and what that costs."""

from __future__ import annotations

import json
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.cli import verify
from rimp_otel.models.records import Signal
from rimp_otel.otlp import protobuf
from rimp_otel.render.terminal import Style
from rimp_otel.storage.files.verify import Problem
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, without_our_colour
from tests.storage.journaled import Journaled


def damage(path: Path) -> None:
    """Makes the one line of a file unreadable."""
    path.write_bytes(b"?" + path.read_bytes()[1:])


def test_whole(rimp: Any, shop: Path) -> None:
    """Exit code 0, and what was looked at."""
    code, out, err = rimp("verify")
    assert (code, err) == (0, "")
    assert re.sub(r"\([\d.]+ kB\)", "(N kB)", out) == (
        "telemetry\n"
        "checked      3 lines with 12 records in 3 files (N kB)\n"
        "journals     1 journal, empty\n"
        "damaged      nothing\n"
    )


def test_damaged(rimp: Any, shop: Path) -> None:
    """Exit code 1, and a line that says where, what, at what cost, and what can be done."""
    lines = (shop / "traces.jsonl").read_bytes()
    (shop / "traces.jsonl").write_bytes(lines + b"?" + lines[1:])
    code, out, err = rimp("verify")
    assert (code, err) == (1, "")
    first, *_, last = out.splitlines()
    assert re.sub(r"[\d.]+ kB", "N kB", first) == (
        "telemetry/traces.jsonl:2: JSON is malformed: invalid character (byte 0); "
        "costs N kB of text, about 7 spans; 'rimp repair' moves it to damaged/"
    )
    assert last == "damaged      1 place, about 7 records"


def test_journals(rimp: Any, shop: Path) -> None:
    """Whose they are, and what waits in them."""
    living, dead = Journaled(shop), Journaled(shop)
    for process in (living, dead):
        process.collect("a", "b")
    dead.die()
    out = rimp("verify").out
    living.close()
    owned = f"1 in use by process {os.getpid()}"
    assert f"journals     2 journals: {owned}, 1 left by a process that died\n" in out
    assert re.search(r"^waiting      4 records \([\d.]+ k?B\) in journals, ", out, re.MULTILINE)


def test_json(rimp: Any, shop: Path) -> None:
    """The documented shape."""
    process = Journaled(shop)
    process.collect("a")
    process.die()
    damage(shop / "logs.jsonl")
    (shop / "notes.txt").touch()
    code, out, _ = rimp("verify", "--json")
    found = json.loads(out)
    size = (shop / "logs.jsonl").stat().st_size
    (journal,) = found.pop("journals")
    assert journal.pop("bytes") > journal.pop("waiting_bytes") > 0
    assert journal.pop("pid") > 0
    assert journal == {
        "path": "telemetry/journal",
        "slot": 0,
        "owned": False,
        "records": {"traces": 0, "logs": 1, "metrics": 0},
        "interrupted_spans": 0,
    }
    assert found.pop("bytes") == sum(file.stat().st_size for file in shop.glob("*.jsonl"))
    assert code == 1
    assert found == {
        "path": "telemetry",
        "whole": False,
        "files": 3,
        "lines": 2,
        "records": {"traces": 7, "logs": 0, "metrics": 2},
        "interrupted_spans": 0,
        "kept": [],
        "damaged": [
            {
                "path": "telemetry/logs.jsonl",
                "line": 1,
                "offset": None,
                "reason": "JSON is malformed: invalid character (byte 0)",
                "lost_bytes": size,
                "lost_records": None,
                "repair": "moves it to damaged/",
            }
        ],
        "remarks": [
            {
                "path": "telemetry/notes.txt",
                "line": None,
                "offset": None,
                "reason": "it is not the recording's, and stays",
                "lost_bytes": 0,
                "lost_records": None,
                "repair": "",
            }
        ],
    }


def test_protobuf(rimp: Any, shop: Path) -> None:
    """Its parser reads every line too."""
    pytest.importorskip("google.protobuf")
    assert rimp("verify", "--protobuf").code == 0


def test_missing_extra(rimp: Any, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is said before anything is read."""

    def none(name: str) -> Any:
        if name.startswith(("google", "opentelemetry.proto")):
            raise ImportError
        return import_module(name)

    monkeypatch.setattr(protobuf.importlib, "import_module", none)
    assert rimp("verify", "--protobuf") == (
        1,
        "",
        "rimp: protobuf is not installed. Install it with: pip install 'rimp-otel[protobuf]'\n",
    )


def test_progress(rimp: Any, shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """On a terminal, standard error says which file is read; and is clean in the end."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    err = rimp("verify").err
    assert "\r\x1b[Krimp: checking traces.jsonl ..." in err
    assert err.endswith("\r\x1b[K")


@pytest.mark.parametrize("color", [False, True])
def test_hostile_names(color: bool) -> None:
    """Paths and reasons come out escaped."""
    problem = Problem(
        Path(HOSTILE.replace("\x00", "")), HOSTILE, HOSTILE, 1, None, 5, 6, Signal.LOGS
    )
    text = without_our_colour(verify.format_problem(problem, Style(color)))
    assert text.isprintable()
    assert text.count(HOSTILE_SHOWN) == 2
    assert "costs 5 B of text, about 6 log records" in text
