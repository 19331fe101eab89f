"""Tests of ``rimp_otel/processing``."""
