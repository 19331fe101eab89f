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
from struct import Struct, unpack
from struct import error as StructError

import msgspec

from rimp_otel.otlp import messages
from rimp_otel.otlp.protobuf_reader import read_message, read_varint
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.strict import Found
from rimp_otel.otlp.values import double_json
from rimp_otel.process import BoundedCache

__all__ = [
    "exponential_point_text",
    "histogram_point_text",
    "log_record_text",
    "number_point_text",
    "span_text",
]

_encode = msgspec.json.Encoder().encode

_SPAN_HEAD = Struct("<H16sH8sB")
_TWO_TIMES = Struct("<BQBQ")
_TIME = Struct("<Q")
_DOUBLE = Struct("<d")
_FLAGS = Struct("<HI")
_NO_TRACE_ID, _NO_SPAN_ID = bytes(16), bytes(8)

# Texts that stand for the same bytes again and again.
_MOST_BYTES = 256
_pairs: BoundedCache[bytes, str] = BoundedCache(8_192)
_names: BoundedCache[bytes, str] = BoundedCache(4_096)
_prefixes: BoundedCache[bytes, str] = BoundedCache(4_096)
_statuses: BoundedCache[bytes, str] = BoundedCache(1_024)
_kept_pair, _name_of, _prefix_of = _pairs.get, _names.entries, _prefixes.entries
_bounds: BoundedCache[bytes, str] = BoundedCache(1_024)
_status_of, _bounds_of = _statuses.entries, _bounds.entries

# How many values of a key were kept. Of an id or a path, hardly one comes again: past this, none is
# kept any more, and what does come again stays.
_MOST_VALUES = 1_000
_key_counts: BoundedCache[bytes, int] = BoundedCache(4_096)
_values_of_key = _key_counts.entries

_DEEP = 60
"""A depth at which no record lies: what can be read there, can be read at any place."""


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
            value, position = _text_field(data, position)
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
                pairs.append(_kept_pair(raw) or _new_pair(raw, 4))
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
    except (IndexError, StructError, UnicodeDecodeError, FieldError):
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
            (time,) = _TIME.unpack_from(data, position + 1)
            before = f'"timeUnixNano":"{time}",' if time else ""
            position += 9
        if data[position] == 0x10:
            number = data[position + 1]
            if number > 0x7F:
                return None
            severity = f'"severityNumber":{number},' if number else ""
            position += 2
        if data[position] == 0x1A and position < end:
            value, position = _text_field(data, position)
            text = f'"severityText":{value},' if value != '""' else ""
        if data[position] == 0x2A:
            size = data[position + 1]
            start = position + 2
            if size > 0x7F:
                size, start = read_varint(data, position + 1)
            position = start + size
            body = f'"body":{_body_text(data, start, position)},'
        if data[position] == 0x32 and position < end:
            pairs, position = _pairs_text(data, position, end, 4)
            after = f'"attributes":[{pairs}],'
        if data[position] == 0x38:
            number, position = read_varint(data, position + 1)
            if number:
                after = f'{after}"droppedAttributesCount":{_check_uint32(number)},'
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
            (observed,) = _TIME.unpack_from(data, position + 1)
            before = f'{before}"observedTimeUnixNano":"{observed}",' if observed else before
            position += 9
        if data[position] == 0x62 and position < end:
            value, position = _text_field(data, position)
            event = f'"eventName":{value},' if value != '""' else ""
        if position != end:
            return None
        fields = f"{before}{severity}{text}{body}{after}{ids}{event}"
        return time or observed, f"{{{fields[:-1]}}}"
    except (IndexError, StructError, UnicodeDecodeError, FieldError):
        return None


