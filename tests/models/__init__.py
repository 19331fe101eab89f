"""Tests of ``rimp_otel/models``."""
