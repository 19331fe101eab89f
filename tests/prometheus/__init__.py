"""Tests of ``rimp_otel/prometheus``."""
