"""Takes parts of OTLP JSON one by one, and refuses what is of another dialect, with the reason.

Protobuf's own JSON mapping has ids in base64 and enumerations by name, and many libraries write names in
snake case. OTLP forbids all of that. Ignoring it, as OTLP wants unknown fields to be ignored, would lose
it without a word.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from rimp_otel.errors import DecodeError
from rimp_otel.models.records import Signal
from rimp_otel.otlp import messages
from rimp_otel.otlp.messages import decode_json
from rimp_otel.otlp.protobuf import make_strict
from rimp_otel.otlp.protobuf_reader import MAX_MESSAGE_DEPTH
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.strict import FOREIGN_MAPPING, check_log_record, check_point, check_span, shown

__all__ = [
    "KEYS",
    "OUTER_KEYS",
    "camel_case",
    "check_keys",
    "decode_part",
    "has_snake_keys",
    "refuse_name",
    "snake_case",
    "strict_message",
    "strict_part",
]

T = TypeVar("T")
MessageT = TypeVar("MessageT", bound=messages.OtlpMessage)


def snake_case(name: str) -> str:
    """Return a name of OTLP JSON as Python has it."""
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


def camel_case(name: str) -> str:
    """Return a name of Python as OTLP JSON has it."""
    return re.sub("_([a-z])", lambda letter: letter[1].upper(), name)


# Names in snake case.

OUTER_KEYS = {
    snake_case(key).encode()
    for signal in Signal
    for key in (signal.resource_key, signal.scope_key, signal.record_key)
} | {b"data_points"}
"""Names in snake case of the lists in which records lie."""

KEYS = {
    name.encode()
    for kind in messages.__dict__.values()
    if isinstance(kind, type) and issubclass(kind, messages.OtlpMessage)
    for name in kind.__struct_fields__
    if "_" in name
}
"""Names in snake case of all fields."""

# Quotation marks within texts are escaped, so that these are keys for certain. The first one is
# fast, since it begins with a letter that is rare.
_END_OF_SNAKE_KEY = re.compile(rb'_[a-z]+"\s*:')
_SNAKE_KEY = re.compile(rb'"([a-z]+(?:_[a-z]+)+)"\s*:')


def has_snake_keys(text: bytes) -> bool:
    """Return True if JSON has a field's name in snake case as a key."""
    return _END_OF_SNAKE_KEY.search(text) is not None and not KEYS.isdisjoint(
        _SNAKE_KEY.findall(text)
    )


def check_keys(text: bytes, keys: set[bytes]) -> None:
    """Refuse JSON that has one of these keys.

    Raises:
        FieldError: it has; the reason names the key.
    """
    if _END_OF_SNAKE_KEY.search(text) is not None:
        for key in _SNAKE_KEY.findall(text):
            if key in keys:
                name = key.decode()
                raise FieldError(
                    f"has the key {name}, which OTLP JSON has as {camel_case(name)} only"
                )


# Parts of a request.

_AT = re.compile(r"(.*) - at `\$?(.*)`", re.DOTALL)
_CHECKS: dict[Any, Any] = {messages.Span: check_span, messages.LogRecord: check_log_record}


@cache
def _decoder(kind: type[MessageT]) -> msgspec.json.Decoder[MessageT]:
    return msgspec.json.Decoder(kind, strict=False)


def decode_part(decoder: msgspec.json.Decoder[T], raw: Raw) -> T:
    """Decode a part of a request.

    Raises:
        FieldError: it has not the types of the decoder.
    """
    try:
        return decode_json(decoder, bytes(raw))
    except DecodeError as error:
        found = _AT.fullmatch(error.reason)
        reason, place = found.groups() if found else (error.reason, "")
    raise FieldError(reason, place)


def strict_message(kind: type[MessageT], raw: Raw, depth: int) -> tuple[MessageT, str]:
    """Return a message as strict OTLP JSON has it, and a warning if something of it was left out.

    Args:
        kind: the type of the message.
        raw: its text.
        depth: how many messages it lies in, counted from the request.

    Raises:
        FieldError: it is not OTLP JSON, or not valid.
    """
    check_keys(bytes(raw), KEYS)
    message = decode_part(_decoder(kind), raw)
    _check_dialect(message, "", depth)
    warning = _CHECKS.get(kind, check_point)(message) or ""
    return _make_strict(message), warning


def strict_part(decoder: msgspec.json.Decoder[T], raw: Raw, place: str, depth: int) -> T:
    """Return a list of messages as strict OTLP JSON has it.

    Args:
        decoder: of the list.
        raw: its text.
        place: where it lies, for errors.
        depth: how many messages each of its messages lies in, counted from the request.

    Raises:
        FieldError: it is not OTLP JSON.
    """
    try:
        found: Any = decode_part(decoder, raw)
        for index, item in enumerate(found or ()):
            _check_dialect(item, f"[{index}]", depth)
        strict: T = _make_strict(found)
        return strict
    except FieldError as error:
        reason, inner = error.reason, error.place
    raise FieldError(reason, f"{place}{inner}")


def _make_strict(message: T) -> T:
    try:
        strict: T = make_strict(message)
        return strict
    except DecodeError as error:
        reason = error.reason
    raise FieldError(reason)


_ENUMS = {"kind", "code", "severity_number", "aggregation_temporality"}


def _check_dialect(message: messages.OtlpMessage, place: str, depth: int) -> None:
    """Refuse enumerations by name, and messages that are nested too deeply."""
    if depth > MAX_MESSAGE_DEPTH:
        raise FieldError("nested too deeply", place)
    kind = type(message)
    for name, key in zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True):
        value = getattr(message, name)
        if isinstance(value, str):
            if name in _ENUMS:
                refuse_name(value, f"{place}.{key}")
        elif isinstance(value, messages.OtlpMessage):
            _check_dialect(value, f"{place}.{key}", depth + 1)
        elif isinstance(value, list):
            for index, item in enumerate(value):
                if isinstance(item, messages.OtlpMessage):
                    _check_dialect(item, f"{place}.{key}[{index}]", depth + 1)


def refuse_name(name: str, place: str) -> NoReturn:
    """Refuse the name of an enumeration's value.

    Raises:
        FieldError: always.
    """
    raise FieldError(f"must be a number, got the name {shown(name)}: {FOREIGN_MAPPING}", place)
