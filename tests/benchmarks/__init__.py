"""The benchmark; `python -m tests.benchmarks --help` tells how to run it."""
