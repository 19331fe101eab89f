"""Tests of ``rimp_otel/viewer/answers``."""
