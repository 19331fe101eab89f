"""``rimp verify`` and ``rimp repair``: problems, losses and repairs."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from rimp_otel.batch import TelemetryData
from rimp_otel.cli import verify
from rimp_otel.models.records import Signal, TelemetryEvent
from rimp_otel.render.terminal import Style
from rimp_otel.storage.files.repair import Action, ActionCode
from rimp_otel.storage.files.storage import FileStorage
from rimp_otel.storage.files.verify import Problem, ProblemCode
from tests.cli.records import HOSTILE, HOSTILE_SHOWN, without_our_colour
from tests.processes import run
from tests.storage.journaled import Journaled


def damage(path: Path) -> None:
    """Damage the only line of a file."""
    path.write_bytes(b"?" + path.read_bytes()[1:])


def test_whole(rimp: Any, shop: Path) -> None:
    """A whole recording has exit code 0 and a summary."""
    code, out, err = rimp("verify")
    assert (code, err) == (0, "")
    assert re.sub(r"\([\d.]+ kB\)", "(N kB)", out) == (
        "telemetry\n"
        "checked      3 lines with 12 records in 3 files (N kB)\n"
        "journals     1 journal, empty\n"
        "damaged      nothing\n"
    )


def test_damaged(rimp: Any, shop: Path) -> None:
    """Damage has exit code 1 and a line with place, reason, loss and repair."""
    lines = (shop / "traces.jsonl").read_bytes()
    (shop / "traces.jsonl").write_bytes(lines + b"?" + lines[1:])
    code, out, err = rimp("verify")
    assert (code, err) == (1, "")
    first, *_, last = out.splitlines()
    assert re.sub(r"[\d.]+ kB", "N kB", first) == (
        "telemetry/traces.jsonl:2: JSON is malformed: invalid character (byte 0); "
        "lost: N kB of text, about 7 spans; repair: move the line to damaged/"
    )
    assert last == "damaged      1 place, about 7 records"


def test_journals(rimp: Any, shop: Path) -> None:
    """Journals are listed with their owners and waiting records."""
    living, dead = Journaled(shop), Journaled(shop)
    for process in (living, dead):
        process.collect("a", "b")
    dead.die()
    out = rimp("verify").out
    living.close()
    owned = f"1 in use by process {os.getpid()}"
    assert f"journals     2 journals: {owned}, 1 left by a dead process\n" in out
    assert re.search(r"^waiting      4 records \([\d.]+ k?B\) in journals, ", out, re.MULTILINE)


def test_json(rimp: Any, shop: Path) -> None:
    """JSON has the documented fields."""
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
        "in_memory": 0,
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
                "repair": "move the line to damaged/",
            }
        ],
        "remarks": [
            {
                "path": "telemetry/notes.txt",
                "line": None,
                "offset": None,
                "reason": "unrelated file, left in place",
                "lost_bytes": 0,
                "lost_records": None,
                "repair": "",
            }
        ],
    }


def test_protobuf(rimp: Any, shop: Path) -> None:
    """Every line is parsed with protobuf, too."""
    pytest.importorskip("google.protobuf")
    assert rimp("verify", "--protobuf").code == 0


@pytest.mark.usefixtures("no_protobuf")
def test_missing_extra(rimp: Any, shop: Path) -> None:
    """A missing extra is reported before anything is read."""
    assert rimp("verify", "--protobuf") == (
        1,
        "",
        "rimp: protobuf is not installed. Install it with: pip install 'rimp-otel[protobuf]'\n",
    )


def test_progress(rimp: Any, shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """On a terminal, standard error shows which file is read, and is cleared in the end."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    err = rimp("verify").err
    assert "\r\x1b[Krimp: checking traces.jsonl ..." in err
    assert err.endswith("\r\x1b[K")


