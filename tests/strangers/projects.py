"""The projects: how each is made, started, used and stopped."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["PROJECTS", "Project"]

Make = Callable[[Path, Path], None]
"""Makes a project in an empty directory, given that and the directory of the environment's commands."""


@dataclass(frozen=True)
class Project:
    """A program of somebody else's.

    Attributes:
        command: the words to start it with; ``{port}`` stands for a free port, and the first word is
            one of the environment's commands.
        urls: what is asked of a server, in this order, ``rounds`` times; empty for a script.
        needs: modules without which it cannot be run.
        stop: the signal that ends a server.
        environment: variables that it is started with.
        redis: whether it needs a Redis server; ``{redis}`` is that one's port then.
        spans, logs: at least so many are in the recording of a script.
        tasks: so many of Celery's tasks are in the measurements.
        requests_are_recorded: whether each answered request must be one span of a server.
        is_exact: whether there are to be exactly so many spans.
        is_short: whether the short form runs it.
    """

    name: str
    make: Make
    command: tuple[str, ...]
    urls: tuple[str, ...] = ()
    rounds: int = 10
    needs: tuple[str, ...] = ()
    stop: int = signal.SIGTERM
    environment: Mapping[str, str] = field(default_factory=dict)
    redis: bool = False
    spans: int = 0
    logs: int = 0
    tasks: int = 0
    is_exact: bool = False
    requests_are_recorded: bool = True
    is_short: bool = False


def _write(name: str, text: str) -> Make:
    def make(directory: Path, bin: Path) -> None:
        (directory / name).write_text(text)

    return make


def _run(*words: str) -> Make:
    def make(directory: Path, bin: Path) -> None:
        subprocess.run([bin / words[0], *words[1:]], cwd=directory, check=True)

    return make


def _all(*steps: Make) -> Make:
    def make(directory: Path, bin: Path) -> None:
        for step in steps:
            step(directory, bin)

    return make


_DJANGO = _run("django-admin", "startproject", "mysite", ".")

# https://fastapi.tiangolo.com/tutorial/first-steps/
_FASTAPI = """\
from fastapi import FastAPI

app = FastAPI()


@app.get("/")
async def root():
    return {"message": "Hello World"}
"""

# https://flask.palletsprojects.com/en/stable/quickstart/
_FLASK = """\
from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello_world():
    return "<p>Hello, World!</p>"
"""

# https://docs.celeryq.dev/en/stable/getting-started/first-steps-with-celery.html
_CELERY = """\
from celery import Celery

app = Celery('tasks', broker='redis://localhost:{redis}/0', backend='redis://localhost:{redis}/1')


@app.task
def add(x, y):
    return x + y
"""

_CELERY_CALLS = """\
import os
import subprocess
import sys

worker = subprocess.Popen(
    [os.path.join(os.path.dirname(sys.executable), "celery"), "-A", "tasks", "worker", "--loglevel=ERROR",
     "--concurrency=2", "--max-tasks-per-child=10", "--without-mingle", "--without-gossip"],
    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
)
from tasks import add

results = [add.delay(number, number) for number in range(100)]
print(sum(result.get(timeout=60) for result in results))
worker.terminate()
print(worker.wait())
"""

_STRUCTLOG = """\
import structlog

log = structlog.get_logger()
log.info("hello, %s!", "world", key="value!", more_than_strings=[1, 2, 3])
try:
    1 / 0
except ZeroDivisionError:
    log.exception("division")
"""

# https://www.structlog.org/en/stable/standard-library.html#rendering-using-structlog-based-formatters-within-logging
_STRUCTLOG_STDLIB = """\
import logging
import structlog

structlog.configure(
    processors=[structlog.stdlib.add_log_level, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
)
formatter = structlog.stdlib.ProcessorFormatter(
    processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
)
handler = logging.StreamHandler()
handler.setFormatter(formatter)
root_logger = logging.getLogger()
root_logger.addHandler(handler)
root_logger.setLevel(logging.INFO)
structlog.get_logger("shop").info("ordered", order=4711, items=["tea", "milk"])
logging.getLogger("plain").warning("plain %s", "text", extra={"user": {"id": 1}})
"""

_LOGURU = """\
import sys
from loguru import logger

logger.remove()
logger.add(sys.stderr, format="{level} {message} {extra}")
logger.debug("That's it, beautiful and simple logging!")
logger.bind(user={"id": 1}, items=[1, 2]).info("bound")


@logger.catch
def my_function(x, y, z):
    return 1 / (x + y + z)


my_function(0, 0, 0)
"""

_DYING = """\
import logging
import os
import signal
import sys

log = logging.getLogger("dying")
log.warning("before the end, %s", "as usual")
print("out", flush=True)
"""

