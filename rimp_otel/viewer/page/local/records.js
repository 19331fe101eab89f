/**
 * Records in memory: spans, log records and points of metrics out of lines of OTLP JSON.
 *
 * Times are numbers of nanoseconds since `base`, the first time that was read: exact within 104 days of it.
 * @module
 */
import { makePauses } from "./files.js";
import { levelOf, readValue, toPlain } from "../otlp.js";

const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"];
const STATUSES = ["unset", "ok", "error"];
const DATA_OF_TYPE = [
  ["gauge", "gauge"],
  ["sum", "sum"],
  ["histogram", "histogram"],
  ["exponentialHistogram", "exponential_histogram"],
  ["summary", "summary"],
];

/**
 * Return the value of an OTLP AnyValue as plain data.
 * @param {object|undefined} value
 */
export function plainValue(value) {
  return toPlain(readValue(value));
}

/**
 * Return plain data as text: a string as it is, all else as JSON.
 * @param {*} value
 */
export function plainText(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/**
 * Return the plain value of one of the attributes.
 * @param {Array<{key: string, value: object}>|undefined} attributes
 * @param {string} key
 * @returns {*} undefined if it is not there
 */
export function plainAttribute(attributes, key) {
  const found = attributes?.find((attribute) => attribute.key === key);
  return found && plainValue(found.value);
}

/**
 * Return the items by their keys, in the order of the first of each.
 * @param {any[]} items
 * @param {function(any): string} keyOf
 * @returns {Map<string, any[]>}
 */
export function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    const group = groups.get(key);
    if (group) group.push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

function enumName(value, names, prefix) {
  if (typeof value === "string" && value.startsWith(prefix)) {
    return value.slice(prefix.length).toLowerCase();
  }
  return names[Number(value ?? 0)] ?? names[0];
}

/** Records that lines of OTLP JSON are added to. */
export class LocalRecords {
  constructor() {
    /** @type {bigint|null} */
    this.base = null;
    this.spans = [];
    this.logs = [];
    /** Metrics by name, unit and type. */
    this.metrics = new Map();
    /** Spans and log records of each trace, by its id. */
    this.traces = new Map();
    this.first = Infinity;
    this.last = -Infinity;
    this.points = 0;
    this.damaged = 0;
  }

  /** The number of records. */
  get count() {
    return this.spans.length + this.logs.length + this.points;
  }

  /**
   * Add the records of a line; one that is no OTLP JSON is counted as damaged.
   * @param {string} line
   */
  addLine(line) {
    try {
      const data = JSON.parse(line);
      const parts = [data.resourceSpans, data.resourceLogs, data.resourceMetrics];
      if (!parts.some(Array.isArray)) throw new TypeError("no OTLP");
      for (const resourceSpans of data.resourceSpans ?? []) this.addSpans(resourceSpans);
      for (const resourceLogs of data.resourceLogs ?? []) this.addLogs(resourceLogs);
      for (const resourceMetrics of data.resourceMetrics ?? []) this.addMetrics(resourceMetrics);
    } catch {
      this.damaged += 1;
    }
  }

  /** Sort what was added: call it once, after the last line. */
  async sort() {
    const pause = makePauses();
    this.spans.sort((a, b) => a.start - b.start);
    await pause();
    this.logs.sort((a, b) => a.time - b.time);
    for (const metric of this.metrics.values()) {
      for (const series of metric.series.values()) {
        series.points.sort((a, b) => a.time - b.time);
        await pause();
      }
    }
    for (const trace of this.traces.values()) {
      describeTrace(trace);
      await pause();
    }
  }

  /**
   * Return a time as decimal text of nanoseconds since the epoch.
   * @param {number} relative nanoseconds since `base`
   */
  absolute(relative) {
    return String((this.base ?? 0n) + BigInt(Math.round(relative)));
  }

  /**
   * Return nanoseconds since `base`.
   * @param {string|number|bigint|null|undefined} text nanoseconds since the epoch
   * @param {number} otherwise for no time
   */
  relative(text, otherwise = 0) {
    if (text === undefined || text === null || text === "") return otherwise;
    return Number(BigInt(text) - (this.base ?? 0n));
  }

  timeOf(text) {
    const time = BigInt(text ?? 0);
    if (!time) return this.base === null ? 0 : Number(-this.base);
    this.base ??= time;
    const relative = Number(time - this.base);
    this.first = Math.min(this.first, relative);
    this.last = Math.max(this.last, relative);
    return relative;
  }

  traceOf(id) {
    let trace = this.traces.get(id);
    if (!trace) this.traces.set(id, (trace = { id, spans: [], logs: [] }));
    return trace;
  }

  addSpans(resourceSpans) {
    const resource = resourceOf(resourceSpans);
    for (const scopeSpans of resourceSpans.scopeSpans ?? []) {
      for (const raw of scopeSpans.spans ?? []) this.addSpan(raw, resource, scopeSpans);
    }
  }

  addSpan(raw, resource, scope) {
    const traceId = String(raw.traceId ?? "").toLowerCase();
    const start = this.timeOf(raw.startTimeUnixNano);
    const span = {
      raw,
      resource,
      scope,
      start,
      duration: raw.endTimeUnixNano ? Math.max(this.timeOf(raw.endTimeUnixNano) - start, 0) : 0,
      traceId,
      spanId: String(raw.spanId ?? "").toLowerCase(),
      parentId: String(raw.parentSpanId ?? "").toLowerCase(),
      name: String(raw.name ?? ""),
      kind: enumName(raw.kind, KINDS, "SPAN_KIND_"),
      status: enumName(raw.status?.code, STATUSES, "STATUS_CODE_"),
    };
    this.spans.push(span);
    this.traceOf(traceId).spans.push(span);
  }

  addLogs(resourceLogs) {
    const resource = resourceOf(resourceLogs);
    for (const scopeLogs of resourceLogs.scopeLogs ?? []) {
      for (const raw of scopeLogs.logRecords ?? []) this.addLog(raw, resource, scopeLogs);
    }
  }

  addLog(raw, resource, scope) {
    const traceId = String(raw.traceId ?? "").toLowerCase();
    const hasTime = raw.timeUnixNano && raw.timeUnixNano !== "0";
    const severity = Number(raw.severityNumber ?? 0) || 0;
    const log = {
      raw,
      resource,
      scope,
      time: this.timeOf(hasTime ? raw.timeUnixNano : raw.observedTimeUnixNano),
      severity,
      level: levelOf(severity),
      traceId,
    };
    this.logs.push(log);
    if (traceId) this.traceOf(traceId).logs.push(log);
  }

  addMetrics(resourceMetrics) {
    const resource = resourceOf(resourceMetrics);
    for (const { metrics } of resourceMetrics.scopeMetrics ?? []) {
      for (const raw of metrics ?? []) this.addMetric(raw, resource);
    }
  }

  addMetric(raw, resource) {
    const found = DATA_OF_TYPE.find(([field]) => raw[field]);
    if (!found) return;
    const [field, type] = found;
    const data = raw[field];
    const key = JSON.stringify([raw.name, raw.unit ?? "", type]);
    let metric = this.metrics.get(key);
    if (!metric) {
      metric = {
        name: String(raw.name ?? ""),
        unit: raw.unit ?? "",
        description: raw.description ?? "",
        type,
        isMonotonic: data.isMonotonic === true,
        isDelta: enumName(data.aggregationTemporality, ["", "delta", ""], "AGGREGATION_TEMPORALITY_") === "delta",
        services: new Set(),
        series: new Map(),
        points: 0,
      };
      this.metrics.set(key, metric);
    }
    metric.services.add(resource.service);
    for (const point of data.dataPoints ?? []) this.addPoint(metric, point, resource);
  }

  addPoint(metric, point, resource) {
    const key = `${resource.key} ${JSON.stringify(point.attributes ?? [])}`;
    let series = metric.series.get(key);
    if (!series) {
      series = { resource, attributes: point.attributes ?? [], points: [] };
      metric.series.set(key, series);
    }
    const time = this.timeOf(point.timeUnixNano);
    // A start before the first record is no time of the recording.
    const start = point.startTimeUnixNano ? Number(BigInt(point.startTimeUnixNano) - (this.base ?? 0n)) : null;
    series.points.push({ time, start, raw: point });
    metric.points += 1;
    this.points += 1;
  }
}

function resourceOf(part) {
  const attributes = part.resource?.attributes ?? [];
  return {
    part,
    attributes,
    service: String(plainAttribute(attributes, "service.name") ?? ""),
    key: JSON.stringify(attributes),
  };
}

/** Note the root, the times and the services of a trace; a trace of log records alone has no root. */
function describeTrace(trace) {
  if (!trace.spans.length) return;
  trace.spans.sort((a, b) => a.start - b.start);
  const ids = new Set(trace.spans.map((span) => span.spanId));
  for (const span of trace.spans) span.isRoot = !span.parentId;
  trace.root =
    trace.spans.find((span) => span.isRoot) ??
    trace.spans.find((span) => !ids.has(span.parentId)) ??
    trace.spans[0];
  trace.start = trace.spans[0].start;
  trace.end = trace.spans.reduce((end, span) => Math.max(end, span.start + span.duration), trace.start);
  trace.errors = 0;
  trace.services = new Map();
  for (const span of trace.spans) {
    const counts = trace.services.get(span.resource.service) ?? { spans: 0, errors: 0 };
    counts.spans += 1;
    if (span.status === "error") {
      counts.errors += 1;
      trace.errors += 1;
    }
    trace.services.set(span.resource.service, counts);
  }
  trace.isInterrupted = trace.spans.some((span) => plainAttribute(span.raw.attributes, "rimp.interrupted"));
}
