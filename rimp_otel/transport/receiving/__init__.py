"""Receiving OTLP: what ``rimp serve`` listens with, and the intake that all requests go into.

``intake`` records requests and says what to answer; ``http_receiver`` and ``grpc_receiver`` read and answer them;
``server`` runs both, at an ``address`` and with a ``security``. Needs the extra ``server`` or ``grpc``.
"""
