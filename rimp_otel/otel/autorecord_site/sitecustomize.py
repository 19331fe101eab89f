"""Begins the recording of a Python process: ``rimp run`` puts this directory on its PYTHONPATH.

Python imports a ``sitecustomize`` when it starts, and only the first one that it finds; this one
hands on to the next.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def import_next() -> None:
    """What would have been imported, were this directory not there."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != HERE]
    own = sys.modules.pop(__name__)
    try:
        __import__(__name__)
    except ModuleNotFoundError as error:
        if error.name != __name__:
            raise
    finally:
        sys.modules.setdefault(__name__, own)


def record() -> None:
    """Record this process, if its Python has this package."""
    try:
        from rimp_otel.otel.autorecord import start_recording
    except ModuleNotFoundError as error:
        # The Python of another environment, such as a tool that the program runs.
        if error.name != "rimp_otel":
            raise
    else:
        start_recording(HERE)


try:
    import_next()
finally:
    record()
