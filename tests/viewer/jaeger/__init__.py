"""Tests of ``rimp_otel/viewer/jaeger``."""
