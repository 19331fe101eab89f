"""Records in ClickHouse, in the tables of the OpenTelemetry Collector's exporter.

``schema`` has the tables, ``rows`` makes rows of OTLP JSON lines and ``records`` records of rows; ``connection``
talks to the server, ``writer`` inserts, ``query`` asks. Imports: from ``storage.base`` and below, nothing from
``files`` and ``sqlite``; the client library is the extra ``clickhouse``, imported when a server is asked for the
first time. Internal: ``ClickHouseStorage`` is public by ``rimp_otel.storage``.
"""
