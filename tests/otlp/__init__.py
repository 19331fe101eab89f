"""Tests of reading and writing OTLP JSON."""
