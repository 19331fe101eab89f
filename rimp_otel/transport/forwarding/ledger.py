"""Ledgers: what became of each record, for one destination and one signal.

``recorded = acknowledged + pending + expired + refused + not kept`` holds exactly, at any time and over
any number of starts: all but ``pending`` is counted when the cursor passes records, and stored with
it in one file; ``pending`` is what lies behind the cursor.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "BY_DESTINATION",
    "DAMAGED",
    "PARTIAL_SUCCESS",
    "THROTTLED",
    "TOO_LARGE",
    "Ledger",
    "add_counts",
]

BY_DESTINATION = "by_destination"
"""Why a record was refused: the destination will never take it."""
DAMAGED = "damaged"
"""Why a record was refused: it cannot be read. (Only of a database; in files, nobody knows how many
records a damaged line had.)"""
PARTIAL_SUCCESS = "partial_success"
"""Why a record was refused: it is one of so many in a batch that was acknowledged otherwise."""
THROTTLED = "throttled"
"""Why a record was refused: the destination had no room for it, again and again, but for others."""
TOO_LARGE = "too_large"
"""Why a record was refused: by itself it is larger than requests should be, and was not taken."""


class Ledger(NamedTuple):
    """What became of the records that the cursor has passed."""

    #: Taken by the destination.
    acknowledged: int = 0
    #: Deleted by retention before they could be forwarded.
    expired: int = 0
    #: By reason; those that can be told from others lie in the dead-letter file.
    refused: Mapping[str, int] = {}
    #: Left out by a selector, by reason.
    not_kept: Mapping[str, int] = {}

    @property
    def passed(self) -> int:
        """All of them."""
        return (
            self.acknowledged
            + self.expired
            + sum(self.refused.values())
            + sum(self.not_kept.values())
        )

    def __add__(self, other: object) -> Ledger:
        """Return the sums."""
        if not isinstance(other, Ledger):
            return NotImplemented
        return Ledger(
            self.acknowledged + other.acknowledged,
            self.expired + other.expired,
            add_counts(self.refused, other.refused),
            add_counts(self.not_kept, other.not_kept),
        )

    def since(self, before: Ledger) -> Ledger:
        """Return what was counted after an earlier ledger of the same cursor."""
        return Ledger(
            self.acknowledged - before.acknowledged,
            self.expired - before.expired,
            add_counts(self.refused, {key: -count for key, count in before.refused.items()}),
            add_counts(self.not_kept, {key: -count for key, count in before.not_kept.items()}),
        )

    @classmethod
    def parse(cls, data: Any) -> Ledger:
        """Return the ledger in a cursor's JSON.

        Raises:
            ValueError: it is not of a ledger's shape.
        """
        try:
            return cls(
                int(data["acknowledged"]),
                int(data["expired"]),
                {str(reason): int(count) for reason, count in data["refused"].items()},
                {str(reason): int(count) for reason, count in data["not_kept"].items()},
            )
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a ledger: {error!r}") from None

    def as_json(self) -> dict[str, Any]:
        """Return what ``parse`` takes."""
        return {
            "acknowledged": self.acknowledged,
            "expired": self.expired,
            "refused": dict(self.refused),
            "not_kept": dict(self.not_kept),
        }


def add_counts(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """Return the sums of two mappings of counts, without zeros."""
    sums = {key: first.get(key, 0) + second.get(key, 0) for key in [*first, *second]}
    return {key: count for key, count in sums.items() if count}