def number_point_text(data: bytes, position: int, end: int) -> Found:
    """Return the time and the text of a point of a gauge or a sum.

    Args:
        data: the point, and at least one byte after it.
        position, end: where it lies.
    """
    try:
        time = 0
        start = before = value = exemplars = after = ""
        if data[position] == 0x11:
            (number,) = _TIME.unpack_from(data, position + 1)
            start = f'"startTimeUnixNano":"{number}",' if number else ""
            position += 9
        if data[position] == 0x19:
            (time,) = _TIME.unpack_from(data, position + 1)
            before = f'"timeUnixNano":"{time}",' if time else ""
            position += 9
        if data[position] == 0x21:
            value = f'"asDouble":{_double_text(data, position + 1)},'
            position += 9
        if data[position] == 0x2A and position < end:
            exemplars, position = _exemplars_text(data, position, end)
        if data[position] == 0x31 and position < end:
            if value:
                return None
            number = int.from_bytes(data[position + 1 : position + 9], "little", signed=True)
            value = f'"asInt":"{number}",'
            position += 9
        if data[position] == 0x3A and position < end:
            pairs, position = _pairs_text(data, position, end, 6)
            after = f'"attributes":[{pairs}],'
        flags = ""
        if data[position] == 0x40 and position < end:
            number, position = read_varint(data, position + 1)
            flags = f'"flags":{_check_uint32(number)},' if number else ""
        if position != end:
            return None
        fields = f"{after}{start}{before}{value}{exemplars}{flags}"
        return time, f"{{{fields[:-1]}}}"
    except (IndexError, StructError, UnicodeDecodeError, FieldError):
        return None


def histogram_point_text(data: bytes, position: int, end: int) -> Found:
    """Return the time and the text of a point of a histogram.

    Args:
        data: the point, and at least one byte after it.
        position, end: where it lies.
    """
    try:
        time = 0
        first = counts = exemplars = attributes = last = ""
        if data[position] == 0x11:
            (number,) = _TIME.unpack_from(data, position + 1)
            first = f'"startTimeUnixNano":"{number}",' if number else ""
            position += 9
        if data[position] == 0x19:
            (time,) = _TIME.unpack_from(data, position + 1)
            first = f'{first}"timeUnixNano":"{time}",' if time else first
            position += 9
        if data[position] == 0x21:
            (number,) = _TIME.unpack_from(data, position + 1)
            first = f'{first}"count":"{number}",' if number else first
            position += 9
        if data[position] == 0x29:
            first = f'{first}"sum":{_double_text(data, position + 1)},'
            position += 9
        if data[position] == 0x32 and position < end:
            size, start = read_varint(data, position + 1)
            position = start + size
            if size:
                counts = f'"bucketCounts":[{_counts_text(data[start:position])}],'
        if data[position] == 0x3A and position < end:
            size, start = read_varint(data, position + 1)
            position = start + size
            if size:
                raw = data[start:position]
                bounds = _bounds_of.get(raw) or _new_bounds(raw)
                counts = f'{counts}"explicitBounds":[{bounds}],'
        if data[position] == 0x42 and position < end:
            exemplars, position = _exemplars_text(data, position, end)
        if data[position] == 0x4A and position < end:
            pairs, position = _pairs_text(data, position, end, 6)
            attributes = f'"attributes":[{pairs}],'
        if data[position] == 0x50 and position < end:
            number, position = read_varint(data, position + 1)
            last = f'"flags":{_check_uint32(number)},' if number else ""
        if data[position] == 0x59 and position < end:
            last = f'{last}"min":{_double_text(data, position + 1)},'
            position += 9
        if data[position] == 0x61 and position < end:
            last = f'{last}"max":{_double_text(data, position + 1)},'
            position += 9
        if position != end:
            return None
        fields = f"{attributes}{first}{counts}{exemplars}{last}"
        return time, f"{{{fields[:-1]}}}"
    except (IndexError, StructError, UnicodeDecodeError, FieldError):
        return None


