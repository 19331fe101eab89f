"""A recording for eyes in other programs: query APIs that existing tools speak.

``jaeger`` answers as Jaeger's query service does; ``catalog`` knows which services and operations there
are. Imports everything below; needs the extra ``server`` for its routes. No telemetry logic of its own.
"""
