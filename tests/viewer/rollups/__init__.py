"""Tests of ``rimp_otel/viewer/rollups``."""
