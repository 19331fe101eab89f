"""What is refused of a request: one field's error, and the count of records with the first reasons."""

from __future__ import annotations

from rimp_otel.errors import DecodeError

__all__ = ["MAX_RECORDS", "FieldError", "Refusals", "check_count"]


class FieldError(DecodeError):
    """A field of a message cannot be read.

    Args:
        reason: what is wrong with it.
        place: where it is within the message, as ``.attributes[3].value``.
    """

    def __init__(self, reason: str, place: str = "") -> None:
        super().__init__(reason)
        self.place = place


MAX_RECORDS = 1_000_000
"""The most records of one request. A few bytes on the wire can be one, and each takes memory here."""

_MOST_REASONS = 5
_MOST_CHARACTERS = 160


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}..."


def check_count(records: int, place: str) -> None:
    """Check that a request does not have too many records.

    Args:
        records: how many were found.
        place: where.

    Raises:
        DecodeError: there are more than ``MAX_RECORDS``.
    """
    if records > MAX_RECORDS:
        raise DecodeError(f"{place}: more than {MAX_RECORDS:,} records in one request")


class Refusals:
    """The records of one request that are refused, and warnings about others."""

    def __init__(self) -> None:
        self.count = 0
        self._reasons: list[str] = []
        self._left_out = 0

    def add(self, place: str, reason: str, count: int = 1) -> None:
        """Count records as refused.

        Args:
            place: where in the request, as ``resourceSpans[0].scopeSpans[0].spans[3].traceId``.
            reason: what is wrong there.
            count: how many records are refused for it.
        """
        self.count += count
        self.warn(place, reason)

    def warn(self, place: str, reason: str) -> None:
        """Add a reason without a record that is refused: something was repaired."""
        if len(self._reasons) < _MOST_REASONS:
            self._reasons.append(f"{_cut(place)}: {_cut(reason)}")
        else:
            self._left_out += 1

    def __len__(self) -> int:
        """Return how many reasons there are, those of warnings among them."""
        return len(self._reasons) + self._left_out

    def __str__(self) -> str:
        """Return the first reasons, and how many more there are."""
        more = [f"and {self._left_out} more"] if self._left_out else []
        return "; ".join([*self._reasons, *more])
