"""Questions to records of any signal."""

from __future__ import annotations

import subprocess
import sys

from rimp_otel.models.accessors import brief_attributes, exception_text
from tests.cli.records import STACK


def test_exceptions_tell_where_they_were_raised() -> None:
    """An exception is shown with the innermost frame, without directories."""
    attributes = {"exception.type": "E", "exception.message": "m", "exception.stacktrace": STACK}
    assert exception_text(attributes) == "E: m (in charge, bank.py:42)"
    assert exception_text({"exception.type": "E"}) == "E"
    assert exception_text({"other": 1}) == ""


def test_brief_attributes() -> None:
    """Attributes that say nothing new are left out."""
    noise = {"code.line.number": 3, "thread.id": 1, "exception.type": "E", "order": 7}
    assert brief_attributes(noise) == {"order": 7}


def test_says_it_without_the_sdk() -> None:
    """The accessors import without the SDK, so that the command line starts at once."""
    code = "import sys, rimp_otel.models.accessors, rimp_otel.models.tree; "
    code += "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    subprocess.run([sys.executable, "-c", code], check=True)
