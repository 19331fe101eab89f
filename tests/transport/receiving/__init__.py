"""Tests of ``rimp_otel/transport/receiving``."""
