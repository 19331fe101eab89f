"""Programs that end without Python's exit: what was measured last is stored.

With stand-ins that end as uvicorn and Celery's pool do; ``tests.strangers`` runs the real ones.
"""

from __future__ import annotations

import signal

import pytest

from rimp_otel import FileStorage
from tests.processes import run

SERVER = """
import asyncio, signal

class Server:
    async def serve(self, use):
        use()
        await self.shutdown(sockets=None)
        signal.raise_signal(signal.SIGTERM)

    async def shutdown(self, sockets=None):
        await asyncio.sleep(0)
        return "shut down"

def run(use):
    asyncio.run(Server().serve(use))
"""

SIGNALS = """
class Signal:
    def __init__(self):
        self.receivers = []

    def connect(self, receiver, weak):
        assert not weak
        self.receivers.append(receiver)

    def send(self, **named):
        for receiver in self.receivers:
            receiver(signal=self, sender=None, **named)

worker_process_shutdown = Signal()
"""

INSTALL = """
import os, sys
from opentelemetry import metrics
import rimp_otel

def install():
    rimp_otel.install(path=sys.argv[1], quiet=True, metric_interval=600.0,
                      metric_checkpoint_interval=None)
    return metrics.get_meter("m").create_counter("count")
"""


@pytest.fixture
def path(tmp_path):
    """A directory of modules named as the real ones, and one for the recording."""
    for name, module, text in (("uvicorn", "server", SERVER), ("celery", "signals", SIGNALS)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / f"{module}.py").write_text(text)
    return tmp_path


def counts(path):
    """Return the values of the counter's points."""
    return [m.value for m in FileStorage(path / "t").retrieve().metrics if m.name == "count"]


@pytest.mark.parametrize("first", ["recorder", "server"])
def test_server_that_sends_itself_the_signal_again(path, first):
    """Whether the recorder is installed before uvicorn is imported, or by its application."""
    body = f"sys.path.insert(0, {str(path)!r})\n"
    if first == "recorder":
        body += "counter = install()\nimport uvicorn.server\n"
        body += "uvicorn.server.run(lambda: counter.add(3))\n"
    else:
        body += "import uvicorn.server\nuvicorn.server.run(lambda: install().add(3))\n"
    run(INSTALL + body, path / "t", code=-signal.SIGTERM)
    assert counts(path) == [3]


def test_wrapped_method_is_as_it_was(path):
    """It returns what it returned, and has its name."""
    body = f"""
sys.path.insert(0, {str(path)!r})
install()
import asyncio
from uvicorn.server import Server
assert asyncio.run(Server().shutdown()) == "shut down"
assert Server.shutdown.__name__ == "shutdown"
"""
    run(INSTALL + body, path / "t")


def test_child_of_a_pool_that_says_that_it_ends(path):
    """A child calls Celery's receivers, then ``os._exit``; what it inherited is its parent's."""
    body = f"""
sys.path.insert(0, {str(path)!r})
counter = install()
import celery.signals
if (child := os.fork()) == 0:
    counter.add(5)
    celery.signals.worker_process_shutdown.send(pid=os.getpid(), exitcode=0)
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""
    run(INSTALL + body, path / "t")
    assert counts(path) == [5]
