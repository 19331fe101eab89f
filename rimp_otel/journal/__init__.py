"""The journal: the collector's buffer on disk, which no death of the process loses.

``journal`` appends records to the mapped files of ``segment``, in the ``format`` of frames; ``slots``
says which process may, and which files there are. ``open_spans`` and the crash file of
``interrupted`` record what else a dead process was doing. ``slices`` cuts what is in a segment into
what is stored at once, into a ``target``. After a death, ``recovery`` takes over the segments and
``orphans`` the rest; ``reader`` reads what another process has in its journal.

Imports from ``batch``, ``convert``, ``otlp``, ``models`` and below; it knows neither collector nor
storage. Internal, but for ``JournalTarget`` and ``DirectoryTarget``, which a storage of one's own may
return from its hook ``journal_target``.
"""
