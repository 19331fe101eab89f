"""Write a consumer: any callable that takes a batch. This one keeps a summary."""

from __future__ import annotations

from collections import Counter, defaultdict
from statistics import mean

from rimp_otel import EventType, TelemetryCollector, TelemetryConfig, TelemetryData, TelemetryStream


class Summary:
    """Counts events by type, and averages metrics by name."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self.values: defaultdict[str, list[float]] = defaultdict(list)

    def __call__(self, data: TelemetryData) -> None:
        self.events.update(event.event_type.value for event in data.events)
        for metric in data.metrics:
            self.values[metric.name].append(metric.value)

    def __str__(self) -> str:
        means = {name: round(mean(values), 1) for name, values in self.values.items()}
        return f"{dict(self.events)} {means}"


collector = TelemetryCollector(TelemetryConfig())
stream = TelemetryStream(collector)
summary = Summary()
stream.add_consumer(summary)

with stream:
    for temperature in (19.5, 20.0, 23.5):
        collector.collect_metric("temperature", temperature, "Cel", {"room": "lab"})
    collector.collect_event("lab", "Window opened")
    collector.collect_event("lab", "Sensor silent", EventType.ERROR)

print(summary)
