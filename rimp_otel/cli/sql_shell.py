"""The shell of ``rimp sql``: history, completion and commands that start with a dot.

Apart from `sql`, since it loads DuckDB and readline, which ``rimp sql --help`` must not do.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rimp_otel.cli.output import Progress, warn
from rimp_otel.cli.sql_format import FORMATS, print_result
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
  .tables            list the views
  .columns VIEW      list the columns of a view
  .format FORMAT     print rows as table, json or csv
  .quit              end the shell"""

_SQL_WORDS = [
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
_MAX_HISTORY = 2_000


class Shell:
    """Reads statements and commands from a terminal, and prints their results.

    Args:
        connection: the connection to query.
        args: the options of ``rimp sql``.
        progress: the progress that the connection shows.
        read: prints a prompt and returns a line.
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
            self._words = _completion_words(connection)
        self._matches: list[str] = []

    def run(self) -> int:
        """Run the shell to its end, and return the exit code."""
        print("SQL over the recording; .help prints help")
        history = _set_up_readline(self._complete)
        try:
            while self._run_one():
                pass
        finally:
            _save_history(history)
        return 0

    def _run_one(self) -> bool:
        """Run a statement or command; return False at the end."""
        try:
            text = self._read_statement()
            if text.startswith("."):
                return self._run_command(*text.rstrip(";").split())
            if text:
                print_result(self._connection, self._args, text, self._progress)
        except KeyboardInterrupt:
            print("^C")
        except EOFError:
            print()
            return False
        except (RimpError, OSError) as error:
            warn(str(error))
        return True

    def _read_statement(self) -> str:
        lines: list[str] = []
        while True:
            lines.append(self._read("...> " if lines else "rimp> "))
            text = "\n".join(lines).strip()
            if not text or text.startswith(".") or text.endswith(";"):
                return text

    def _run_command(self, name: str, *words: str) -> bool:
        if name in (".quit", ".exit"):
            return False
        if name == ".tables":
            print("\n".join(VIEWS))
        elif name == ".columns" and len(words) == 1 and words[0] in VIEWS:
            statement = f"DESCRIBE {words[0]}"
            print_result(self._connection, self._args, statement, self._progress)
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


def _completion_words(connection: Connection) -> list[str]:
    found = {*VIEWS, *_SQL_WORDS, *(re.split(r"\W", macro)[0] for macro in MACROS)}
    for view in VIEWS:
        found |= {row[0] for row in connection.execute(f"DESCRIBE {view}").fetchall()}
    return sorted(found, key=str.lower)


def _history_path() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "rimp-otel" / "sql_history"


def _set_up_readline(complete: Any) -> Path | None:
    """Set up line editing; return the path of the history, or None if it cannot be kept."""
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


def _save_history(history: Path | None) -> None:
    if history is not None:
        readline.set_history_length(_MAX_HISTORY)
        try:
            readline.write_history_file(history)
        except OSError:
            pass
