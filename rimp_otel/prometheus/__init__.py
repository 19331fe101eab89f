"""Metrics for Prometheus: a recording's series, of all its processes, as a page that is scraped.

``names`` translates names and units, ``series`` adds the processes up, ``exposition`` writes the page.
Imports ``storage`` and below; prometheus-client, the extra ``prometheus``, only for the page.
"""
