"""SQL over recordings, and the Parquet twins of sealed files. Needs the extra ``sql``."""

from rimp_otel.sql.connection import Connection, connect

__all__ = ["Connection", "connect"]
