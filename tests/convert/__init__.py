"""Tests of ``rimp_otel/convert``."""
