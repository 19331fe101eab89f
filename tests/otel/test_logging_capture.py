"""Recording the standard library's logging, seen from outside: each program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rimp_otel import FileStorage

INSTALL = "import logging, rimp_otel\ntelemetry = rimp_otel.install(quiet=True)\n"


def run(program: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """A Python program, until it has ended."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=directory,
        env={**environment, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def messages(directory: Path) -> list[str]:
    """What was recorded."""
    return [event.message for event in FileStorage(directory / "telemetry").retrieve().events]


def test_a_warning_is_recorded_and_still_printed(tmp_path: Path) -> None:
    """The program prints what it printed without us, and ends without a word of ours."""
    ended = run(INSTALL + "logging.getLogger('shop').warning('low on %s', 'tea')", tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "low on tea\n")
    assert messages(tmp_path) == ["low on tea"]


def test_basic_config_still_works_after_install(tmp_path: Path) -> None:
    """The recorder is no handler of the root logger, so logging is not taken for configured."""
    program = (
        INSTALL + "logging.basicConfig(level='INFO', format='%(message)s')\nlogging.info('up')"
    )
    ended = run(program, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "up\n")
    assert messages(tmp_path) == ["up"]


def test_arguments_that_do_not_fit_raise_nothing(tmp_path: Path) -> None:
    """The program goes on, as it does without us; the record is kept without its arguments."""
    ended = run(INSTALL + "logging.error('%d orders', 'no')\nprint('went on')", tmp_path)
    assert (ended.returncode, ended.stdout) == (0, "went on\n")
    assert "--- Logging error ---" in ended.stderr
    assert messages(tmp_path) == ["%d orders"]


def test_a_logger_that_does_not_propagate_is_recorded(tmp_path: Path) -> None:
    """Such as uvicorn's, which the root logger's handlers never see."""
    program = INSTALL + "log = logging.getLogger('web')\nlog.propagate = False\nlog.error('down')"
    assert run(program, tmp_path).returncode == 0
    assert messages(tmp_path) == ["down"]


def test_nothing_is_captured_where_that_is_not_wanted(tmp_path: Path) -> None:
    """``capture_logging=False`` leaves logging alone."""
    program = (
        "import logging, rimp_otel\nrimp_otel.install(capture_logging=False)\nlogging.error('x')"
    )
    assert run(program, tmp_path).returncode == 0
    assert messages(tmp_path) == []


def events(program: str, directory: Path) -> list[Any]:
    """The records of a program that prints nothing and ends in order."""
    ended = run(INSTALL + QUIET + program, directory)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return FileStorage(directory / "telemetry").retrieve().events


QUIET = "logging.getLogger().addHandler(logging.NullHandler())\nlog = logging.getLogger('shop')\n"


@pytest.mark.parametrize(
    ("level", "number", "text"),
    [
        ("5", 1, "TRACE"),
        ("logging.DEBUG", 5, "DEBUG"),
        ("logging.INFO", 9, "INFO"),
        ("25", 12, "NOTICE"),
        ("logging.WARNING", 13, "WARN"),
        ("logging.ERROR", 17, "ERROR"),
        ("logging.CRITICAL", 21, "FATAL"),
        ("70", 24, "Level 70"),
    ],
)
def test_levels(level: str, number: int, text: str, tmp_path: Path) -> None:
    """By OpenTelemetry's numbers, those of the application's own too."""
    program = (
        "logging.addLevelName(5, 'TRACE')\nlogging.addLevelName(25, 'NOTICE')\n"
        f"log.setLevel(1)\nlog.log({level}, 'said')"
    )
    (event,) = events(program, tmp_path)
    assert (event.message, event.severity_number, event.severity_text) == ("said", number, text)


def test_fields_of_any_type(tmp_path: Path) -> None:
    """As OpenTelemetry's values, without a warning of the SDK's on standard error or in the recording."""
    program = (
        "import pathlib\n"
        "log.warning('hi', extra={'user': {'id': 1}, 'path': pathlib.Path('/x'), 'all': [1, None]})"
    )
    (event,) = events(program, tmp_path)
    assert event.metadata == {"user": {"id": 1}, "path": "/x", "all": [1, None]}


def test_exceptions_keep_their_whole_message(tmp_path: Path) -> None:
    """That of an OSError too, whose first argument is a number."""
    program = (
        "try:\n    open('/nowhere')\nexcept OSError:\n    log.exception('failed', stack_info=True)"
    )
    (event,) = events(program, tmp_path)
    assert event.metadata["exception.type"] == "FileNotFoundError"
    assert event.metadata["exception.message"] == "[Errno 2] No such file or directory: '/nowhere'"
    assert (
        "open('/nowhere')" in event.metadata["exception.stacktrace"]
        or "FileNotFoundError" in event.metadata["exception.stacktrace"]
    )
    assert event.metadata["code.stacktrace"].startswith("Stack (most recent call last):")


NASTY = {
    "holds itself": "x = {}; x['x'] = x\nlog.error('said', extra={'x': x})",
    "is deep": "x = []\nfor _ in range(3_000): x = [x]\nlog.error('said', extra={'x': x})",
    "cannot be text": "log.error('said', extra={'x': Broken()})",
    "cannot be iterated": "log.error('said', extra={'x': BrokenMap()})",
    "is an argument that cannot be text": "log.error('said', Broken())",
    "is a message that cannot be text": "log.error(Broken())",
    "is an exception that cannot be text": "log.error('said', exc_info=ValueError(Broken()))",
    "is no exception": "log.handle(logging.makeLogRecord({'msg': 'said', 'name': 'shop', 'levelno': 40, 'exc_info': 'text'}))",
    "has no time": "log.handle(logging.makeLogRecord({'msg': 'said', 'name': 'shop', 'levelno': 40, 'created': float('nan')}))",
}

BROKEN = """
import collections.abc
class Broken:
    def __str__(self): raise RuntimeError("no")
    __repr__ = __str__
class BrokenMap(collections.abc.Mapping):
    def __getitem__(self, key): raise RuntimeError("no")
    def __iter__(self): raise RuntimeError("no")
    def __len__(self): return 1
"""


@pytest.mark.parametrize("code", NASTY.values(), ids=NASTY)
def test_no_record_is_lost(code: str, tmp_path: Path) -> None:
    """Whatever it holds costs only itself, and nothing is said on standard error."""
    (event,) = events(BROKEN + code, tmp_path)
    assert event.message in ("said", "<a Broken that cannot be read: RuntimeError>")
    assert event.source == "shop"
    assert event.time_unix_nano > 0


def test_what_is_logged_while_a_record_is_read_is_recorded(tmp_path: Path) -> None:
    """A value whose text logs something; even one that logs itself, which ends at some time."""
    program = (
        "class Loud:\n    def __str__(self):\n        log.error('inner')\n        return 'loud'\n"
        "log.error('outer', extra={'x': Loud()})\n"
        "class Endless:\n    def __str__(self):\n        log.error('endless', extra={'x': self})\n        return ''\n"
        "log.error('start', extra={'x': Endless()})"
    )
    messages = [event.message for event in events(program, tmp_path)]
    assert messages[:3] == ["outer", "inner", "start"]
    assert set(messages[3:]) == {"endless"}


def test_a_handler_of_opentelemetrys_records_nothing_twice(tmp_path: Path) -> None:
    """One that the application has put on its root logger, over the same provider."""
    handlers = pytest.importorskip("opentelemetry.instrumentation.logging.handler")
    program = (
        f"from {handlers.__name__} import LoggingHandler\n"
        "logging.getLogger().addHandler(LoggingHandler())\nlog.error('once')"
    )
    assert [event.message for event in events(program, tmp_path)] == ["once"]


def test_records_carry_the_span_that_they_are_logged_in(tmp_path: Path) -> None:
    """And the resource of the provider."""
    program = (
        "from opentelemetry import trace\n"
        "with trace.get_tracer('t').start_as_current_span('s'):\n    log.error('in')"
    )
    (event,) = events(program, tmp_path)
    (span,) = FileStorage(tmp_path / "telemetry").retrieve().spans
    assert (event.trace_id, event.span_id) == (span.context.trace_id, span.context.span_id)
    assert event.resource == FileStorage(tmp_path / "telemetry").retrieve().events[0].resource
    assert event.resource.attributes["telemetry.sdk.language"] == "python"


def test_event_names_and_code(tmp_path: Path) -> None:
    """An extra that names an event is the record's event name; the place is recorded if asked for."""
    (event,) = events("log.error('said', extra={'otel.event.name': 'order.placed'})", tmp_path)
    assert (event.event_name, event.metadata) == ("order.placed", {})


def test_what_a_notebooks_kernel_says_to_itself_is_left_out(tmp_path: Path) -> None:
    """Its warnings are kept."""
    program = (
        "kernel = logging.getLogger('IPKernelApp')\nkernel.propagate = False\nkernel.setLevel(1)\n"
        "kernel.addHandler(logging.NullHandler())\nkernel.debug('noise')\nkernel.warning('news')"
    )
    assert [event.message for event in events(program, tmp_path)] == ["news"]


def test_loguru_arrives_with_its_fields(tmp_path: Path) -> None:
    """By a sink."""
    pytest.importorskip("loguru")
    program = (
        "from loguru import logger\nlogger.remove()\nlogger.add(telemetry.loguru_sink)\n"
        "logger.bind(order=4711, items=[1]).warning('sold {}', 'tea')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logger.exception('failed')"
    )
    sold, failed = events(program, tmp_path)
    assert (sold.message, sold.severity_text, sold.source) == ("sold tea", "WARN", "__main__")
    assert sold.metadata == {"order": 4711, "items": [1]}
    assert failed.metadata["exception.type"] == "ZeroDivisionError"


def test_structlog_arrives_with_its_fields(tmp_path: Path) -> None:
    """By a processor, and over the standard library's logging."""
    pytest.importorskip("structlog")
    program = (
        "import structlog\n"
        "structlog.configure(processors=[structlog.processors.add_log_level, telemetry.structlog_processor,"
        " structlog.processors.KeyValueRenderer()], logger_factory=structlog.ReturnLoggerFactory())\n"
        "structlog.get_logger().warning('sold', order=4711, items=[1])\n"
        "structlog.configure(processors=[structlog.stdlib.ProcessorFormatter.wrap_for_formatter],"
        " logger_factory=structlog.stdlib.LoggerFactory())\n"
        "structlog.get_logger('shop').warning('sold again', order=4712)"
    )
    first, second = events(program, tmp_path)
    assert (first.message, first.severity_text, first.metadata) == (
        "sold",
        "WARN",
        {"order": 4711, "items": [1]},
    )
    assert (second.message, second.source, second.metadata) == (
        "sold again",
        "shop",
        {"order": 4712},
    )
