"""Tests of ``rimp_otel/viewer/search``."""
