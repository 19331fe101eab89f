"""Jaeger's query API over a recording: version 1, which Grafana asks, and version 3, which has OTLP JSON.

Imports ``viewer/search`` and the layers below; needs the extra ``server``.
"""
