"""SQL over recordings, and Parquet."""
