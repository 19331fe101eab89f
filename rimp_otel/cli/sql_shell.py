"""The shell of ``rimp sql``: history, completion, and a few commands of its own."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rimp_otel.cli.output import Progress, warn
from rimp_otel.cli.sql_format import FORMATS, answer
from rimp_otel.errors import RimpError
from rimp_otel.sql import Connection
from rimp_otel.sql.views import MACROS, VIEWS

__all__ = ["Shell"]

try:
    import readline
except ImportError:  # pragma: no cover - Windows, and a Python built without it
    readline = None  # type: ignore[assignment]

_HELP = """\
SQL ends with a semicolon. Ctrl-C stops a statement, Ctrl-D ends the shell.
  .tables            the views
  .columns VIEW      the columns of one
  .format FORMAT     table, json or csv
  .quit              end"""

_WORDS = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP",
    "BY",
    "ORDER",
    "LIMIT",
    "HAVING",
    "DISTINCT",
    "COUNT",
    "DESC",
    "BETWEEN",
    "INTERVAL",
    "DESCRIBE",
    "SUMMARIZE",
    "QUALIFY",
    "UNNEST",
    "quantile_cont",
    "date_trunc",
    "time_bucket",
]
_MOST_HISTORY = 2_000


class Shell:
    """Reads statements from a terminal until it ends.

    Args:
        connection: what to ask.
        args: the options of ``rimp sql``.
        progress: which the connection shows.
        read: returns a line, after a prompt.
    """

    def __init__(
        self,
        connection: Connection,
        args: argparse.Namespace,
        progress: Progress,
        read: Callable[[str], str] = input,
    ) -> None:
        self._connection = connection
        self._args = args
        self._progress = progress
        self._read = read
        with progress:
            self._words = _words(connection)
        self._matches: list[str] = []

    def run(self) -> int:
        """Returns the exit code."""
        print("SQL over the recording; .help for help")
        history = _prepare(self._complete)
        try:
            while self._turn():
                pass
        finally:
            _keep(history)
        return 0

    def _turn(self) -> bool:
        """One statement or command; False at the end."""
        try:
            text = self._statement()
            if text.startswith("."):
                return self._command(*text.rstrip(";").split())
            if text:
                answer(self._connection, self._args, text, self._progress)
        except KeyboardInterrupt:
            print("^C")
        except EOFError:
            print()
            return False
        except (RimpError, OSError) as error:
            warn(str(error))
        return True

    def _statement(self) -> str:
        lines: list[str] = []
        while True:
            lines.append(self._read("...> " if lines else "rimp> "))
            text = "\n".join(lines).strip()
            if not text or text.startswith(".") or text.endswith(";"):
                return text

    def _command(self, name: str, *words: str) -> bool:
        if name in (".quit", ".exit"):
            return False
        if name == ".tables":
            print("\n".join(VIEWS))
        elif name == ".columns" and len(words) == 1 and words[0] in VIEWS:
            statement = f"DESCRIBE {words[0]}"
            answer(self._connection, self._args, statement, self._progress)
        elif name == ".format" and len(words) == 1 and words[0] in FORMATS[:-1]:
            self._args.format = words[0]
        else:
            print(_HELP)
        return True

    def _complete(self, text: str, state: int) -> str | None:
        if state == 0:
            start = text.lower()
            self._matches = [word for word in self._words if word.lower().startswith(start)]
        return self._matches[state] if state < len(self._matches) else None


def _words(connection: Connection) -> list[str]:
    found = {*VIEWS, *_WORDS, *(re.split(r"\W", macro)[0] for macro in MACROS)}
    for view in VIEWS:
        found |= {row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()}
    return sorted(found, key=str.lower)


def _history_path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "rimp-otel" / "sql_history"


def _prepare(complete: Any) -> Path | None:
    """Sets the line editor up; where the history is kept, if it can be."""
    if readline is None:  # pragma: no cover - Windows, and a Python built without it
        return None
    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n,()[]=<>;'\"")
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    readline.clear_history()
    path = _history_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        readline.read_history_file(path)
    except OSError:
        return None
    return path


def _keep(history: Path | None) -> None:
    if history is not None:
        readline.set_history_length(_MOST_HISTORY)
        try:
            readline.write_history_file(history)
        except OSError:
            pass
