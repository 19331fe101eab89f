// Sends all signals with the SDK of Node; run where that is installed.
// Arguments: proto, http (JSON) or grpc, and the port. Printed: the ids of the spans, as JSON.
const [protocol, port] = process.argv.slice(2);
const from = (name) => require(require.resolve(name, { paths: [process.cwd()] }));
const api = from("@opentelemetry/api");
const { NodeSDK, resources, logs, metrics, tracing } = from("@opentelemetry/sdk-node");
const { logs: logApi } = from("@opentelemetry/api-logs");
api.diag.setLogger(new api.DiagConsoleLogger(), api.DiagLogLevel.WARN);

const made = (signal, name) => {
  const exporter = from(`@opentelemetry/exporter-${signal}-otlp-${protocol}`)[name];
  const path = { trace: "traces" }[signal] ?? signal;
  const tail = protocol === "grpc" ? "" : `/v1/${path}`;
  return new exporter({ url: `http://127.0.0.1:${port}${tail}` });
};
const sdk = new NodeSDK({
  resource: resources.resourceFromAttributes({ "service.name": "front" }),
  autoDetectResources: false,
  spanProcessors: [new tracing.BatchSpanProcessor(made("trace", "OTLPTraceExporter"))],
  logRecordProcessors: [new logs.BatchLogRecordProcessor({ exporter: made("logs", "OTLPLogExporter") })],
  metricReaders: [
    new metrics.PeriodicExportingMetricReader({
      exporter: made("metrics", "OTLPMetricExporter"),
      exportIntervalMillis: 3600000,
    }),
  ],
});
sdk.start();
const tracer = api.trace.getTracer("peer", "3");
const ids = [];
// As many as make a request of several chunks.
for (let number = 0; number < 400; number++) {
  const span = tracer.startSpan("click", { kind: api.SpanKind.CLIENT, attributes: { number, text: "x".repeat(500) } });
  ids.push([span.spanContext().traceId, span.spanContext().spanId]);
  span.addEvent("pressed", { button: "left" });
  span.setStatus({ code: api.SpanStatusCode.ERROR, message: "too slow" });
  span.end();
}
logApi.getLogger("peer").emit({ severityNumber: 13, severityText: "WARN", body: { clicked: [1, "two"] }, attributes: { page: "/" } });
const meter = api.metrics.getMeter("peer");
meter.createCounter("clicks", { unit: "1" }).add(400, { page: "/" });
meter.createHistogram("wait", { unit: "ms" }).record(12.5);
sdk.shutdown().then(() => console.log(JSON.stringify(ids)));
