"""The oldest versions that the requirements allow, which ``.ci/run`` installs all at once."""

from __future__ import annotations

from importlib.metadata import version

import pytest

from tests.floors import floors

INSTALLED = {name: version(name) for name in floors()}


def numbers(text: str) -> list[str]:
    """Return the parts of a version, without zeros at its end."""
    return text.removesuffix(".0").removesuffix(".0").split(".")


def test_floors_are_named():
    """Every package that a user's program runs has a floor."""
    assert {"duckdb", "msgspec", "opentelemetry-sdk", "pydantic", "zstandard"} <= {*floors()}
    assert "pytest" not in floors()


@pytest.mark.skipif(
    INSTALLED["msgspec"] != "0.19.0", reason="this environment has not the oldest versions"
)
@pytest.mark.parametrize("name", floors())
def test_floor_is_installed(name):
    """Where one floor is installed, all are."""
    assert numbers(INSTALLED[name]) == numbers(floors()[name])
