"""Programs of other people, with and without a recorder: ``python -m tests.strangers``.

Projects are made by the frameworks' own generators, or typed from the first page of their manual, and run
twice: as they are, and under ``rimp run``. Both runs must print the same, answer the same and end the same;
the recording must hold each answered request once.
"""
