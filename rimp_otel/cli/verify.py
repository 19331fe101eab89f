"""``rimp verify`` and ``rimp repair``: check a recording, and repair it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.options import UsageError, add_output_options, path_from_args, style_from_args
from rimp_otel.cli.output import SIGNAL_NOUNS, Progress, open_recording_at
from rimp_otel.models.records import Signal
from rimp_otel.render.format import format_bytes, format_count
from rimp_otel.render.terminal import Style, pad_text, to_json

if TYPE_CHECKING:
    from rimp_otel.storage.files.repair import Action
    from rimp_otel.storage.files.verify import Inspection, Problem
    from rimp_otel.storage.slots import SlotState

__all__ = [
    "add_repair_arguments",
    "add_verify_arguments",
    "describe_action",
    "describe_problem",
    "describe_repair",
    "format_journals",
    "format_problem",
    "format_summary",
    "inspect_recording",
    "slot_json",
    "verdict_json",
]

_REPAIR_DESCRIPTION = """\
Repair a recording, and keep what cannot be repaired.

The command stores records that dead processes left in their journals, seals rotated files, and
moves what cannot be read to damaged/ in the recording. Files of living processes are left alone.
It can be interrupted and run again at any time.
"""


def add_verify_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp verify``."""
    parser.description = (
        "Check every line, journal and file name of a recording without changing anything. The exit\n"
        "code is 1 if anything is damaged."
    )
    parser.add_argument(
        "--protobuf",
        action="store_true",
        help="also parse every line with protobuf (needs the extra 'protobuf')",
    )
    add_output_options(parser, "what was found")
    parser.set_defaults(command=_run_verify)


