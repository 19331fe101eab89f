"""No variable, and no ignored signal, leaks from the outside into a test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.clickhouse import ClickHouse, start_clickhouse

settings.register_profile("usual", deadline=None, max_examples=100)
# For what was tried with many on another version of Python, and for a long time.
settings.register_profile("few", deadline=None, max_examples=20)
settings.register_profile("long", deadline=None, max_examples=2_000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))

# Ignored under nohup, and in the background of a script; a child would inherit that.
_IGNORED_BY_SHELLS = ("SIGHUP", "SIGINT", "SIGQUIT")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OTEL_* or RIMP_* variable is set."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "RIMP_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True, scope="session")
def default_signals() -> None:
    """Signals do what they do by default, in this process and in those that tests start."""
    for name in _IGNORED_BY_SHELLS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            handler = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouse]:
    """A ClickHouse server: chDB behind HTTP. Tests take a database of their own."""
    pytest.importorskip("chdb")
    pytest.importorskip("clickhouse_connect")
    server = start_clickhouse(tmp_path_factory.mktemp("clickhouse"))
    yield server
    server.kill()
