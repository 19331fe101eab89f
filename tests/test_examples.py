"""The examples run without a warning, and print what is expected."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

PRINTED = {
    "configuration_development": """\
DEBUG first step {}
DEBUG second step {'took_ms': 3}
""",
    "configuration_high_volume": """\
collected 50000, stored 50000, dropped 0
99 jobs in the queue at the end
""",
    "configuration_realtime": """\
at once: opened
at once: closed
in batches: ['opened', 'closed']
""",
    "crash_safe": """\
killed by signal 9
event: stock reserved
span: checkout, interrupted
span: reserve stock, finished
span: charge card, interrupted
""",
    "custom_consumer": """\
{'info': 1, 'error': 1} {'temperature': 21.0}
""",
    "custom_storage": """\
warning Login failed {'user': 'ada', 'attempts': 3}
info Stopped {}
""",
    "existing_sdk": """\
span checkout, log order paid, metric orders 2
the log record belongs to the span: True
service: shop
""",
    "opentelemetry_consumer": """\
span checkout {'cart.items': 3}
log order paid
""",
    "persistent_storage": """\
<time> Disk full {'free_bytes': 0}
3 records stored
""",
    "realtime_monitoring": """\
ALERT High CPU: 80.1%
ALERT High CPU: 93.4%
2 alerts
""",
    "replay": """\
request 1 {'order': 1}
request 2 {'order': 2}
""",
    "shop": "",
    "several_consumers": """\
monitoring [45.2]
chat ['Disk full']
failed [0, 0, 3]
""",
    "simple_collection": """\
info app Started {}
warning db Slow query {'seconds': 2.5}
cpu 45.2 percent
""",
}


def run_example(name: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """Run an example in its own process, in an empty directory, with warnings as errors."""
    floor_warning = "ignore:SelectableGroups:DeprecationWarning"
    return subprocess.run(
        [sys.executable, "-W", "error", "-W", floor_warning, str(EXAMPLES / f"{name}.py")],
        cwd=directory,
        env={key: value for key, value in os.environ.items() if not key.startswith("OTEL_")},
        capture_output=True,
        text=True,
        timeout=60,
    )


REPORTED = {
    "several_consumers": "rimp: the consumer send_to_a_system_that_is_down raised ConnectionError:"
    " nobody there\n",
    "shop": f"""\
ERROR:root:payment failed, order 4711 kept
Traceback (most recent call last):
  File "{EXAMPLES / "shop.py"}", line 26, in <module>
    charge(4711)
  File "{EXAMPLES / "shop.py"}", line 19, in charge
    raise ConnectionError("bank.example refused the connection")
ConnectionError: bank.example refused the connection
""",
}
"""By example, what it prints on standard error."""


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_example(name: str, tmp_path: Path) -> None:
    """An example prints what is expected, and on standard error only what fails on purpose."""
    done = run_example(name, tmp_path)
    # From 3.13 on there are more marks below the lines of a stack.
    said = "".join(row for row in done.stderr.splitlines(True) if row.strip(" ~^\n"))
    assert (done.returncode, said) == (0, REPORTED.get(name, ""))
    time = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"
    assert re.sub(time, "<time>", done.stdout) == PRINTED[name]


def test_every_example_is_run() -> None:
    """Every example has a test."""
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(PRINTED)


def test_every_example_has_a_docstring() -> None:
    """Every example begins with a docstring that says what it shows."""
    for path in EXAMPLES.rglob("*.py"):
        assert path.read_text().startswith('"""'), path