_DEATHS = {
    "returns": "",
    "raises": 'raise RuntimeError("it failed")',
    "exits": "sys.exit(3)",
    "os._exit": "os._exit(4)",
    "SIGTERM": "os.kill(os.getpid(), signal.SIGTERM)",
    "SIGKILL": "os.kill(os.getpid(), signal.SIGKILL)",
    "SIGSEGV": "os.kill(os.getpid(), signal.SIGSEGV)",
}

_NOTEBOOK = """\
import nbformat
from nbclient import NotebookClient

cells = [
    "import logging, rimp_otel\\nfrom opentelemetry import trace\\ntelemetry = rimp_otel.install(quiet=True)",
    "with trace.get_tracer('notebook').start_as_current_span('cell'):\\n    logging.getLogger('nb').warning('in a cell')",
    "telemetry.stream.force_flush()\\nlen(telemetry.storage.retrieve().spans)",
]
notebook = nbformat.v4.new_notebook()
# Each cell is run again, as people do.
notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells for _ in range(2)]
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
for cell in notebook.cells:
    for output in cell.outputs:
        print(output.get("name", output.output_type), output.get("text") or output.get("data", {}).get("text/plain"))
"""


def _gunicorn(
    name: str, *words: str, needs: tuple[str, ...] = (), is_short: bool = False
) -> Project:
    return Project(
        f"flask, gunicorn {name}",
        _write("hello.py", _FLASK),
        ("gunicorn", "hello:app", "--bind", "127.0.0.1:{port}", "--workers", "2", *words),
        ("/", "/missing"),
        needs=("flask", "gunicorn", *needs),
        is_short=is_short,
    )


def _uvicorn(name: str, *words: str, is_short: bool = False) -> Project:
    return Project(
        f"fastapi, uvicorn{name}",
        _write("main.py", _FASTAPI),
        ("uvicorn", "main:app", "--port", "{port}", *words),
        ("/", "/missing"),
        needs=("fastapi", "uvicorn"),
        is_short=is_short,
    )


PROJECTS = [
    Project(
        "django, runserver",
        _all(_DJANGO, _run("python", "manage.py", "migrate", "--verbosity", "0")),
        ("python", "manage.py", "runserver", "127.0.0.1:{port}", "--noreload"),
        ("/", "/admin/login/", "/missing"),
        needs=("django",),
        stop=signal.SIGINT,
    ),
    Project(
        "django, gunicorn",
        _DJANGO,
        ("gunicorn", "mysite.wsgi", "--bind", "127.0.0.1:{port}", "--workers", "2"),
        ("/", "/admin/login/", "/missing"),
        needs=("django", "gunicorn"),
        is_short=True,
    ),
    Project(
        "django, manage.py check",
        _DJANGO,
        ("python", "manage.py", "check"),
        needs=("django",),
    ),
    _uvicorn(""),
    # The time is for a busy machine: a worker that takes longer to start is killed as sick.
    _uvicorn(", 4 workers", "--workers", "4", "--timeout-worker-healthcheck", "60", is_short=True),
    _uvicorn(" --reload", "--reload"),
    Project(
        "flask run",
        _write("hello.py", _FLASK),
        ("flask", "--app", "hello", "run", "--port", "{port}"),
        ("/", "/missing"),
        needs=("flask",),
        stop=signal.SIGINT,
    ),
    _gunicorn("sync"),
    _gunicorn("gthread", "--worker-class", "gthread", "--threads", "4"),
    _gunicorn("gevent", "--worker-class", "gevent", needs=("gevent",), is_short=True),
    Project(
        "celery, prefork, 10 tasks a child",
        _all(_write("tasks.py", _CELERY), _write("calls.py", _CELERY_CALLS)),
        ("python", "calls.py"),
        needs=("celery", "redis"),
        redis=True,
        spans=200,
        tasks=100,
        is_short=True,
    ),
    Project(
        "notebook, each cell twice",
        _write("notebook.py", _NOTEBOOK),
        ("python", "notebook.py"),
        needs=("nbclient", "ipykernel"),
        environment={"RIMP_STORAGE_PATH": "{directory}/telemetry"},
        spans=2,
        logs=2,
        is_exact=True,
        is_short=True,
    ),
    Project("structlog", _write("app.py", _STRUCTLOG), ("python", "app.py"), needs=("structlog",)),
    Project(
        "structlog over logging",
        _write("app.py", _STRUCTLOG_STDLIB),
        ("python", "app.py"),
        needs=("structlog",),
        logs=2,
        is_short=True,
    ),
    Project(
        "loguru", _write("app.py", _LOGURU), ("python", "app.py"), needs=("loguru",), is_short=True
    ),
    *(
        Project(
            f"a script that ends: {name}",
            _write("app.py", f"{_DYING}{code}\n"),
            ("python", "app.py"),
            logs=1,
            is_short=name in ("raises", "SIGTERM"),
        )
        for name, code in _DEATHS.items()
    ),
]
"""All of them; each must run the same, recorded or not."""
