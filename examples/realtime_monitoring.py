"""Watch every record at once, and raise an alert if the CPU is above 80 percent."""

from __future__ import annotations

from rimp_otel import TelemetryCollector, TelemetryConfig, TelemetryData

alerts: list[str] = []


def alert(message: str) -> None:
    """Page somebody."""
    alerts.append(message)
    print("ALERT", message)


def monitor(data: TelemetryData) -> None:
    for metric in data.metrics:
        if metric.name == "cpu" and metric.value > 80:
            alert(f"High CPU: {metric.value}%")


config = TelemetryConfig(realtime_mode=True)
collector = TelemetryCollector(config)
collector.add_listener(monitor)

for value in (45.2, 79.9, 80.1, 93.4, 12.0):
    collector.collect_metric("cpu", value, "percent")
print(f"{len(alerts)} alerts")
