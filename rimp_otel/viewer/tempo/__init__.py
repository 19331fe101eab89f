"""Tempo's query API and its language, TraceQL, over a recording.

``traceql`` makes a tree (``traceql_tree``) of a query; ``traceql_search`` answers it: by what can be said of
single spans (``viewer/search``, ``span_numbers``), by whole traces (``span_sets``), with series of numbers
(``measures``, ``comparison``). ``queries`` has the routes, ``answers`` their shapes. Imports ``viewer/search``,
rollups and the layers below; needs the extra ``server``.
"""
