"""Forwarding by the process that records, beside its stream: ``TelemetryConfig(forward=[…])``.

Of several processes that record into one path, such as a server's workers, one forwards: whoever holds
the lock of the destination. The others look from time to time whether it has ended. In a forked child
nothing goes on that the parent had begun.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rimp_otel.collector.stats import is_self_observability_enabled
from rimp_otel.errors import RimpError
from rimp_otel.process import Reporter, call_in_forked_child, describe_error
from rimp_otel.streaming.worker import QuietThread
from rimp_otel.transport.forwarding.cursor import DestinationLockedError
from rimp_otel.transport.forwarding.destination import (
    Destination,
    destination_name,
    open_destination,
)
from rimp_otel.transport.forwarding.destination_options import (
    DestinationOptions,
    options_of_environment,
)
from rimp_otel.transport.forwarding.forward_metrics import observe_forwarders
from rimp_otel.transport.forwarding.forwarder import Forwarder, ForwarderOptions

__all__ = ["InProcessForwarding"]

# Seconds between two looks whether another process still forwards.
_PAUSE = 10.0


class InProcessForwarding:
    """Forwards a recording to some destinations, on threads of this process.

    Args:
        path: of the recording.
        urls: of the destinations; over HTTP, or files.
        options: of each forwarder.
        env: the environment, which has headers and certificates.
        pause: seconds between two attempts to take the place of another process.
        open_one: opens a destination; for tests.
    """

    def __init__(
        self,
        path: Path,
        urls: Sequence[str],
        options: ForwarderOptions = ForwarderOptions(),  # noqa: B008
        env: Mapping[str, str] = os.environ,
        pause: float = _PAUSE,
        open_one: Callable[[str, DestinationOptions], Destination] | None = None,
    ) -> None:
        # Absolute, so that a program may change its working directory.
        self._path = Path(os.path.abspath(path))
        self._urls = list(urls)
        self._options = options
        self._pause = pause
        self._env = env
        self._open_one = open_one or open_destination
        self._begin()
        call_in_forked_child(self._forget_in_child)
        if is_self_observability_enabled():
            observe_forwarders(self)

    def _begin(self) -> None:
        self._thread: threading.Thread | None = None
        self._reporter = Reporter()
        self._stop = threading.Event()
        #: The forwarders that run in this process.
        self.running: list[Forwarder] = []

    @property
    def path(self) -> Path:
        """The path of the recording."""
        return self._path

    @property
    def names(self) -> list[str]:
        """The names of the destinations that this process forwards to."""
        return [name for forwarder in self.running for name in forwarder.names]

    def run(self) -> None:
        """Begin to forward, unless that was done. Waits for nothing."""
        if self._thread is not None or self._stop.is_set():
            return
        thread = QuietThread(target=self._supervise, name="rimp-forward-start", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter ends
            return
        self._thread = thread

    def stop(self, timeout: float) -> None:
        """Send what is there still, for so many seconds at most, and end.

        What a destination does not take at once stays, for the next process.
        """
        deadline = time.monotonic() + timeout
        self._stop.set()
        thread = self._thread
        if thread is None:  # not begun yet, by a process that is short
            self._supervise()
        else:
            thread.join(timeout)
        for forwarder in self.running:
            forwarder.finish(max(0.0, deadline - time.monotonic()))
        self.running, self._thread = [], None
        self._stop = threading.Event()

    def _forget_in_child(self) -> None:
        for forwarder in self.running:
            forwarder.forget_in_child()
        self._begin()

    def _supervise(self) -> None:
        stop, left = self._stop, list(self._urls)
        while True:
            left = [url for url in left if not self._start(url)]
            if not left or stop.wait(self._pause):
                return

    def _start(self, url: str) -> bool:
        """Start to forward to one destination; return False to try again."""
        name = destination_name(url)
        try:
            found = options_of_environment(self._env, url)
            options = self._options._replace(timeout=found.longest_timeout(self._options.timeout))
            destination = self._open_one(url, found)
            forwarder = Forwarder(self._path, [destination], options, reporter=self._reporter)
            forwarder.start()
        except DestinationLockedError:
            return False  # another process forwards to it
        except RuntimeError:  # no more threads, or the interpreter ends
            return True
        except (RimpError, OSError) as error:
            self._reporter.warn(f"forward {name}", f"cannot forward to {name}: {error}")
            return False
        except Exception as error:
            self._reporter.warn(
                f"forward {name}", f"cannot forward to {name}: {describe_error(error)}"
            )
            return True
        self.running.append(forwarder)
        return True
