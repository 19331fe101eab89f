"""OTLP over the network: receiving it into a recording, and forwarding a recording to destinations.

``receiving`` and ``forwarding`` know nothing of one another; both use what stands here. Imports
``streaming``, ``collector``, ``processing``, ``storage`` and below; nothing of ``otel`` or ``cli``. Internal, but
for the contract of ``forwarding.destination``, which a destination of one's own fulfils.
"""