@pytest.mark.parametrize("color", [False, True])
def test_hostile_names(color: bool) -> None:
    """Paths and reasons are escaped."""
    path = Path(HOSTILE.replace("\x00", ""))
    problem = Problem(ProblemCode.BAD_LINE, path, HOSTILE, 1, None, 5, 6, Signal.LOGS)
    text = without_our_colour(verify.format_problem(problem, Style(color)))
    assert text.isprintable()
    assert text.count(HOSTILE_SHOWN) == 1
    assert "lost: 5 B of text, about 6 log records" in text


@pytest.mark.parametrize("code", ProblemCode)
def test_problems_in_words(code: ProblemCode) -> None:
    """Each problem has a text with its detail."""
    sentence = verify.describe_problem(Problem(code, Path("f"), "<detail>"))
    assert sentence
    assert ("<detail>" in sentence) is (code in WITH_DETAIL)


WITH_DETAIL = {
    ProblemCode.BAD_LINE,
    ProblemCode.BAD_BLOCK,
    ProblemCode.BAD_JOURNAL,
    ProblemCode.UNREADABLE,
    ProblemCode.WRONG_ID,
    ProblemCode.DUPLICATE,
    ProblemCode.EXPOSED_FILE,
    ProblemCode.EXPOSED_DIRECTORY,
}


@pytest.mark.parametrize("code", ProblemCode)
def test_repairs_in_words(code: ProblemCode) -> None:
    """All damage can be repaired; in files of a living process, once it has ended."""
    problem = Problem(code, Path("f"))
    text = verify.describe_repair(problem)
    assert text or not problem.is_damage
    later = f"{text}, once the process that writes it has ended" if text else ""
    assert verify.describe_repair(problem._replace(is_in_use=True)) == later


@pytest.mark.parametrize("code", ActionCode)
def test_actions_in_words(code: ActionCode) -> None:
    """Each action has a documented kind, and a text with its details."""
    action = Action(code, Path("f"), 2, Path("<target>"), "<detail>")
    kind, sentence = verify.describe_action(action)
    assert kind in KINDS
    assert (kind == "failed") is code.value.startswith(("failed", "not_all"))
    assert ("<detail>" in sentence) is (kind in ("failed", "set_aside"))
    assert ("2 " in sentence) is (kind in ("recovered", "lost", "moved", "sealed"))
    assert ("<target>" in sentence) is (kind in ("moved", "renamed", "set_aside"))


KINDS = {
    "set_aside",
    "recovered",
    "moved",
    "renamed",
    "ended",
    "removed",
    "sealed",
    "indexed",
    "lost",
    "left",
    "failed",
}


@pytest.fixture
def broken(shop: Path) -> Path:
    """Make a recording with a damaged line and two records of a dead process."""
    process = Journaled(shop)
    process.collect("a", "b")
    process.die()
    file = shop / "traces.jsonl"
    file.write_bytes(file.read_bytes() + b"nonsense\n")
    return shop


def test_for_people(rimp: Any, broken: Path) -> None:
    """Repairs are listed, followed by the summary."""
    code, out, err = rimp("repair")
    assert (code, err) == (0, "")
    for pattern, name in ((r"\d{8}T\d{6}\.\d{9}Z", "TIME"), (r"\([\d.]+ kB\)", "(N kB)")):
        out = re.sub(pattern, name, out)
    assert out == (
        "telemetry/journal: stored 2 records left by a dead process\n"
        "telemetry/traces.jsonl: moved 1 damaged line to telemetry/damaged/traces-TIME.jsonl\n"
        "telemetry\n"
        "checked      4 lines with 14 records in 3 files (N kB)\n"
        "journals     1 journal, empty\n"
        "kept         1 file (9 B) of earlier repairs in telemetry/damaged\n"
        "damaged      nothing\n"
    )
    assert rimp("repair").out.splitlines()[0] == "telemetry"
    assert rimp("verify").code == 0


