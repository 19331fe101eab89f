"""OTLP JSON: records to text, and text to records.

Specification: opentelemetry-proto 1.x and its JSON mapping
(https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""
