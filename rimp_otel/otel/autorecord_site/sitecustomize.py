"""Starts the recording of a Python process: ``rimp run`` puts this directory on its PYTHONPATH.

Python imports a ``sitecustomize`` when it starts, and only the first one that it finds; this one
imports the next. Nothing else may lie in this directory, since the program would find it.
"""

from __future__ import annotations

import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def import_next_sitecustomize() -> None:
    """Import the ``sitecustomize`` that Python would find without this directory."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != HERE]
    own = sys.modules.pop(__name__)
    try:
        __import__(__name__)
    except ModuleNotFoundError as error:
        if error.name != __name__:
            raise
    finally:
        sys.modules.setdefault(__name__, own)


def record_this_process() -> None:
    """Start the recording, if this Python has the package."""
    try:
        from rimp_otel.otel.autorecord import start_recording
    except ModuleNotFoundError as error:
        # The Python of another environment, such as a tool that the program runs.
        if error.name != "rimp_otel":
            raise
    else:
        start_recording(HERE)


try:
    import_next_sitecustomize()
finally:
    record_this_process()
