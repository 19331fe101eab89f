"""``rimp verify``: whether a recording is whole, and if not, what that costs."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.options import (
    UsageError,
    add_color_option,
    add_json_option,
    add_path_option,
    path_from_args,
    style_from_args,
)
from rimp_otel.cli.output import Progress, open_recording_at
from rimp_otel.models.records import Signal
from rimp_otel.render.format import format_bytes, format_count
from rimp_otel.render.terminal import Style, pad_text, to_json

if TYPE_CHECKING:
    from rimp_otel.storage.files.repair import Action
    from rimp_otel.storage.files.verify import Inspection, Problem
    from rimp_otel.storage.slots import SlotState

__all__ = [
    "add_repair_parser",
    "add_verify_parser",
    "describe_action",
    "describe_problem",
    "describe_repair",
    "format_problem",
    "format_summary",
    "inspect",
    "journals_text",
    "slot_json",
    "verdict_json",
]


# --- ``rimp verify``: whether a recording is whole, and if not, what that costs.

_NOUNS = {Signal.TRACES: "span", Signal.LOGS: "log record", Signal.METRICS: "data point"}


def add_verify_parser(subparsers: Any) -> None:
    """Add ``rimp verify`` to the commands."""
    parser = subparsers.add_parser(
        "verify",
        help="check every line of a recording",
        description="Check every line, journal and file name of a recording without changing "
        "anything. The exit code is 1 if anything is damaged.",
    )
    parser.add_argument(
        "--protobuf",
        action="store_true",
        help="also parse every line with protobuf (needs the extra 'protobuf')",
    )
    add_path_option(parser)
    add_json_option(parser, "what was found")
    add_color_option(parser)
    parser.set_defaults(command=_run_verify)


def _run_verify(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    style = style_from_args(args)
    found = []
    with Progress("checking") as progress:
        inspection = inspect(path, progress, args.protobuf)
        for problem in inspection.problems():
            found.append(problem)
            if not args.json:
                progress.clear()
                print(format_problem(problem, style), flush=True)
    damaged = [problem for problem in found if problem.is_damage]
    if args.json:
        print(to_json(verdict_json(path, inspection, found)))
    else:
        print(style.paint(style.clean(path), "bold"))
        print("\n".join(format_summary(inspection, damaged, style)))
    return 1 if damaged else 0


def inspect(path: Path, progress: Progress, protobuf: bool = False) -> Inspection:
    """Return an inspection of the recording at ``path``.

    Args:
        path: of the recording.
        progress: shows which file is being checked.
        protobuf: whether to parse lines with protobuf, too.

    Raises:
        UsageError: there is nothing, or a database.
        MissingExtraError: protobuf is to be used, and is not installed.
    """
    # Reading needs the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.storage.files.layout import Layout
    from rimp_otel.storage.files.verify import Inspection, parse, parse_strictly

    open_recording_at(path)
    if path.is_file():
        raise UsageError(
            f"{path} is a database, which 'rimp verify' and 'rimp repair' leave to SQLite: "
            f"sqlite3 {path} 'pragma integrity_check'"
        )
    if protobuf:
        parse_strictly(b'{"resourceSpans":[]}')  # now, not after all that can be said without it

    def show_file(path: Path) -> None:
        progress.show(f"checking {path.name}")

    return Inspection(Layout(path), parse_strictly if protobuf else parse, show_file)


def format_problem(problem: Problem, style: Style) -> str:
    """One line: where it is, what it is, what it costs, and what ``rimp repair`` does about it."""
    parts = [style.clean(f"{problem.place}: {describe_problem(problem)}")]
    if cost := _cost(problem):
        parts.append(f"costs {cost}")
    if plan := describe_repair(problem):
        parts.append(style.clean(f"'rimp repair' {plan}"))
    head, *rest = parts
    look = "red" if problem.is_damage else "yellow"
    return "; ".join([style.paint(head, look), *rest])


# By the codes of ``rimp_otel.storage.files.verify.Problem``, which is not loaded here yet.
_REASONS = {
    "bad_line": "{}",
    "bad_block": "{}",
    "unended_line": "the last line does not end",
    "bad_journal": "{}",
    "quarantined": "it was damaged, and put aside",
    "wrong_id": "its name should say {}",
    "wrong_times": "it holds records of times that are not within those in its name",
    "duplicate": "it holds the same as {}: sealing it did not end",
    "index_missing": "it is missing",
    "index_damaged": "it is damaged, or of another file",
    "index_wrong": "it does not say what its file holds",
    "stale": "stale temporary file",
    "orphan": "derived from a file that is gone",
    "foreign": "unrelated file, left in place",
    "link": "it is a link, through which nothing is recorded",
    "other_owner": "it belongs to another user",
    "exposed_file": "others may use it (mode {}); 'chmod 600' makes it private",
    "exposed_directory": "others may use it (mode {}); 'chmod 700' makes it private",
}
_REPAIRS = {
    "bad_line": "moves it to damaged/",
    "bad_block": "moves the file to damaged/, and what can be read of it into a new one",
    "unended_line": "ends it",
    "bad_journal": "stores what can be read of it, and moves the rest to damaged/",
    "quarantined": "stores what is in it alone, and moves it to damaged/",
    "wrong_id": "renames it",
    "wrong_times": "renames it",
    "duplicate": "seals it again",
    "index_missing": "makes it",
    "index_damaged": "makes it",
    "index_wrong": "makes it",
    "stale": "removes it",
    "orphan": "removes it",
}


def describe_problem(problem: Problem) -> str:
    """Return what is wrong, in words."""
    return _REASONS[problem.code.value].format(problem.detail)


def describe_repair(problem: Problem) -> str:
    """Return what ``rimp repair`` does about a problem, in words; empty for nothing."""
    plan = _REPAIRS.get(problem.code.value, "")
    if plan and problem.is_in_use:
        return f"{plan}, once the process that writes it has ended"
    return plan


def _cost(problem: Problem) -> str:
    records = ""
    if problem.lost_records is not None:
        records = format_count(
            problem.lost_records, _NOUNS.get(problem.signal or Signal.LOGS, "record")
        )
    if not problem.lost_bytes:
        return records
    what = f"{format_bytes(problem.lost_bytes)} of text"
    return f"{what}, about {records}" if records else what


def format_summary(inspection: Inspection, damaged: list[Problem], style: Style) -> list[str]:
    """What was looked at, and the verdict."""
    rows = [
        ("checked", _checked(inspection)),
        ("journals", journals_text(inspection.slots)),
        ("waiting", _waiting(inspection.slots)),
        ("interrupted", _interrupted(inspection)),
        ("kept", _kept(inspection.kept, style)),
        ("damaged", style.paint(_places(damaged), "red") if damaged else "nothing"),
    ]
    return [style.paint(pad_text(name, 13), "dim") + text for name, text in rows if text]


def _checked(inspection: Inspection) -> str:
    tally = inspection.tally
    records = format_count(sum(tally.records.values()), "record")
    files = format_count(tally.files, "file")
    return f"{format_count(tally.lines, 'line')} with {records} in {files} ({format_bytes(tally.bytes)})"


def journals_text(slots: list[SlotState]) -> str:
    """How many journals there are, and whose."""
    owned = [slot for slot in slots if slot.is_owned]
    left = sum(slot.is_left for slot in slots)
    texts = []
    if owned:
        pids = ", ".join(str(slot.signature.get("pid", "?")) for slot in owned)
        word = "process" if len(owned) == 1 else "processes"
        texts.append(f"{len(owned):,} in use by {word} {Style().clean(pids)}")
    if left:
        texts.append(f"{left:,} left by {'a process' if left == 1 else 'processes'} that died")
    return f"{format_count(len(slots), 'journal')}" + (
        f": {', '.join(texts)}" if texts else ", empty"
    )


def _waiting(slots: list[SlotState]) -> str:
    waiting = sum(sum(slot.records.values()) for slot in slots)
    if not waiting:
        return ""
    size = format_bytes(sum(slot.waiting for slot in slots))
    return f"{format_count(waiting, 'record')} ({size}) in journals, until their process, or the next, stores them"


def _interrupted(inspection: Inspection) -> str:
    number = _interrupted_spans(inspection)
    return f"{format_count(number, 'span')} ended with their process" if number else ""


def _interrupted_spans(inspection: Inspection) -> int:
    return inspection.tally.interrupted + sum(slot.interrupted for slot in inspection.slots)


def _kept(kept: list[Path], style: Style) -> str:
    if not kept:
        return ""
    size = sum(path.stat().st_size for path in kept)
    where = style.clean(kept[0].parent)
    return (
        f"{format_count(len(kept), 'file')} ({format_bytes(size)}) of an earlier repair in {where}"
    )


def _places(damaged: list[Problem]) -> str:
    lost = sum(problem.lost_records or 0 for problem in damaged)
    about = f", about {format_count(lost, 'record')}" if lost else ""
    return format_count(len(damaged), "place") + about


def verdict_json(path: Path, inspection: Inspection, found: list[Problem]) -> dict[str, Any]:
    """What was found, as ``rimp verify --json`` prints it."""
    tally = inspection.tally
    return {
        "path": str(path),
        "whole": not any(problem.is_damage for problem in found),
        "files": tally.files,
        "bytes": tally.bytes,
        "lines": tally.lines,
        "records": {signal.value: tally.records[signal] for signal in Signal},
        "interrupted_spans": _interrupted_spans(inspection),
        "journals": [slot_json(slot) for slot in inspection.slots],
        "kept": [str(kept) for kept in inspection.kept],
        "damaged": [_problem_json(problem) for problem in found if problem.is_damage],
        "remarks": [_problem_json(problem) for problem in found if not problem.is_damage],
    }


def slot_json(slot: SlotState) -> dict[str, Any]:
    """A writer slot's journal as JSON."""
    return {
        "path": str(slot.journal),
        "slot": slot.number,
        "owned": slot.is_owned,
        "pid": slot.signature.get("pid"),
        "bytes": slot.size,
        "waiting_bytes": slot.waiting,
        "records": {signal.value: slot.records[signal] for signal in Signal},
        "interrupted_spans": slot.interrupted,
    }


