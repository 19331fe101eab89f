"""Tests of ``rimp_otel.storage.clickhouse``, on chDB."""
