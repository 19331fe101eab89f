"""Ends of programs at which Python code still runs, but neither ``atexit`` nor a finalizer.

uvicorn shuts down in order and then sends itself the signal again that it was stopped by; a child of
Celery's pool tells its parent that it ends, and calls ``os._exit``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from rimp_otel.otel.import_hooks import call_when_imported

__all__ = ["call_at_program_ends"]

_functions: list[Callable[[], object]] = []


def call_at_program_ends(function: Callable[[], object]) -> None:
    """Call a function where uvicorn or a child of Celery's pool ends, if it is imported or will be.

    Args:
        function: what to call; it must return soon, and not raise. Replaces the one before.
    """
    is_new = not _functions
    _functions[:] = [function]
    if is_new:
        call_when_imported("uvicorn.server", _wrap_uvicorn)
        call_when_imported("celery.signals", _connect_to_celery)


def _call_function(**_: Any) -> None:
    for function in _functions:
        function()


def _wrap_uvicorn() -> None:
    # Looked up when a server ends, so that this holds for one that runs already: it is uvicorn that
    # imports most applications.
    server = sys.modules["uvicorn.server"].Server
    shutdown = server.shutdown

    @wraps(shutdown)
    async def shutdown_and_call(*args: Any, **kwargs: Any) -> Any:
        try:
            return await shutdown(*args, **kwargs)
        finally:
            _call_function()

    server.shutdown = shutdown_and_call


def _connect_to_celery() -> None:
    sys.modules["celery.signals"].worker_process_shutdown.connect(_call_function, weak=False)
