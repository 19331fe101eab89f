"""The numbers of records by time and operation, so that answers about many records take no longer.

``rollup`` says what there is, ``builder`` counts lines, ``rollup_file`` keeps what was counted of a sealed file beside it, and ``store`` has
the rollups of a whole recording. Imports the layers below, and the questions that it answers.
"""