def test_dry_run(rimp: Any, broken: Path) -> None:
    """--dry-run lists the repairs, and changes nothing."""
    before = sorted((path, path.stat().st_mtime_ns) for path in broken.rglob("*"))
    code, out, err = rimp("repair", "--dry-run")
    assert (code, err) == (1, "")
    first, second = out.splitlines()
    assert first.startswith("telemetry/journal: store 2 records left by a dead process, and ")
    assert second == (
        "telemetry/traces.jsonl:2: JSON is malformed: invalid character (byte 4); "
        "repair: move the line to damaged/"
    )
    assert sorted((path, path.stat().st_mtime_ns) for path in broken.rglob("*")) == before
    rimp("repair")
    assert rimp("repair", "--dry-run") == (0, "nothing to repair\n", "")


def test_repair_json(rimp: Any, broken: Path) -> None:
    """JSON has the documented fields."""
    plan = json.loads(rimp("repair", "--dry-run", "--json").out)
    assert [step["path"] for step in plan["would_do"]] == [
        "telemetry/journal",
        "telemetry/traces.jsonl:2",
    ]
    assert plan["whole"] is False
    code, out, _ = rimp("repair", "--json")
    found = json.loads(out)
    assert code == 0
    assert [(step["path"], step["kind"], step["number"]) for step in found["done"]] == [
        ("telemetry/journal", "recovered", 2),
        ("telemetry/traces.jsonl", "moved", 1),
    ]
    assert found["whole"] is True
    assert found["records"] == {"traces": 7, "logs": 5, "metrics": 2}


def test_living_process(rimp: Any, broken: Path) -> None:
    """Files of a living process are left alone, and their damage is reported."""
    process = Journaled(broken)
    process.recover()
    code, out, _ = rimp("repair")
    assert code == 1
    assert out.splitlines()[0] == ("telemetry/journal: left alone: in use by a living process")
    assert ", once the process that writes it has ended" in out
    process.die()
    assert rimp("repair").code == 0


VICTIM = """
import os, signal, sys
from opentelemetry import trace
from rimp_otel import TelemetryConfig, install
telemetry = install(TelemetryConfig(storage_backend="file", storage_path=sys.argv[1]))
tracer = trace.get_tracer("t")
with tracer.start_as_current_span("outer"):
    with tracer.start_as_current_span("finished"):
        telemetry.collector.collect_event("app", "said")
    with tracer.start_as_current_span("inner"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill(rimp: Any, tmp_path: Path) -> None:
    """The open spans of a killed process are stored once, as interrupted."""
    run(VICTIM, tmp_path / "telemetry", code=-9)
    before = rimp("verify").out
    assert "interrupted  2 spans open when their process died" in before
    assert "stored 4 records left by a dead process" in rimp("repair").out
    records = [json.loads(line) for line in rimp("tail", "-n", "all", "--json").out.splitlines()]
    spans = {record["name"]: record for record in records if record["signal"] == "traces"}
    assert sorted(spans) == ["finished", "inner", "outer"]
    assert [
        name for name in sorted(spans) if spans[name]["attributes"].get("rimp.interrupted")
    ] == [
        "inner",
        "outer",
    ]
    assert spans["inner"]["parent_span_id"] == spans["outer"]["span_id"]
    assert spans["inner"]["status_message"] == "process terminated"
    assert [record["message"] for record in records if record["signal"] == "logs"] == ["said"]
    assert rimp("verify").code == 0


def test_nothing_there(rimp: Any) -> None:
    """A missing recording is a usage error."""
    for command in ("verify", "repair"):
        code, out, err = rimp(command)
        assert (code, out) == (2, "")
        assert err.startswith("rimp: no recording at telemetry: ")


def test_what_forwarders_remember_is_not_foreign(rimp, tmp_path):
    """In a directory, and in a family of files."""
    for path in (tmp_path / "telemetry", tmp_path / "t" / "family.jsonl"):
        with FileStorage(path) as storage:
            storage.store(TelemetryData([TelemetryEvent("source", "a")]))
        rimp("forward", "--once", "--path", str(path), f"file://{tmp_path}/backup-{path.stem}")
        result = rimp("verify", "--path", str(path))
        assert (result.code, "foreign" in result.out, "/forward" in result.out) == (0, False, False)
