"""Elements of HTML and SVG, whose text and attributes are escaped."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from rimp_otel.texts import escaped

__all__ = ["element", "pairs", "shown"]

_LONGEST = 200
_MOST_PAIRS = 20


def _quoted(text: str) -> str:
    # html.escape does the same; its module takes as long to load as all that is here.
    for character, entity in (("&", "amp"), ("<", "lt"), (">", "gt"), ('"', "quot"), ("'", "#x27")):
        text = text.replace(character, f"&{entity};")
    return text


def shown(text: object, longest: int = _LONGEST) -> str:
    """Recorded text for a page: what is longer is cut, what would do more than appear is escaped."""
    plain = str(text)
    cut = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return _quoted(escaped(cut))


def element(name: str, *inside: str, **attributes: object) -> str:
    """An element.

    Args:
        name: of the element.
        inside: markup, such as what `shown` and `element` give.
        attributes: escaped here; ``_`` stands for ``-``, one at the end is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_quoted(str(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(inside)}</{name}>"


def pairs(attributes: Mapping[str, Any], longest: int = 60) -> str:
    """Attributes as ``key=value``, the first twenty."""
    texts: Iterable[str] = (
        f"{shown(key, longest)}={shown(_text(value), longest)}"
        for key, value in list(attributes.items())[:_MOST_PAIRS]
    )
    more = len(attributes) - _MOST_PAIRS
    return "&nbsp; ".join([*texts, *([f"(+{more:,} more)"] if more > 0 else [])])


def _text(value: Any) -> str:
    if isinstance(value, (str, bytes)):
        return str(value[:_LONGEST]) + "…" * (len(value) > _LONGEST)
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