def exponential_point_text(data: bytes, position: int, end: int) -> Found:
    """Return the time and the text of a point of an exponential histogram.

    Args:
        data: the point, and at least one byte after it.
        position, end: where it lies.
    """
    try:
        time = 0
        attributes = first = scale = buckets = flags = exemplars = last = ""
        if data[position] == 0x0A and position < end:
            pairs, position = _pairs_text(data, position, end, 6)
            attributes = f'"attributes":[{pairs}],'
        if data[position] == 0x11:
            (number,) = _TIME.unpack_from(data, position + 1)
            first = f'"startTimeUnixNano":"{number}",' if number else ""
            position += 9
        if data[position] == 0x19:
            (time,) = _TIME.unpack_from(data, position + 1)
            first = f'{first}"timeUnixNano":"{time}",' if time else first
            position += 9
        if data[position] == 0x21:
            (number,) = _TIME.unpack_from(data, position + 1)
            first = f'{first}"count":"{number}",' if number else first
            position += 9
        if data[position] == 0x29:
            first = f'{first}"sum":{_double_text(data, position + 1)},'
            position += 9
        if data[position] == 0x30:
            number, position = read_varint(data, position + 1)
            scale = f'"scale":{_signed(number)},' if number else ""
        if data[position] == 0x39:
            (number,) = _TIME.unpack_from(data, position + 1)
            scale = f'{scale}"zeroCount":"{number}",' if number else scale
            position += 9
        for tag, name in ((0x42, "positive"), (0x4A, "negative")):
            if data[position] == tag and position < end:
                size, start = read_varint(data, position + 1)
                position = start + size
                buckets = f'{buckets}"{name}":{_buckets_text(data, start, position)},'
        if data[position] == 0x50 and position < end:
            number, position = read_varint(data, position + 1)
            flags = f'"flags":{_check_uint32(number)},' if number else ""
        if data[position] == 0x5A and position < end:
            exemplars, position = _exemplars_text(data, position, end)
        for tag, name in ((0x61, "min"), (0x69, "max"), (0x71, "zeroThreshold")):
            if data[position] == tag and position < end:
                # The last one has no presence: its zero, which is rare, is left out.
                if tag == 0x71 and not any(data[position + 1 : position + 9]):
                    return None
                last = f'{last}"{name}":{_double_text(data, position + 1)},'
                position += 9
        if position != end:
            return None
        fields = f"{attributes}{first}{scale}{buckets}{flags}{exemplars}{last}"
        return time, f"{{{fields[:-1]}}}"
    except (IndexError, StructError, UnicodeDecodeError, FieldError):
        return None


# Parts of records. What they raise makes the record one that is not as usual.


def _text_field(data: bytes, position: int) -> tuple[str, int]:
    """Return the JSON string of a text whose tag is at a position, and where it ends."""
    size = data[position + 1]
    start = position + 2
    if size > 0x7F:
        size, start = read_varint(data, position + 1)
    stop = start + size
    return quote(data[start:stop].decode()), stop


def _new_name(raw: bytes) -> str:
    text = f',"name":{quote(raw.decode())}'
    if len(raw) <= _MOST_BYTES:
        _names[raw] = text
    return text


def _new_status(raw: bytes) -> str:
    text = _encode(read_message(messages.Status, raw, 4)).decode()
    if len(raw) <= _MOST_BYTES:
        _statuses[raw] = text
    return text


def _counts_text(raw: bytes) -> str:
    counts = unpack(f"<{len(raw) // 8}Q", raw)  # raises for an odd length
    return '"{}"'.format('","'.join(map(str, counts)))


def _new_bounds(raw: bytes) -> str:
    if len(raw) % 8:
        raise FieldError("cut off")
    text = ",".join([_double_text(raw, position) for position in range(0, len(raw), 8)])
    if len(raw) <= _MOST_BYTES:
        _bounds[raw] = text
    return text


def _with_number(text: str, name: str, number: int) -> str:
    return f'{text},"{name}":{_check_uint32(number)}' if number else text


def _check_uint32(number: int) -> int:
    if number > 0xFFFF_FFFF:
        raise FieldError("of more than 32 bits")
    return number


