"""Answers to the page's questions, as JSON has them: each module has those of one view.

``overview`` answers from rollups, whatever the size of a recording; ``logs``, ``exceptions`` and ``metrics``
read what a window holds, the newest part first, and stop when it takes too long; ``sql`` runs queries in a
sandbox. ``time_steps`` divides time, ``attribute_tests`` and ``line_sieve`` leave out what is not asked for.
Imports the layers below, rollups, the search, and the questions that it answers. Knows nothing of HTTP.
"""
