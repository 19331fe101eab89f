"""The ``rimp`` command: what it records, and what it shows of recordings.

Modules here import no SDK when they are imported, so that ``rimp --help`` answers at once; what a
command needs, it imports when it runs.
"""
