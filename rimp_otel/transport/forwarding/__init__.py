"""Forwarding a recording: what ``rimp forward`` and ``TelemetryConfig(forward=…)`` send, and remember.

``sources`` read a recording in portions behind a ``cursor``; ``delivery`` brings each to a ``destination``
(``otlp_http``, ``otlp_grpc``, ``otlp_file``) and says what became of it, which the ``ledger`` counts; ``forwarder``
runs all of it. ``trace_selection`` decides which traces are forwarded. ``resend`` and ``replay`` send again.
"""
