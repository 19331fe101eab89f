"""Pages in the format that the scraper likes best."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rimp_otel.prometheus.families import Family
from rimp_otel.prometheus.protobuf_format import ProtobufWriter
from rimp_otel.prometheus.text_format import Escaping, TextWriter
from rimp_otel.prometheus.writer import PageWriter

__all__ = ["MetricsPage", "PageFormat", "Pages", "choose_format"]

# Formats whose writers are kept: those of the scrapers that there are.
_MAX_WRITERS = 4

_PROTOBUF = "application/vnd.google.protobuf"
_MESSAGE = "io.prometheus.client.MetricFamily"
_OPENMETRICS = "application/openmetrics-text"
_TEXT = "text/plain"


class MetricsPage(NamedTuple):
    """What is answered to a scrape."""

    body: bytes
    content_type: str


class Pages:
    """Writes pages of one table. For one thread at a time.

    What was written of a series is kept for each format that is asked for.
    """

    def __init__(self) -> None:
        self._writers: dict[str, PageWriter] = {}

    def write(self, families: Iterable[Family], accept: str) -> MetricsPage:
        """Return a page with these families.

        Args:
            families: all of them.
            accept: the request's header; empty for none.
        """
        format = choose_format(accept)
        found = self._writers.get(format.content_type)
        if found is None:
            if len(self._writers) >= _MAX_WRITERS:
                self._writers.clear()
            found = self._writers[format.content_type] = format.make_writer()
        return MetricsPage(found.write(families), format.content_type)


class PageFormat(NamedTuple):
    """A format of pages, with its escaping of names."""

    content_type: str
    make_writer: Callable[[], PageWriter]


class _MediaRange(NamedTuple):
    """One of the types that an Accept header lists."""

    type: str
    parameters: dict[str, str]
    quality: float


_DEFAULT = PageFormat(f"{_TEXT}; version=0.0.4; charset=utf-8", TextWriter)


def choose_format(accept: str) -> PageFormat:
    """Return the format that a scraper likes best, of those that there are; else the text format 0.0.4.

    Args:
        accept: the request's header; empty for none.
    """
    accepted = [_parse_type(text) for text in accept.split(",") if text.strip()]
    for one in sorted(accepted, key=lambda one: -one.quality):
        found = _format_of(one) if one.quality > 0 else None
        if found is not None:
            return found
    return _DEFAULT


def _parse_type(text: str) -> _MediaRange:
    type, *rest = (part.strip() for part in text.split(";"))
    parameters = {}
    for part in rest:
        name, _, value = part.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    try:
        quality = float(parameters.get("q", "1"))
    except ValueError:
        quality = 0.0
    return _MediaRange(type.lower(), parameters, quality)


def _format_of(accepted: _MediaRange) -> PageFormat | None:
    """Return the format that is accepted; None if there is none of it."""
    type, parameters, _ = accepted
    version = parameters.get("version", "")
    named = parameters.get("escaping")
    try:
        escaping = Escaping(named) if named else Escaping.UNDERSCORES
    except ValueError:
        escaping = Escaping.UNDERSCORES
    suffix = f"; escaping={escaping.value}"
    if type == _PROTOBUF:
        if parameters.get("proto") != _MESSAGE or parameters.get("encoding") != "delimited":
            return None
        shown = f"{_PROTOBUF}; proto={_MESSAGE}; encoding=delimited{suffix}"
        return PageFormat(shown, lambda: ProtobufWriter(escaping))
    if type == _OPENMETRICS and version in ("", "1.0.0"):
        shown = f"{_OPENMETRICS}; version=1.0.0; charset=utf-8{suffix}"
        return PageFormat(shown, lambda: TextWriter(escaping, is_openmetrics=True))
    if type == _TEXT and version == "1.0.0":
        shown = f"{_TEXT}; version=1.0.0; charset=utf-8{suffix}"
        return PageFormat(shown, lambda: TextWriter(escaping))
    return _DEFAULT if type in (_TEXT, "text/*", "*/*") and version in ("", "0.0.4") else None
