"""Files in memory, whose mapping never touches a descriptor that is not its own any more.

Before Python 3.13 a mapping always keeps a descriptor of its own, a copy, and closes that number
when it goes. A program that makes itself a daemon has closed it then, and the number may be that of
a socket of the application's.
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import Any

__all__ = ["Mapping"]

_KEEPS_NONE = sys.version_info >= (3, 13)
_TRACKING: dict[str, Any] = {"trackfd": False} if _KEEPS_NONE else {}
# Mappings whose descriptor was closed by somebody else: if they went, they would close it again.
_orphans: list[Mapping] = []


class Mapping(mmap.mmap):
    """A file that is mapped into memory, for reading and writing."""

    _descriptor: int
    _opened: os.stat_result

    @classmethod
    def of(cls, file: int, size: int, offset: int = 0) -> Mapping:
        """Maps an open file, which may be closed after.

        Raises:
            OSError: it cannot be mapped.
        """
        copy = -1 if _KEEPS_NONE else _next_descriptor(file)
        memory = cls(file, size, offset=offset, **_TRACKING)
        memory._opened = os.fstat(file)
        memory._descriptor = copy if _is(copy, memory._opened) else -1
        return memory

    def close(self) -> None:
        """Unmaps it, unless that would close somebody else's file."""
        if self._descriptor < 0 or self.closed or _is(self._descriptor, self._opened):
            super().close()
        elif self not in _orphans:
            self.seek(0, os.SEEK_END)  # so that nobody writes any more
            _orphans.append(self)


def _next_descriptor(file: int) -> int:
    """The lowest number that is free: a copy that is made now gets it."""
    copy = os.dup(file)
    os.close(copy)
    return copy


def _is(descriptor: int, opened: os.stat_result) -> bool:
    """Whether a descriptor is of that file."""
    try:
        return os.path.samestat(os.fstat(descriptor), opened)
    except OSError:
        return False
