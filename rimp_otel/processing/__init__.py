"""What is done with records between their source and their destination: deciding which are kept.

``probability`` is OpenTelemetry's consistent probability sampling, by the trace state; ``trace_rules``
decides about whole traces by rules in a small language. Imports ``models``, ``otlp`` and below; knows
nothing of recordings or networks.
"""
