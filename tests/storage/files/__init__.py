"""Tests of ``rimp_otel/storage/files``."""
