"""What is done in a forked child: everything is renewed before anything is started."""

from __future__ import annotations

import gc
import os

from rimp_otel import forking
from rimp_otel.forking import in_forked_child

from .processes import run


def test_renewed_in_order_and_started_last():
    """Whatever the order in which they were registered."""
    script = """
    import os
    from rimp_otel.forking import in_forked_child
    class Part:
        def __init__(self, name, last=False):
            self.name = name
            in_forked_child(self.renew, last=last)
        def renew(self):
            print(self.name, flush=True)
    parts = [Part("first"), Part("thread", last=True), Part("second")]
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    assert run(script).split() == ["first", "second", "thread"]


def test_forgotten_with_its_object():
    """Nothing is kept alive, and what is gone is not called."""

    class Part:
        def renew(self):
            os._exit(1)

    before = len(forking._renewals)
    for _ in range(200):
        in_forked_child(Part().renew)
    gc.collect()
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(forking._renewals) - before < 100


def test_one_that_fails_keeps_no_other_from_it():
    """What it raises is printed, as Python does it with its own hooks."""
    script = """
    import os, sys
    from rimp_otel.forking import in_forked_child
    class Part:
        def __init__(self, error):
            self.error = error
            in_forked_child(self.renew)
        def renew(self):
            print(self.error, flush=True)
            if self.error:
                raise ValueError(self.error)
    parts = [Part("broken"), Part("")]
    sys.excepthook = lambda kind, error, trace: print("said", error, flush=True)
    if (child := os.fork()) == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    """
    assert run(script).split("\n") == ["broken", "said broken", "", ""]