def _pairs_text(data: bytes, position: int, end: int, depth: int) -> tuple[str, int]:
    """Return the attributes whose first one is at a position, and where the last one ends."""
    tag = data[position]
    pairs = []
    while data[position] == tag and position < end:
        size = data[position + 1]
        start = position + 2
        if size > 0x7F:
            size, start = read_varint(data, position + 1)
        position = start + size
        raw = data[start:position]
        pairs.append(_kept_pair(raw) or _new_pair(raw, depth))
    return ",".join(pairs), position


def _new_pair(raw: bytes, depth: int) -> str:
    """Return the text of an attribute that is not kept from before."""
    try:
        # The most frequent ones without further calls: keys that are known, and short values.
        size = raw[1]
        stop = size + 2
        key = raw[2:stop]
        prefix = _prefix_of[key]
        start = stop + 4
        left = len(raw) - start
        text = None
        if raw[0] == 0x0A and raw[stop] == 0x12 and raw[stop + 1] == left + 2 < 0x80:
            tag = raw[stop + 2]
            if tag == 0x0A and raw[stop + 3] == left:
                text = f'{prefix}{{"stringValue":{quote(raw[start:].decode())}}}}}'
            elif tag == 0x21 and left == 7:
                text = f'{prefix}{{"doubleValue":{_double_text(raw, stop + 3)}}}}}'
        if text is None:
            text = _scalar_pair(raw)
    except (KeyError, IndexError):
        key, text = b"", _scalar_pair(raw)
    if text is None:
        try:
            text = _encode(read_message(messages.KeyValue, raw, _DEEP)).decode()
        except FieldError:
            # Not kept: what can be read here may lie too deep elsewhere.
            return _encode(read_message(messages.KeyValue, raw, depth)).decode()
    if _values_of_key.get(key, 0) < _MOST_VALUES and len(raw) <= _MOST_BYTES:
        _keep_pair(key, raw, text)
    return text


def _keep_pair(key: bytes, raw: bytes, text: str) -> None:
    if len(_pairs) >= _pairs.size:
        _key_counts.clear()
    _key_counts[key] = _values_of_key.get(key, 0) + 1
    _pairs[raw] = text


def _scalar_pair(raw: bytes) -> str | None:
    """Return the text of an attribute with a key and a scalar value; None for any other."""
    try:
        if raw[0] != 0x0A:
            return None
        size, start = read_varint(raw, 1)
        stop = start + size
        if raw[stop] != 0x12:
            return None
        key = raw[start:stop]
        prefix = _prefix_of.get(key) or _new_prefix(key)
        size, start = read_varint(raw, stop + 1)
        if start + size != len(raw):
            return None
        value = _scalar_text(raw, start, len(raw))
        return None if value is None else f"{prefix}{value}}}"
    except (IndexError, StructError, UnicodeDecodeError, FieldError):
        return None


def _new_prefix(key: bytes) -> str:
    name = quote(key.decode())
    prefix = f'{{"key":{name},"value":' if key else '{"value":'
    if len(key) <= _MOST_BYTES:
        _prefixes[key] = prefix
    return prefix


def _body_text(data: bytes, start: int, stop: int) -> str:
    if start == stop:
        return "{}"
    if data[start] == 0x0A and data[start + 1] == stop - start - 2 < 0x80:
        return f'{{"stringValue":{quote(data[start + 2 : stop].decode())}}}'
    text = _scalar_text(data, start, stop)
    if text is None:
        text = _encode(read_message(messages.AnyValue, data[start:stop], 4)).decode()
    return text


def _scalar_text(data: bytes, start: int, stop: int) -> str | None:
    """Return the text of an AnyValue that is one scalar value; None for any other."""
    tag = data[start]
    if tag == 0x0A:
        size = data[start + 1]
        start += 2
        if size > 0x7F:
            size, start = read_varint(data, start - 1)
        if start + size != stop:
            return None
        return f'{{"stringValue":{quote(data[start:stop].decode())}}}'
    if tag == 0x18:
        number, start = read_varint(data, start + 1)
        if start != stop:
            return None
        return f'{{"intValue":"{number if number < 2**63 else number - 2**64}"}}'
    if tag == 0x10 and start + 2 == stop and data[start + 1] < 2:
        return '{"boolValue":true}' if data[start + 1] else '{"boolValue":false}'
    if tag == 0x21 and start + 9 == stop:
        return f'{{"doubleValue":{_double_text(data, start + 1)}}}'
    return None


