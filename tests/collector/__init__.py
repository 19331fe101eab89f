"""Tests of ``rimp_otel/collector``."""
