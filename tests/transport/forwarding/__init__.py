"""Tests of ``rimp_otel/transport/forwarding``."""
