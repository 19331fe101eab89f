"""Tests of ``rimp_otel/analysis``."""
