"""``rimp repair``: mends a recording, and keeps what cannot be mended."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rimp_otel.cli.options import add_color, add_json, add_path, output_style, recording_path
from rimp_otel.cli.render import Style, format_bytes, plural, to_json
from rimp_otel.cli.verify import format_problem, format_summary, inspect, verdict_json

if TYPE_CHECKING:
    from rimp_otel.storage.inspection import Inspection
    from rimp_otel.storage.problems import Problem
    from rimp_otel.storage.repairing import Action
    from rimp_otel.storage.slotstates import SlotState

__all__ = ["add_repair_parser"]

_DESCRIPTION = """\
Mend what can be mended, and keep what cannot.

Stores what processes that are gone have left in their journals, seals what waits for it, and moves
what cannot be read out of the way, into damaged/ in the recording. What living processes are
writing is left alone. It may be interrupted, and run again, at any time.
"""


def add_repair_parser(subparsers: Any) -> None:
    """``rimp repair``."""
    parser = subparsers.add_parser(
        "repair",
        help="mend a recording",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be done, and change nothing"
    )
    parser.add_argument(
        "--take-over",
        action="store_true",
        help="also what another machine was the last to write, which certainly does so no more",
    )
    add_path(parser)
    add_json(parser, "what was done")
    add_color(parser)
    parser.set_defaults(command=_run_repair)


def _run_repair(args: argparse.Namespace) -> int:
    path = recording_path(args)
    return _foresee(path, args) if args.dry_run else _repair(path, args)


def _foresee(path: Path, args: argparse.Namespace) -> int:
    style = output_style(args)
    with inspect(path) as inspection:
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
        if problem.cure:
            yield problem.place, f"{problem.reason}; {problem.cure}"
    waiting = inspection.waiting
    if waiting:
        yield str(waiting[0].parent), f"seals {plural(len(waiting), 'file')}"


def _plan_for(slot: SlotState) -> str:
    if slot.is_owned:
        return "left alone: a living process records into it"
    if not slot.is_left:
        return ""
    records = plural(sum(slot.records.values()), "record")
    return f"stores {records} that a process left in it, and removes {format_bytes(slot.size)}"


def _repair(path: Path, args: argparse.Namespace) -> int:
    style = output_style(args)
    with inspect(path):
        pass  # there is something
    done = []
    for action in _actions(path, args.take_over):
        done.append(action)
        if not args.json:
            look = {"failed": "red", "lost": "red", "left": "yellow"}.get(action.kind)
            text = style.paint(style.clean(action.text), *filter(None, [look]))
            print(f"{style.clean(action.path)}: {text}", flush=True)
    with inspect(path) as inspection:
        found = list(inspection.problems())
    damaged = [problem for problem in found if problem.is_damage]
    if args.json:
        print(to_json({"done": _done_json(done), **verdict_json(path, inspection, found)}))
    else:
        _conclude(path, inspection, damaged, style)
    return 1 if damaged or any(action.kind == "failed" for action in done) else 0


def _actions(path: Path, take_over: bool) -> Iterator[Action]:
    # These need the SDK, whose import takes longer than the whole of `rimp --help`.
    from rimp_otel.cli.recovering import recover_journal
    from rimp_otel.config import TelemetryConfig
    from rimp_otel.storage.layout import Layout
    from rimp_otel.storage.policy import FilePolicy
    from rimp_otel.storage.repairing import Repair

    policy = FilePolicy.of(TelemetryConfig.from_env())
    return Repair(Layout(path), policy, recover_journal, take_over).run()


def _done_json(done: list[Action]) -> list[dict[str, Any]]:
    return [
        {
            "path": str(action.path),
            "kind": action.kind,
            "number": action.number,
            "text": action.text,
        }
        for action in done
    ]


def _conclude(path: Path, inspection: Inspection, damaged: list[Problem], style: Style) -> None:
    for problem in damaged:
        print(format_problem(problem, style))
    print(style.paint(style.clean(path), "bold"))
    print("\n".join(format_summary(inspection, damaged, style)))
