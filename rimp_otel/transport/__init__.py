"""OTLP over the network: receiving it into a recording, and forwarding a recording to destinations.

Imports: from ``streaming``, ``collector``, ``storage`` and below; nothing of ``otel`` or ``cli``.
"""
