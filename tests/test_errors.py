"""The exceptions of the package."""

from __future__ import annotations

import rimp_otel
from rimp_otel import ConfigurationError, DecodeError, MissingExtraError, RimpError, StorageError


def test_errors_are_one_tree():
    """One except clause catches all of them, and each is a builtin exception of its kind."""
    for kind in (ConfigurationError, DecodeError, StorageError, MissingExtraError):
        assert issubclass(kind, RimpError)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(DecodeError, ValueError)
    assert issubclass(MissingExtraError, ImportError)


def test_decode_error_says_where():
    """Its place is put before the reason once it is known."""
    error = DecodeError("no object")
    assert str(error) == "no object"
    assert str(error.at("traces.jsonl", 3)) == "traces.jsonl:3: no object"
    assert str(DecodeError("no object", "traces.jsonl")) == "traces.jsonl: no object"
    assert error.at("traces.jsonl", 3).reason == "no object"


def test_missing_extra_names_the_command():
    """The command in the message can be pasted into a shell."""
    assert str(MissingExtraError("Flask", "demo")) == (
        "Flask is not installed. Install it with: pip install 'rimp-otel[demo]'"
    )


def test_all_is_sorted_and_importable():
    """``__all__`` lists the exceptions in order."""
    assert rimp_otel.__all__ == sorted(rimp_otel.__all__)
    assert all(hasattr(rimp_otel, name) for name in rimp_otel.__all__)
