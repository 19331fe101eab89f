"""Tests of ``rimp_otel/streaming``."""