def _run_verify(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    style = style_from_args(args)
    found = []
    with Progress("checking") as progress:
        inspection = inspect_recording(path, progress, args.protobuf)
        for problem in inspection.problems():
            found.append(problem)
            if not args.json:
                progress.clear()
                print(format_problem(problem, style), flush=True)
    damaged = [problem for problem in found if problem.is_damage]
    if args.json:
        print(to_json(verdict_json(path, inspection, found)))
    else:
        _print_summary(path, inspection, damaged, style)
    return 1 if damaged else 0


def _print_summary(
    path: Path, inspection: Inspection, damaged: list[Problem], style: Style
) -> None:
    print(style.paint(style.clean(path), "bold"))
    print("\n".join(format_summary(inspection, damaged, style)))


def inspect_recording(path: Path, progress: Progress, protobuf: bool = False) -> Inspection:
    """Return an inspection of the recording at ``path``.

    Args:
        path: path of the recording.
        progress: shows which file is being checked.
        protobuf: True to parse every line with protobuf, too.

    Raises:
        UsageError: there is no recording, or it is a database.
        MissingExtraError: protobuf is required, and is not installed.
    """
    # Reading needs the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.storage.files.layout import Layout
    from rimp_otel.storage.files.verify import Inspection, parse_line, parse_line_strictly

    open_recording_at(path)
    if path.is_file():
        raise UsageError(
            f"{path} is a database, which 'rimp verify' and 'rimp repair' do not check: "
            f"run sqlite3 {path} 'pragma integrity_check'"
        )
    if protobuf:
        parse_line_strictly(b'{"resourceSpans":[]}')  # raises now if protobuf is missing

    def show_file(path: Path) -> None:
        progress.show(f"checking {path.name}")

    return Inspection(Layout(path), parse_line_strictly if protobuf else parse_line, show_file)


def format_problem(problem: Problem, style: Style) -> str:
    """Return a line: place and kind of the problem, the loss, and what ``rimp repair`` will do."""
    parts = [style.clean(f"{problem.place}: {describe_problem(problem)}")]
    if loss := _format_loss(problem):
        parts.append(f"lost: {loss}")
    if plan := describe_repair(problem):
        parts.append(style.clean(f"repair: {plan}"))
    head, *rest = parts
    look = "red" if problem.is_damage else "yellow"
    return "; ".join([style.paint(head, look), *rest])


# By the codes of `rimp_otel.storage.files.verify.Problem`, which is imported only to check.
_REASONS = {
    "bad_line": "{}",
    "bad_block": "{}",
    "unended_line": "the last line has no line end",
    "bad_journal": "{}",
    "unreadable": "cannot be read: {}",
    "quarantined": "quarantined by an earlier recovery",
    "wrong_id": "the id in the file name should be {}",
    "wrong_times": "holds records outside of the time range in its name",
    "duplicate": "same content as {}: sealing was interrupted",
    "index_missing": "missing index",
    "index_damaged": "index is damaged, or of another file",
    "index_wrong": "index does not match its file",
    "stale": "stale temporary file",
    "orphan": "derived from a file that no longer exists",
    "foreign": "unrelated file, left in place",
    "link": "symbolic link, which is not followed",
    "other_owner": "owned by another user",
    "exposed_file": "accessible to other users (mode {}): make it private with 'chmod 600'",
    "exposed_directory": "accessible to other users (mode {}): make it private with 'chmod 700'",
}
_REPAIRS = {
    "bad_line": "move the line to damaged/",
    "bad_block": "move the file to damaged/, and keep what can be read in a new file",
    "unended_line": "end the line",
    "bad_journal": "store what can be read, and move the rest to damaged/",
    "unreadable": "move it to damaged/ if it is not the right kind of file; else make it readable",
    "quarantined": "store records that are in no file, and move it to damaged/",
    "wrong_id": "rename the file",
    "wrong_times": "rename the file",
    "duplicate": "seal the file again",
    "index_missing": "make the index",
    "index_damaged": "make the index",
    "index_wrong": "make the index",
    "stale": "remove the file",
    "orphan": "remove the file",
}


def describe_problem(problem: Problem) -> str:
    """Return what is wrong as text."""
    return _REASONS[problem.code.value].format(problem.detail)


def describe_repair(problem: Problem) -> str:
    """Return what ``rimp repair`` will do about a problem as text; empty for nothing."""
    plan = _REPAIRS.get(problem.code.value, "")
    if plan and problem.is_in_use:
        return f"{plan}, once the process that writes it has ended"
    return plan


def _format_loss(problem: Problem) -> str:
    records = ""
    if problem.lost_records is not None:
        records = format_count(
            problem.lost_records, SIGNAL_NOUNS.get(problem.signal or Signal.LOGS, "record")
        )
    if not problem.lost_bytes:
        return records
    what = f"{format_bytes(problem.lost_bytes)} of text"
    return f"{what}, about {records}" if records else what


def format_summary(inspection: Inspection, damaged: list[Problem], style: Style) -> list[str]:
    """Return what was checked, and the verdict."""
    rows = [
        ("checked", _format_checked(inspection)),
        ("journals", format_journals(inspection.slots)),
        ("waiting", _format_waiting(inspection.slots)),
        ("interrupted", _format_interrupted(inspection)),
        ("kept", _format_kept(inspection.kept, style)),
        ("damaged", style.paint(_format_damage(damaged), "red") if damaged else "nothing"),
    ]
    return [style.paint(pad_text(name, 13), "dim") + text for name, text in rows if text]


def _format_checked(inspection: Inspection) -> str:
    tally = inspection.tally
    records = format_count(sum(tally.records.values()), "record")
    files = format_count(tally.files, "file")
    return f"{format_count(tally.lines, 'line')} with {records} in {files} ({format_bytes(tally.bytes)})"


def format_journals(slots: list[SlotState]) -> str:
    """Return the number of journals and their owners as text."""
    owned = [slot for slot in slots if slot.is_owned]
    left = sum(slot.is_left for slot in slots)
    texts = []
    if owned:
        pids = ", ".join(str(slot.signature.get("pid", "?")) for slot in owned)
        word = "process" if len(owned) == 1 else "processes"
        texts.append(f"{len(owned):,} in use by {word} {Style().clean(pids)}")
    if left:
        texts.append(f"{left:,} left by {'a dead process' if left == 1 else 'dead processes'}")
    return f"{format_count(len(slots), 'journal')}" + (
        f": {', '.join(texts)}" if texts else ", empty"
    )


def _format_waiting(slots: list[SlotState]) -> str:
    waiting = sum(sum(slot.records.values()) for slot in slots)
    if not waiting:
        return ""
    size = format_bytes(sum(slot.waiting for slot in slots))
    return f"{format_count(waiting, 'record')} ({size}) in journals, to be stored by their process or the next one"


def _format_interrupted(inspection: Inspection) -> str:
    number = _count_interrupted(inspection)
    return f"{format_count(number, 'span')} open when their process died" if number else ""


def _count_interrupted(inspection: Inspection) -> int:
    return inspection.tally.interrupted + sum(slot.interrupted for slot in inspection.slots)


def _format_kept(kept: list[Path], style: Style) -> str:
    if not kept:
        return ""
    size = sum(path.stat().st_size for path in kept)
    where = style.clean(kept[0].parent)
    return f"{format_count(len(kept), 'file')} ({format_bytes(size)}) of earlier repairs in {where}"


def _format_damage(damaged: list[Problem]) -> str:
    lost = sum(problem.lost_records or 0 for problem in damaged)
    about = f", about {format_count(lost, 'record')}" if lost else ""
    return format_count(len(damaged), "place") + about


def verdict_json(path: Path, inspection: Inspection, found: list[Problem]) -> dict[str, Any]:
    """Return the result as ``rimp verify --json`` prints it."""
    tally = inspection.tally
    return {
        "path": str(path),
        "whole": not any(problem.is_damage for problem in found),
        "files": tally.files,
        "bytes": tally.bytes,
        "lines": tally.lines,
        "records": {signal.value: tally.records[signal] for signal in Signal},
        "interrupted_spans": _count_interrupted(inspection),
        "journals": [slot_json(slot) for slot in inspection.slots],
        "kept": [str(kept) for kept in inspection.kept],
        "damaged": [_problem_fields(problem) for problem in found if problem.is_damage],
        "remarks": [_problem_fields(problem) for problem in found if not problem.is_damage],
    }


def slot_json(slot: SlotState) -> dict[str, Any]:
    """Return the journal of a writer slot as ``--json`` prints it."""
    return {
        "path": str(slot.journal),
        "slot": slot.number,
        "owned": slot.is_owned,
        "pid": slot.signature.get("pid"),
        "bytes": slot.size,
        "waiting_bytes": slot.waiting,
        "records": {signal.value: slot.records[signal] for signal in Signal},
        "in_memory": slot.in_memory,
        "interrupted_spans": slot.interrupted,
    }


def _problem_fields(problem: Problem) -> dict[str, Any]:
    return {
        "path": str(problem.path),
        "line": problem.line,
        "offset": problem.offset,
        "reason": describe_problem(problem),
        "lost_bytes": problem.lost_bytes,
        "lost_records": problem.lost_records,
        "repair": describe_repair(problem),
    }


def add_repair_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the description and the arguments of ``rimp repair``."""
    parser.description = _REPAIR_DESCRIPTION
    parser.add_argument(
        "--dry-run", action="store_true", help="report what would be repaired, but change nothing"
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="take over journals last written by another machine (make sure it has stopped)",
    )
    add_output_options(parser, "what was done")
    parser.set_defaults(command=_run_repair)


def _run_repair(args: argparse.Namespace) -> int:
    path = path_from_args(args)
    return _plan_repair(path, args) if args.dry_run else _repair(path, args)


def _plan_repair(path: Path, args: argparse.Namespace) -> int:
    style = style_from_args(args)
    with Progress("checking") as progress:
        inspection = inspect_recording(path, progress)
        found = list(inspection.problems())
    plans = list(_planned_repairs(found, inspection))
    if args.json:
        plan = [{"path": str(where), "text": text} for where, text in plans]
        print(to_json({"would_do": plan, **verdict_json(path, inspection, found)}))
    for where, text in [] if args.json else plans:
        print(style.clean(f"{where}: {text}"))
    if not plans and not args.json:
        print("nothing to repair")
    return 1 if any(problem.is_damage for problem in found) else 0


def _planned_repairs(found: list[Problem], inspection: Inspection) -> Iterator[tuple[str, str]]:
    for slot in inspection.slots:
        if text := _plan_for_slot(slot):
            yield str(slot.journal), text
    for problem in found:
        if plan := describe_repair(problem):
            yield problem.place, f"{describe_problem(problem)}; repair: {plan}"
    waiting = inspection.waiting
    if waiting:
        yield str(waiting[0].parent), f"seal {format_count(len(waiting), 'file')}"


def _plan_for_slot(slot: SlotState) -> str:
    if slot.is_owned:
        return "left alone: in use by a living process"
    if not slot.is_left:
        return ""
    records = format_count(sum(slot.records.values()), "record")
    return f"store {records} left by a dead process, and remove {format_bytes(slot.size)}"


def _repair(path: Path, args: argparse.Namespace) -> int:
    style = style_from_args(args)
    inspect_recording(path, Progress("checking"))  # raises if there is no recording
    done = []
    for action in _repair_actions(path, args.take_over):
        done.append(action)
        if not args.json:
            kind, sentence = describe_action(action)
            look = {"failed": "red", "lost": "red", "left": "yellow"}.get(kind)
            text = style.paint(style.clean(sentence), *filter(None, [look]))
            print(f"{style.clean(action.path)}: {text}", flush=True)
    with Progress("checking") as progress:
        inspection = inspect_recording(path, progress)
        found = list(inspection.problems())
    damaged = [problem for problem in found if problem.is_damage]
    if args.json:
        print(to_json({"done": _action_fields(done), **verdict_json(path, inspection, found)}))
    else:
        for problem in damaged:
            print(format_problem(problem, style))
        _print_summary(path, inspection, damaged, style)
    return 1 if damaged or any(action.has_failed for action in done) else 0


def _repair_actions(path: Path, take_over: bool) -> Iterator[Action]:
    # These need the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.config import TelemetryConfig
    from rimp_otel.storage.files.layout import Layout
    from rimp_otel.storage.files.policy import FilePolicy
    from rimp_otel.storage.files.repair import Repair
    from rimp_otel.streaming.journal_drain import recover_journal

    policy = FilePolicy.of(TelemetryConfig.from_env())
    return Repair(Layout(path), policy, recover_journal, take_over).run()


def describe_action(action: Action) -> tuple[str, str]:
    """Return the kind of an action, as ``--json`` prints it, and what was done as text."""
    code, number = action.code.value, action.number
    if code in _SENTENCES:
        kind, sentence = _SENTENCES[code]
        return kind, sentence.format(target=action.target, detail=action.detail)
    kind, noun, sentence = _COUNTING_SENTENCES[code]
    return kind, sentence.format(number=format_count(number, noun), target=action.target)


# By the codes of `rimp_otel.storage.files.repair.Action`, which is imported only to repair.
_SENTENCES = {
    "renamed": ("renamed", "renamed to {target}, to match its content"),
    "ended": ("ended", "ended the last line"),
    "set_aside": ("set_aside", "moved to {target}: {detail}"),
    "removed": ("removed", "removed a stale temporary file"),
    "removed_orphan": ("removed", "removed: derived from a file that no longer exists"),
    "indexed": ("indexed", "made the index"),
    "left_in_use": ("left", "left alone: in use by a living process"),
    "left_to_others": (
        "left",
        "left alone: owned by another user, or last written by another machine "
        "(if that has stopped, use --take-over)",
    ),
    "left_to_repair": ("left", "left alone: another repair is running"),
    "failed": ("failed", "{detail}"),
    "not_all_stored": ("failed", "some records could not be stored: {detail}"),
}
_COUNTING_SENTENCES = {
    "recovered": ("recovered", "record", "stored {number} left by a dead process"),
    "lost": ("lost", "record", "{number} could not be read"),
    "moved_file": (
        "moved",
        "record",
        "stored {number} that were in no other file, and moved it to {target}",
    ),
    "moved_lines": ("moved", "damaged line", "moved {number} to {target}"),
    "sealed": ("sealed", "file", "sealed {number}"),
}


def _action_fields(done: list[Action]) -> list[dict[str, Any]]:
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
