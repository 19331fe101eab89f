"""The text of data points in protobuf's binary form, if they are as nearly all senders write them.

As ``protobuf_records`` does it for spans and log records.
"""

from __future__ import annotations

from struct import unpack

from rimp_otel.otlp.protobuf_reader import read_varint
from rimp_otel.otlp.protobuf_values import (
    FIXED_64,
    MOST_BYTES,
    NOT_USUAL,
    check_uint32,
    double_text,
    pairs_text,
)
from rimp_otel.otlp.refusals import FieldError
from rimp_otel.otlp.strict import Found
from rimp_otel.process import BoundedCache

__all__ = ["exponential_point_text", "histogram_point_text", "number_point_text"]

# Of all points of a histogram they are the same.
_bounds: BoundedCache[bytes, str] = BoundedCache(1_024)
_bounds_of = _bounds.entries


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
            (number,) = FIXED_64.unpack_from(data, position + 1)
            start = f'"startTimeUnixNano":"{number}",' if number else ""
            position += 9
        if data[position] == 0x19:
            (time,) = FIXED_64.unpack_from(data, position + 1)
            before = f'"timeUnixNano":"{time}",' if time else ""
            position += 9
        if data[position] == 0x21:
            value = f'"asDouble":{double_text(data, position + 1)},'
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
            pairs, position = pairs_text(data, position, end, 6)
            after = f'"attributes":[{pairs}],'
        flags = ""
        if data[position] == 0x40 and position < end:
            number, position = read_varint(data, position + 1)
            flags = f'"flags":{check_uint32(number)},' if number else ""
        if position != end:
            return None
        fields = f"{after}{start}{before}{value}{exemplars}{flags}"
        return time, f"{{{fields[:-1]}}}"
    except NOT_USUAL:
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
            (number,) = FIXED_64.unpack_from(data, position + 1)
            first = f'"startTimeUnixNano":"{number}",' if number else ""
            position += 9
        if data[position] == 0x19:
            (time,) = FIXED_64.unpack_from(data, position + 1)
            first = f'{first}"timeUnixNano":"{time}",' if time else first
            position += 9
        if data[position] == 0x21:
            (number,) = FIXED_64.unpack_from(data, position + 1)
            first = f'{first}"count":"{number}",' if number else first
            position += 9
        if data[position] == 0x29:
            first = f'{first}"sum":{double_text(data, position + 1)},'
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
            pairs, position = pairs_text(data, position, end, 6)
            attributes = f'"attributes":[{pairs}],'
        if data[position] == 0x50 and position < end:
            number, position = read_varint(data, position + 1)
            last = f'"flags":{check_uint32(number)},' if number else ""
        if data[position] == 0x59 and position < end:
            last = f'{last}"min":{double_text(data, position + 1)},'
            position += 9
        if data[position] == 0x61 and position < end:
            last = f'{last}"max":{double_text(data, position + 1)},'
            position += 9
        if position != end:
            return None
        fields = f"{attributes}{first}{counts}{exemplars}{last}"
        return time, f"{{{fields[:-1]}}}"
    except NOT_USUAL:
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
            pairs, position = pairs_text(data, position, end, 6)
            attributes = f'"attributes":[{pairs}],'
        if data[position] == 0x11:
            (number,) = FIXED_64.unpack_from(data, position + 1)
            first = f'"startTimeUnixNano":"{number}",' if number else ""
            position += 9
        if data[position] == 0x19:
            (time,) = FIXED_64.unpack_from(data, position + 1)
            first = f'{first}"timeUnixNano":"{time}",' if time else first
            position += 9
        if data[position] == 0x21:
            (number,) = FIXED_64.unpack_from(data, position + 1)
            first = f'{first}"count":"{number}",' if number else first
            position += 9
        if data[position] == 0x29:
            first = f'{first}"sum":{double_text(data, position + 1)},'
            position += 9
        if data[position] == 0x30:
            number, position = read_varint(data, position + 1)
            scale = f'"scale":{_zigzag_number(number)},' if number else ""
        if data[position] == 0x39:
            (number,) = FIXED_64.unpack_from(data, position + 1)
            scale = f'{scale}"zeroCount":"{number}",' if number else scale
            position += 9
        for tag, name in ((0x42, "positive"), (0x4A, "negative")):
            if data[position] == tag and position < end:
                size, start = read_varint(data, position + 1)
                position = start + size
                buckets = f'{buckets}"{name}":{_buckets_text(data, start, position)},'
        if data[position] == 0x50 and position < end:
            number, position = read_varint(data, position + 1)
            flags = f'"flags":{check_uint32(number)},' if number else ""
        if data[position] == 0x5A and position < end:
            exemplars, position = _exemplars_text(data, position, end)
        for tag, name in ((0x61, "min"), (0x69, "max"), (0x71, "zeroThreshold")):
            if data[position] == tag and position < end:
                # The last one has no presence: its zero, which is rare, is left out.
                if tag == 0x71 and not any(data[position + 1 : position + 9]):
                    return None
                last = f'{last}"{name}":{double_text(data, position + 1)},'
                position += 9
        if position != end:
            return None
        fields = f"{attributes}{first}{scale}{buckets}{flags}{exemplars}{last}"
        return time, f"{{{fields[:-1]}}}"
    except NOT_USUAL:
        return None


def _counts_text(raw: bytes) -> str:
    counts = unpack(f"<{len(raw) // 8}Q", raw)  # raises for an odd length
    return '"{}"'.format('","'.join(map(str, counts)))


def _new_bounds(raw: bytes) -> str:
    if len(raw) % 8:
        raise FieldError("cut off")
    text = ",".join([double_text(raw, position) for position in range(0, len(raw), 8)])
    if len(raw) <= MOST_BYTES:
        _bounds[raw] = text
    return text


def _zigzag_number(number: int) -> int:
    """Return a signed number of 32 bits from its zigzag form."""
    return check_uint32(number) >> 1 ^ -(number & 1)


def _buckets_text(data: bytes, position: int, end: int) -> str:
    fields = ""
    if data[position] == 0x08 and position < end:
        number, position = read_varint(data, position + 1)
        fields = f'"offset":{_zigzag_number(number)},' if number else ""
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
        (number,) = FIXED_64.unpack_from(data, position + 1)
        time = f'"timeUnixNano":"{number}",' if number else ""
        position += 9
    if data[position] == 0x19 and position < end:
        value = f'"asDouble":{double_text(data, position + 1)},'
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
        pairs, position = pairs_text(data, position, end, 7)
        attributes = f'"filteredAttributes":[{pairs}],'
    if position != end:
        raise FieldError("an odd exemplar")
    fields = f"{attributes}{time}{value}{ids}"
    return f"{{{fields[:-1]}}}"
