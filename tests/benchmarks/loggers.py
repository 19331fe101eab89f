"""The loggers of case 6, each set up to write JSON lines to a file as its documentation says."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks import peers
from tests.benchmarks.child import check, measure_work
from tests.benchmarks.model import Figures, Task


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(
            {
                "time": record.created,
                "level": record.levelname,
                "logger": record.name,
                "message": record.getMessage(),
                "order": record.__dict__["order"],
                "user": record.__dict__["user"],
            }
        )


def with_stdlib(task: Task) -> Figures:
    """Log records with two fields, and close the file."""
    path = task.directory / "app.jsonl"
    handler = logging.FileHandler(path)
    handler.setFormatter(_JsonFormatter())
    logger = logging.Logger("shop", logging.INFO)
    logger.addHandler(handler)

    def work() -> None:
        for number in range(task.records):
            logger.info("order placed", extra={"order": number, "user": "u-1"})
        handler.close()

    return _lines(task, path, work)


def with_loguru(task: Task) -> Figures:
    """Log records with two fields, and close the file."""
    from loguru import logger

    path = task.directory / "app.jsonl"
    logger.remove()
    logger.add(path, serialize=True, level="INFO")

    def work() -> None:
        for number in range(task.records):
            logger.info("order placed", order=number, user="u-1")
        logger.remove()

    return _lines(task, path, work)


def with_structlog(task: Task) -> Figures:
    """Log records with two fields, and close the file."""
    path = task.directory / "app.jsonl"
    file = path.open("w")
    logger = _structured(file)

    def work() -> None:
        for number in range(task.records):
            logger.info("order placed", order=number, user="u-1")
        file.close()

    return _lines(task, path, work)


def _structured(file: Any) -> Any:
    import structlog

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.WriteLoggerFactory(file=file),
        cache_logger_on_first_use=True,
    )
    return structlog.get_logger().bind(logger="shop")


def _lines(task: Task, path: Path, work: Callable[[], None]) -> Figures:
    figures = measure_work(work, task.records)
    check(peers.count_text(path, b"\n"), task.records)
    return figures
