"""Destinations by URL, and their names without secrets."""

from __future__ import annotations

import pytest

from rimp_otel.errors import ConfigurationError
from rimp_otel.transport.forwarding.destination import (
    DestinationOptions,
    destination_name,
    known_schemes,
    open_destination,
)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("otlp+http://127.0.0.1:4318", "otlp+http://127.0.0.1:4318"),
        ("otlp+http://127.0.0.1:4318/", "otlp+http://127.0.0.1:4318"),
        ("otlp+https://user:secret@host/path?token=secret", "otlp+https://host/path"),
        ("otlp+https://host:1/#tenant-a", "otlp+https://host:1#tenant-a"),
        ("otlp+https://us@er:secret@host", "otlp+https://host"),
        ("file:///var/backup/", "file:///var/backup/"),
        ("otlp+http://[::1]:4318", "otlp+http://[::1]:4318"),
        ("otlp+http://secret[@host", "otlp+http"),
    ],
)
def test_a_name_has_no_secret(url, name):
    """It is the URL without user, password and query."""
    assert destination_name(url) == name


def test_an_unknown_scheme_is_refused_with_those_that_are_known():
    """Without the secrets of its URL."""
    with pytest.raises(ConfigurationError, match=r"give one of .*otlp\+http:") as raised:
        open_destination("kafka://user:secret@host", DestinationOptions())
    assert "secret" not in str(raised.value)
    assert {"file", "otlp+http", "otlp+grpcs"} <= set(known_schemes())


def test_options_hide_headers():
    """A header's value is in no representation."""
    options = DestinationOptions(headers={"authorization": "Bearer secret"}, timeout=1.0)
    assert "secret" not in repr(options)
    assert "timeout=1.0" in repr(options)


def test_a_destination_is_found_by_its_entry_point(tmp_path, monkeypatch):
    """A distribution registers a function by the scheme; one that cannot be loaded is named."""
    info = tmp_path / "plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[rimp_otel_destination]\nmine = my_plugin:open_mine\nbroken = my_plugin:nothing\n"
    )
    (tmp_path / "my_plugin.py").write_text("def open_mine(url, options): return (url, options)\n")
    monkeypatch.syspath_prepend(tmp_path)
    options = DestinationOptions()
    assert open_destination("mine://x", options) == ("mine://x", options)
    assert "mine" in known_schemes()
    with pytest.raises(ConfigurationError, match="cannot load the destination 'broken'"):
        open_destination("broken://x", options)
