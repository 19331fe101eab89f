"""Tests of ``rimp_otel/viewer/tempo``."""
