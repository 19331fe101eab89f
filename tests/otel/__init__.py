"""Tests of ``rimp_otel/otel``."""
