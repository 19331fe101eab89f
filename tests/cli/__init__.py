"""Tests of the ``rimp`` command."""