def _double_text(data: bytes, position: int) -> str:
    (number,) = _DOUBLE.unpack_from(data, position)
    if number - number == 0.0:
        return _encode(number).decode()
    return double_json(number)


def _signed(number: int) -> int:
    """Return a signed number of 32 bits from its zigzag form."""
    return _check_uint32(number) >> 1 ^ -(number & 1)


def _buckets_text(data: bytes, position: int, end: int) -> str:
    fields = ""
    if data[position] == 0x08 and position < end:
        number, position = read_varint(data, position + 1)
        fields = f'"offset":{_signed(number)},' if number else ""
    if data[position] == 0x12 and position < end:
        size, position = read_varint(data, position + 1)
        if position + size != end:
            raise FieldError("odd buckets")
        counts = []
        while position < end:
            count = data[position]
            position += 1
            if count > 0x7F:
                count, position = read_varint(data, position - 1)
            counts.append(str(count))
        if counts:
            joined = '","'.join(counts)
            fields = f'{fields}"bucketCounts":["{joined}"],'
    if position != end:
        raise FieldError("odd buckets")
    return f"{{{fields[:-1]}}}"


def _exemplars_text(data: bytes, position: int, end: int) -> tuple[str, int]:
    """Return the field of the exemplars whose first one is at a position, and where the last one ends."""
    tag = data[position]
    found = []
    while data[position] == tag and position < end:
        size, start = read_varint(data, position + 1)
        position = start + size
        found.append(_exemplar_text(data, start, position))
    return f'"exemplars":[{",".join(found)}],', position


def _exemplar_text(data: bytes, position: int, end: int) -> str:
    time = value = ids = attributes = ""
    if data[position] == 0x11 and position < end:
        (number,) = _TIME.unpack_from(data, position + 1)
        time = f'"timeUnixNano":"{number}",' if number else ""
        position += 9
    if data[position] == 0x19 and position < end:
        value = f'"asDouble":{_double_text(data, position + 1)},'
        position += 9
    if data[position] == 0x22 and position < end:
        if data[position + 1] != 8:
            raise FieldError("an odd id")
        ids = f'"spanId":"{data[position + 2 : position + 10].hex()}",'
        position += 10
    if data[position] == 0x2A and position < end:
        if data[position + 1] != 16:
            raise FieldError("an odd id")
        ids = f'{ids}"traceId":"{data[position + 2 : position + 18].hex()}",'
        position += 18
    if data[position] == 0x31 and position < end:
        if value:
            raise FieldError("two values")
        number = int.from_bytes(data[position + 1 : position + 9], "little", signed=True)
        value = f'"asInt":"{number}",'
        position += 9
    if data[position] == 0x3A and position < end:
        pairs, position = _pairs_text(data, position, end, 7)
        attributes = f'"filteredAttributes":[{pairs}],'
    if position != end:
        raise FieldError("an odd exemplar")
    fields = f"{attributes}{time}{value}{ids}"
    return f"{{{fields[:-1]}}}"


def _event_text(data: bytes, position: int, end: int) -> str:
    start = position
    if data[position] != 0x09:
        return _odd_event(data, start, end)
    (time,) = _TIME.unpack_from(data, position + 1)
    position += 9
    name = after = ""
    if data[position] == 0x12 and position < end:
        value, position = _text_field(data, position)
        name = f',"name":{value}' if value != '""' else ""
    if data[position] == 0x1A and position < end:
        pairs, position = _pairs_text(data, position, end, 5)
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
        value, position = _text_field(data, position)
        state = f',"traceState":{value}' if value != '""' else ""
    if data[position] == 0x22 and position < end:
        pairs, position = _pairs_text(data, position, end, 5)
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
