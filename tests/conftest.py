"""No variable of OpenTelemetry or of ours leaks from the outside into a test."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OTEL_* or RIMP_* variable is set."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "RIMP_")):
            monkeypatch.delenv(name)
