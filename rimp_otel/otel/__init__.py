"""The ways in from OpenTelemetry: ``install()``, the configurator, the exporters, logging, ``rimp run``.

Imports everything below it. Internal: ``rimp_otel`` exports what is public, and pyproject.toml's entry
points name the exporters and the configurator.
"""
