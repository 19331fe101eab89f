"""The text of records in protobuf's binary form, if they are as nearly all senders write them.

That is: each field once, in the order of the numbers, and integers no longer than they need to be. Then
a record is copied piece by piece from the wire into the text of its OTLP JSON, without a message in
between, and attributes that were met before are looked up. What is different in any way is left to
``protobuf_reader``, which gives the same text.

The functions here are long and repeat themselves, since a call for each field would double their time
(``python -m tests.benchmarks.requests``).
"""

from __future__ import annotations

from json.encoder import encode_basestring as quote
from struct import Struct

import msgspec

from rimp_otel.otlp import messages
from rimp_otel.otlp.protobuf_reader import read_message, read_varint
from rimp_otel.otlp.protobuf_values import (
    FIXED_64,
    MOST_BYTES,
    NOT_USUAL,
    body_text,
    check_uint32,
    kept_pair,
    new_pair,
    pairs_text,
    text_field,
)
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.strict import Found
from rimp_otel.process import BoundedCache

__all__ = ["log_record_text", "span_text"]

_encode = msgspec.json.Encoder().encode

_SPAN_HEAD = Struct("<H16sH8sB")
_TWO_TIMES = Struct("<BQBQ")
_FLAGS = Struct("<HI")
_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)

# Texts that stand for the same bytes again and again.
_names: BoundedCache[bytes, str] = BoundedCache(4_096)
_statuses: BoundedCache[bytes, str] = BoundedCache(1_024)
_name_of, _status_of = _names.entries, _statuses.entries


def span_text(data: bytes, position: int, end: int) -> Found:
    """Return the start time and the text of a span with valid ids.

    Args:
        data: the span, and at least one byte after it.
        position, end: where the span lies.
    """
    try:
        head, trace_id, middle, span_id, tag = _SPAN_HEAD.unpack_from(data, position)
        if head != 0x100A or middle != 0x0812 or trace_id == _NO_TRACE_ID or span_id == _NO_SPAN_ID:
            return None
        position += 28
        ids = flags = name = kind = after = ""
        if tag == 0x1A:
            value, position = text_field(data, position)
            ids = f',"traceState":{value}' if value != '""' else ""
            tag = data[position]
        if tag == 0x22:
            size = data[position + 1]
            if size == 8:
                ids = f'{ids},"parentSpanId":"{data[position + 2 : position + 10].hex()}"'
            elif size:
                return None
            position += 2 + size
            tag = data[position]
        if tag == 0x2A:
            size = data[position + 1]
            start = position + 2
            if size > 0x7F:
                size, start = read_varint(data, position + 1)
            position = start + size
            if size:
                raw = data[start:position]
                try:
                    name = _name_of[raw]
                except KeyError:
                    name = _new_name(raw)
            tag = data[position]
        if tag == 0x30:
            number = data[position + 1]
            if number > 0x7F:
                return None
            if number:
                kind = f',"kind":{number}'
            position += 2
        start_tag, start_time, end_tag, end_time = _TWO_TIMES.unpack_from(data, position)
        if start_tag != 0x39 or end_tag != 0x41 or not start_time or not end_time:
            return None
        position += 18
        tag = data[position]
        if tag == 0x4A and position < end:
            pairs = []
            while tag == 0x4A and position < end:
                size = data[position + 1]
                start = position + 2
                if size > 0x7F:
                    size, start = read_varint(data, position + 1)
                position = start + size
                raw = data[start:position]
                pairs.append(kept_pair(raw) or new_pair(raw, 4))
                tag = data[position]
            after = f',"attributes":[{",".join(pairs)}]'
        if position != end:
            after, flags, position = _rest_of_span(data, position, end, after)
        if position != end:
            return None
        return start_time, (
            f'{{"traceId":"{trace_id.hex()}","spanId":"{span_id.hex()}"{ids}{flags}{name}{kind}'
            f',"startTimeUnixNano":"{start_time}","endTimeUnixNano":"{end_time}"{after}}}'
        )
    except NOT_USUAL:
        return None


def _rest_of_span(data: bytes, position: int, end: int, after: str) -> tuple[str, str, int]:
    """Return the text of the fields after the attributes, that of the flags, and where both end."""
    flags = ""
    if data[position] == 0x50:
        number, position = read_varint(data, position + 1)
        after = _with_number(after, "droppedAttributesCount", number)
    if data[position] == 0x5A and position < end:
        events = []
        while data[position] == 0x5A and position < end:
            size, start = read_varint(data, position + 1)
            position = start + size
            events.append(_event_text(data, start, position))
        after = f'{after},"events":[{",".join(events)}]'
    if data[position] == 0x60:
        number, position = read_varint(data, position + 1)
        after = _with_number(after, "droppedEventsCount", number)
    if data[position] == 0x6A and position < end:
        links = []
        while data[position] == 0x6A and position < end:
            size, start = read_varint(data, position + 1)
            position = start + size
            links.append(_link_text(data, start, position))
        after = f'{after},"links":[{",".join(links)}]'
    if data[position] == 0x70:
        number, position = read_varint(data, position + 1)
        after = _with_number(after, "droppedLinksCount", number)
    if data[position] == 0x7A and position < end:
        size, start = read_varint(data, position + 1)
        position = start + size
        raw = data[start:position]
        status = _status_of.get(raw) or _new_status(raw)
        after = f'{after},"status":{status}'
    if position < end:
        head, number = _FLAGS.unpack_from(data, position)
        if head == 0x0185:
            position += 6
            flags = f',"flags":{number}' if number else ""
    return after, flags, position


