"""A recording in one SQLite file: writing it (``writer``) and reading it (``recording``, ``query``).

``schema`` has the tables, ``rows`` makes rows of OTLP JSON lines, ``fork_gate`` keeps connections
out of forked children. Imports: from ``storage.base`` and ``storage.reading``, nothing from
``files``. Internal: ``SQLiteStorage`` and ``SQLiteStats`` are public by ``rimp_otel.storage``.
"""
