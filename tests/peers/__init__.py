"""Programs of other people that send and take OTLP, against ours over real sockets.

``python -m tests.peers install DIRECTORY`` makes an environment of them, which the tests find by the
variable ``RIMP_PEERS``; without it they look where this interpreter is. What is not there is skipped.
"""