def _problem_json(problem: Problem) -> dict[str, Any]:
    return {
        "path": str(problem.path),
        "line": problem.line,
        "offset": problem.offset,
        "reason": describe_problem(problem),
        "lost_bytes": problem.lost_bytes,
        "lost_records": problem.lost_records,
        "repair": describe_repair(problem),
    }


# --- ``rimp repair``: mends a recording, and keeps what cannot be mended.

_DESCRIPTION = """\
Repair a recording, and keep what cannot be repaired.

The command stores records that dead processes left in their journals, seals rotated files, and
moves what cannot be read to damaged/ in the recording. Files of living processes are left alone.
It can be interrupted and run again at any time.
"""


def add_repair_parser(subparsers: Any) -> None:
    """Add ``rimp repair`` to the commands."""
    parser = subparsers.add_parser(
        "repair",
        help="repair a recording",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="report what would be repaired, but change nothing"
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="take over journals last written by another machine (make sure it has stopped)",
    )
    add_path_option(parser)
    add_json_option(parser, "what was done")
    add_color_option(parser)
    parser.set_defaults(command=_run_repair)


def _run_repair(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    return _foresee(path, args) if args.dry_run else _repair(path, args)


def _foresee(path: Path, args: argparse.Namespace) -> int:
    style = style_from_args(args)
    with Progress("checking") as progress:
        inspection = inspect(path, progress)
        found = list(inspection.problems())
    plans = list(_plans(found, inspection))
    if args.json:
        plan = [{"path": str(where), "text": text} for where, text in plans]
        print(to_json({"would_do": plan, **verdict_json(path, inspection, found)}))
    for where, text in [] if args.json else plans:
        print(style.clean(f"{where}: {text}"))
    if not plans and not args.json:
        print("there is nothing to do")
    return 1 if any(problem.is_damage for problem in found) else 0


def _plans(found: list[Problem], inspection: Inspection) -> Iterator[tuple[str, str]]:
    for slot in inspection.slots:
        if text := _plan_for(slot):
            yield str(slot.journal), text
    for problem in found:
        if plan := describe_repair(problem):
            yield problem.place, f"{describe_problem(problem)}; {plan}"
    waiting = inspection.waiting
    if waiting:
        yield str(waiting[0].parent), f"seals {format_count(len(waiting), 'file')}"


def _plan_for(slot: SlotState) -> str:
    if slot.is_owned:
        return "left alone: a living process records into it"
    if not slot.is_left:
        return ""
    records = format_count(sum(slot.records.values()), "record")
    return f"stores {records} that a process left in it, and removes {format_bytes(slot.size)}"


def _repair(path: Path, args: argparse.Namespace) -> int:
    style = style_from_args(args)
    inspect(path, Progress("checking"))  # or say that there is nothing
    done = []
    for action in _actions(path, args.take_over):
        done.append(action)
        if not args.json:
            kind, sentence = describe_action(action)
            look = {"failed": "red", "lost": "red", "left": "yellow"}.get(kind)
            text = style.paint(style.clean(sentence), *filter(None, [look]))
            print(f"{style.clean(action.path)}: {text}", flush=True)
    with Progress("checking") as progress:
        inspection = inspect(path, progress)
        found = list(inspection.problems())
    damaged = [problem for problem in found if problem.is_damage]
    if args.json:
        print(to_json({"done": _done_json(done), **verdict_json(path, inspection, found)}))
    else:
        _conclude(path, inspection, damaged, style)
    return 1 if damaged or any(action.has_failed for action in done) else 0


def _actions(path: Path, take_over: bool) -> Iterator[Action]:
    # These need the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.config import TelemetryConfig
    from rimp_otel.storage.files.layout import Layout
    from rimp_otel.storage.files.policy import FilePolicy
    from rimp_otel.storage.files.repair import Repair
    from rimp_otel.streaming.journal_drain import recover_journal

    policy = FilePolicy.of(TelemetryConfig.from_env())
    return Repair(Layout(path), policy, recover_journal, take_over).run()


def describe_action(action: Action) -> tuple[str, str]:
    """Return an action's kind, as ``--json`` prints it, and what was done in words."""
    code, number = action.code.value, action.number
    if code in _SENTENCES:
        kind, sentence = _SENTENCES[code]
        return kind, sentence.format(target=action.target, detail=action.detail)
    kind, noun, sentence = _COUNTING_SENTENCES[code]
    return kind, sentence.format(number=format_count(number, noun), target=action.target)


# By the codes of ``rimp_otel.storage.files.repair.Action``.
_SENTENCES = {
    "renamed": ("renamed", "renamed to {target}, which is what it holds"),
    "ended": ("ended", "ended its last line"),
    "removed": ("removed", "removed a stale temporary file"),
    "removed_orphan": ("removed", "removed, since the file it was derived from is gone"),
    "indexed": ("indexed", "made, so that its file is read faster"),
    "left_in_use": ("left", "left alone: a living process records into it"),
    "left_to_others": (
        "left",
        "left alone: it belongs to another user, or another machine was the last to hold it and "
        "may still do so (--take-over, if it does not)",
    ),
    "left_to_repair": ("left", "left alone: it is being repaired"),
    "failed": ("failed", "{detail}"),
    "not_all_stored": ("failed", "not all could be stored: {detail}"),
}
_COUNTING_SENTENCES = {
    "recovered": ("recovered", "record", "stored {number} that a process had left in it"),
    "lost": ("lost", "record", "{number} in it cannot be read"),
    "moved_file": (
        "moved",
        "record",
        "stored {number} that it alone held, and moved it to {target}",
    ),
    "moved_lines": ("moved", "damaged line", "moved {number} to {target}"),
    "sealed": ("sealed", "file", "sealed {number} that waited for it"),
}


def _done_json(done: list[Action]) -> list[dict[str, Any]]:
    return [
        {
            "path": str(action.path),
            "kind": kind,
            "number": action.number,
            "text": sentence,
        }
        for action in done
        for kind, sentence in [describe_action(action)]
    ]


def _conclude(path: Path, inspection: Inspection, damaged: list[Problem], style: Style) -> None:
    for problem in damaged:
        print(format_problem(problem, style))
    print(style.paint(style.clean(path), "bold"))
    print("\n".join(format_summary(inspection, damaged, style)))