def log_record_text(data: bytes, position: int, end: int) -> Found:
    """Return the time and the text of a log record: the time when it was observed, if it has no own.

    Args:
        data: the log record, and at least one byte after it.
        position, end: where it lies.
    """
    try:
        time = observed = 0
        before = severity = text = body = after = ids = event = ""
        if data[position] == 0x09:
            (time,) = FIXED_64.unpack_from(data, position + 1)
            before = f'"timeUnixNano":"{time}",' if time else ""
            position += 9
        if data[position] == 0x10:
            number = data[position + 1]
            if number > 0x7F:
                return None
            severity = f'"severityNumber":{number},' if number else ""
            position += 2
        if data[position] == 0x1A and position < end:
            value, position = text_field(data, position)
            text = f'"severityText":{value},' if value != '""' else ""
        if data[position] == 0x2A:
            size = data[position + 1]
            start = position + 2
            if size > 0x7F:
                size, start = read_varint(data, position + 1)
            position = start + size
            body = f'"body":{body_text(data, start, position)},'
        if data[position] == 0x32 and position < end:
            pairs, position = pairs_text(data, position, end, 4)
            after = f'"attributes":[{pairs}],'
        if data[position] == 0x38:
            number, position = read_varint(data, position + 1)
            if number:
                after = f'{after}"droppedAttributesCount":{check_uint32(number)},'
        if data[position] == 0x45:
            number = int.from_bytes(data[position + 1 : position + 5], "little")
            after = f'{after}"flags":{number},' if number else after
            position += 5
        if data[position] == 0x4A and position < end:
            if data[position + 1] != 16:
                return None
            ids = f'"traceId":"{data[position + 2 : position + 18].hex()}",'
            position += 18
        if data[position] == 0x52 and position < end:
            if data[position + 1] != 8:
                return None
            ids = f'{ids}"spanId":"{data[position + 2 : position + 10].hex()}",'
            position += 10
        if data[position] == 0x59 and position < end:
            (observed,) = FIXED_64.unpack_from(data, position + 1)
            before = f'{before}"observedTimeUnixNano":"{observed}",' if observed else before
            position += 9
        if data[position] == 0x62 and position < end:
            value, position = text_field(data, position)
            event = f'"eventName":{value},' if value != '""' else ""
        if position != end:
            return None
        fields = f"{before}{severity}{text}{body}{after}{ids}{event}"
        return time or observed, f"{{{fields[:-1]}}}"
    except NOT_USUAL:
        return None


def _new_name(raw: bytes) -> str:
    text = f',"name":{quote(raw.decode())}'
    if len(raw) <= MOST_BYTES:
        _names[raw] = text
    return text


def _new_status(raw: bytes) -> str:
    text = _encode(read_message(messages.Status, raw, 4)).decode()
    if len(raw) <= MOST_BYTES:
        _statuses[raw] = text
    return text


def _with_number(text: str, name: str, number: int) -> str:
    return f'{text},"{name}":{check_uint32(number)}' if number else text


def _event_text(data: bytes, position: int, end: int) -> str:
    start = position
    if data[position] != 0x09:
        return _odd_event(data, start, end)
    (time,) = FIXED_64.unpack_from(data, position + 1)
    position += 9
    name = after = ""
    if data[position] == 0x12 and position < end:
        value, position = text_field(data, position)
        name = f',"name":{value}' if value != '""' else ""
    if data[position] == 0x1A and position < end:
        pairs, position = pairs_text(data, position, end, 5)
        after = f',"attributes":[{pairs}]'
    if position != end or not time:
        return _odd_event(data, start, end)
    return f'{{"timeUnixNano":"{time}"{name}{after}}}'


def _odd_event(data: bytes, position: int, end: int) -> str:
    return _encode(read_message(messages.SpanEvent, data[position:end], 4)).decode()


def _link_text(data: bytes, position: int, end: int) -> str:
    head, trace_id, middle, span_id, _ = _SPAN_HEAD.unpack_from(data, position)
    if head != 0x100A or middle != 0x0812:
        raise FieldError("odd ids")
    position += 28
    state = after = flags = ""
    if data[position] == 0x1A and position < end:
        value, position = text_field(data, position)
        state = f',"traceState":{value}' if value != '""' else ""
    if data[position] == 0x22 and position < end:
        pairs, position = pairs_text(data, position, end, 5)
        after = f',"attributes":[{pairs}]'
    if data[position] == 0x28 and position < end:
        number, position = read_varint(data, position + 1)
        after = _with_number(after, "droppedAttributesCount", number)
    if data[position] == 0x35 and position < end:
        number = int.from_bytes(data[position + 1 : position + 5], "little")
        position += 5
        flags = f',"flags":{number}' if number else ""
    if position != end:
        raise FieldError("an odd link")
    return f'{{"traceId":"{trace_id.hex()}","spanId":"{span_id.hex()}"{state}{after}{flags}}}'
