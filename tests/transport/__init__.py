"""Tests of OTLP over the network."""
