"""The journal: the collector's buffer on disk, which no death of the process loses."""
