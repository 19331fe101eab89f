"""Spans that meet a condition, and the traces that they are in.

``conditions`` says what is wanted, ``patterns`` matches regular expressions, ``span_scan`` looks for it in files or a database, ``trace_search`` makes
traces of it, and ``catalog`` knows which services and operations there are. Imports the layers below,
rollups, and the questions that it answers.
"""
