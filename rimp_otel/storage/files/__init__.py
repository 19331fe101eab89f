"""A recording in files of OTLP JSON lines, from the first line to the deletion of the last file.

Writing: ``storage`` and ``journal_target`` append through ``writer`` and ``appender``; ``sealer``
has rotated files compressed (``sealed_file``), indexed (``index``), deleted in the end
(``retention``) and copied to Parquet (``parquet_job``). Reading: ``recording`` polls, ``query``
answers questions, both by ``snapshot``, ``view``, ``chunks`` and ``lines``. Looking after: ``verify``
finds what is wrong, ``repair`` and ``rewrite`` repair it. ``layout`` has the names of all files.
Imports: from ``storage.base``, ``storage.reading`` and ``storage.slots``, nothing from ``sqlite``.
Internal: ``FileStorage`` and ``FileStats`` are public by ``rimp_otel.storage``.
"""
