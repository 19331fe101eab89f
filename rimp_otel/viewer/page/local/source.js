/**
 * A source of data without a server: records of files that were dropped on the page, or that are part of it.
 *
 * It answers as `RemoteSource` does, out of memory.
 * @module
 */
import { parseDuration } from "../format.js";
import { findChanges } from "./changes.js";
import { makeMatcher } from "./conditions.js";
import { exceptionsIn } from "./exceptions.js";
import {
  countDurations, countLevels, isRequest, LEVELS, makeGrid, niceStep, seriesOf, stepOf, summarize,
} from "./figures.js";
import { makePauses, readLines } from "./files.js";
import { metricSeries } from "./metrics.js";
import { groupBy, LocalRecords, plainAttribute, plainText, plainValue } from "./records.js";
import { readValue } from "../otlp.js";

const STEPS = 60;
const MAX_VALUES = 1000;

/** Records in memory that answer the questions of the views. */
export class LocalSource {
  /**
   * @param {LocalRecords} records sorted
   * @param {string} title what they are, for people
   */
  constructor(records, title) {
    this.records = records;
    this.title = title;
    this.isLocal = true;
  }

  /**
   * Read files: OTLP JSON lines, plain, gzip or zstd.
   * @param {Iterable<File>} files
   * @param {function({done: number, total: number, records: number})} onProgress bytes and records so far
   * @returns {Promise<LocalSource>}
   * @throws {Error} there is no record in them
   */
  static async fromFiles(files, onProgress = () => {}) {
    const list = [...files];
    const total = list.reduce((sum, file) => sum + file.size, 0);
    const records = new LocalRecords();
    let before = 0;
    for (const file of list) {
      const report = (read) => onProgress({ done: before + read, total, records: records.count });
      records.damaged += await readLines(file, (line) => records.addLine(line), report);
      before += file.size;
    }
    const names = list.map((file) => file.name).join(", ");
    if (!records.count) {
      const reason = records.damaged ? `none of its ${records.damaged} lines can be read` : "there is no line in it";
      throw new Error(`${names} holds no records: ${reason}. Choose files of OTLP JSON lines (.jsonl, .jsonl.zst, .jsonl.gz).`);
    }
    await records.sort();
    return new LocalSource(records, names);
  }

  /**
   * Read the records that are part of the page: lines of OTLP JSON, or those in gzip and base64.
   * @param {HTMLScriptElement} element
   * @returns {Promise<LocalSource>}
   */
  static async fromElement(element) {
    const isCompressed = element.dataset.encoding === "gzip+base64";
    const content = isCompressed ? bytesOfBase64(element.textContent) : element.textContent;
    const records = new LocalRecords();
    const blob = new Blob([content]);
    records.damaged += await readLines(blob, (line) => records.addLine(line), () => {});
    await records.sort();
    return new LocalSource(records, element.dataset.title ?? "");
  }

  /** What the records are, and from when to when. */
  async info() {
    const { records } = this;
    const hasTimes = records.last >= records.first;
    return {
      path: this.title,
      backend: "memory",
      version: "",
      first: hasTimes ? records.absolute(records.first) : null,
      last: hasTimes ? records.absolute(records.last) : null,
      now: hasTimes ? records.absolute(records.last) : null,
      services: this.serviceNames(),
      has_sql: false,
      losses: this.losses(records.spans),
    };
  }

  /** Rates, errors and durations of each service. */
  async overview(parameters) {
    const window = this.windowOf(parameters);
    const grid = makeGrid(window, STEPS);
    const spans = this.spansIn(window);
    const services = [...groupBy(spans, ({ resource }) => resource.service)].map(([name, members]) => {
      const requests = members.filter(isRequest);
      return {
        name,
        spans: members.length,
        operations: new Set(members.map((span) => span.name)).size,
        ...summarize(requests.length ? requests : members, window),
        requests: requests.length,
        series: seriesOf(requests, grid),
      };
    });
    const levels = countLevels(this.logsIn(window));
    return {
      ...this.rangeOf(grid),
      services: services.sort((a, b) => b.requests - a.requests || compareText(a.name, b.name)),
      changes: findChanges(this.spansIn({ from: 2 * window.from - window.to, to: window.from }), spans),
      logs: { warn: levels.warn, error: levels.error, fatal: levels.fatal },
      losses: this.losses(spans),
    };
  }

  /** The operations of a service. */
  async operations(parameters) {
    const window = this.windowOf(parameters);
    const spans = this.spansIn(window).filter(isOfService(parameters.service));
    const groups = groupBy(spans, ({ resource, name, kind }) => JSON.stringify([resource.service, name, kind]));
    const operations = [...groups].map(([key, members]) => {
      const [service, name, kind] = JSON.parse(key);
      return { service, name, kind, spans: members.length, ...summarize(members, window) };
    });
    return { operations: operations.sort((a, b) => b.spans - a.spans || compareText(a.name, b.name)) };
  }

  /** The newest traces that have a span which fulfils all conditions. */
  async findTraces(parameters) {
    const matches = spanMatcher(parameters);
    const matched = new Map();
    const spans = this.spansIn(this.windowOf(parameters));
    const pause = makePauses();
    for (const span of spans) {
      if (!matches(span)) continue;
      if (!matched.has(span.traceId)) matched.set(span.traceId, []);
      matched.get(span.traceId).push(span.spanId);
      await pause();
    }
    const found = [...matched.keys()].map((id) => this.records.traces.get(id));
    found.sort((a, b) => b.start - a.start);
    const limit = Number(parameters.limit ?? 20);
    const traces = found.slice(0, limit).map((trace) => ({
      trace_id: trace.id,
      root_service: trace.root.resource.service,
      root_name: trace.root.name,
      start: this.records.absolute(trace.start),
      duration: trace.end - trace.start,
      spans: trace.spans.length,
      errors: trace.errors,
      services: [...trace.services].map(([name, counts]) => ({ name, ...counts })),
      is_interrupted: trace.isInterrupted,
      matched: matched.get(trace.id),
    }));
    return { traces, is_complete: found.length <= limit, spans_read: spans.length };
  }

  /** How many spans took how long over time: of an operation or a kind, or else of requests. */
  async traceDurations(parameters) {
    const { operation, kind, status } = parameters;
    const grid = makeGrid(this.windowOf(parameters), STEPS);
    const matches = spanMatcher(parameters);
    const spans = this.spansIn(grid).filter((span) => matches(span) && (operation || kind || isRequest(span)));
    const rows = countDurations(spans, grid);
    if (status && status !== "error") rows.errors = rows.errors.map((row) => row.map(() => 0));
    return { ...this.rangeOf(grid), ...rows };
  }

  /** One trace with its log records, in OTLP JSON. */
  async trace(traceId) {
    const trace = this.records.traces.get(traceId.toLowerCase());
    if (!trace) {
      const error = new Error(`There is no trace ${traceId} in ${this.title}.`);
      throw Object.assign(error, { status: 404 });
    }
    return {
      traces: { resourceSpans: wrap(trace.spans, "scopeSpans", "spans") },
      logs: { resourceLogs: wrap(trace.logs, "scopeLogs", "logRecords") },
    };
  }

  /** The keys of attributes, and how often each is there. */
  async attributes(parameters) {
    const counts = new Map();
    for (const { scope, key, value } of this.attributesIn(parameters)) {
      const { type } = readValue(value);
      const id = JSON.stringify([scope, key, type]);
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    const keys = [...counts].map(([id, count]) => {
      const [scope, key, type] = JSON.parse(id);
      return { scope, key, type, count };
    });
    return { keys: keys.sort((a, b) => b.count - a.count || compareText(a.key, b.key)) };
  }

  /** The values of one attribute that begin with a prefix. */
  async attributeValues(parameters) {
    const { scope, key, prefix = "", limit = MAX_VALUES } = parameters;
    const counts = new Map();
    for (const attribute of this.attributesIn(parameters)) {
      if (attribute.key !== key || (scope && scope !== "any" && attribute.scope !== scope)) continue;
      const { type } = readValue(attribute.value);
      const value = plainValue(attribute.value);
      if (!plainText(value).startsWith(prefix)) continue;
      const id = JSON.stringify([type, value]);
      const known = counts.get(id) ?? { type, value, count: 0 };
      known.count += 1;
      counts.set(id, known);
    }
    return { values: [...counts.values()].sort((a, b) => b.count - a.count).slice(0, Number(limit)) };
  }

  /** A page of log records, the oldest first. */
  async logs(parameters) {
    const matching = this.matchingLogs(parameters);
    const limit = Number(parameters.limit ?? 500);
    const { before, after } = parameters;
    // A cursor is a position among all log records.
    let chosen = matching;
    if (before) chosen = matching.filter(({ index }) => index < Number(before));
    if (after) chosen = matching.filter(({ index }) => index > Number(after)).slice(0, limit);
    const page = chosen.slice(-limit);
    const older = page.length && page[0].index > (matching[0]?.index ?? 0) ? page[0].index : null;
    const records = page.map(({ log }) => log);
    return {
      logs: { resourceLogs: wrap(records, "scopeLogs", "logRecords") },
      count: records.length,
      older: older === null ? null : String(older),
      newer: String(page.at(-1)?.index ?? after ?? this.records.logs.length - 1),
      is_complete: true,
    };
  }

  /** How many log records of each level there are over time. */
  async logHistogram(parameters) {
    const grid = makeGrid(this.windowOf(parameters), Number(parameters.steps ?? STEPS));
    const series = Object.fromEntries(LEVELS.map((level) => [level, new Array(grid.steps).fill(0)]));
    for (const { log } of this.matchingLogs(parameters)) {
      const at = stepOf(grid, log.time);
      if (at !== null) series[log.level][at] += 1;
    }
    return { ...this.rangeOf(grid), series };
  }

  /** Exceptions by type and place. */
  async errors(parameters) {
    const window = this.windowOf(parameters);
    const grid = makeGrid(window, STEPS);
    const found = exceptionsIn(this.spansIn(window), this.logsIn(window), this.records);
    const groups = groupBy(found.filter(isOfService(parameters.service)), (error) =>
      JSON.stringify([error.resource.service, error.type, error.place]),
    );
    const errors = [...groups.values()].map((members) => {
      const times = members.map(({ time }) => time);
      const sample = members.findLast(({ stack }) => stack) ?? members.at(-1);
      const series = new Array(grid.steps).fill(0);
      for (const time of times) {
        const at = stepOf(grid, time);
        if (at !== null) series[at] += 1;
      }
      return {
        type: sample.type,
        message: sample.message,
        place: sample.place,
        service: sample.resource.service,
        name: sample.name,
        stack: sample.stack,
        count: members.length,
        first: this.records.absolute(least(times)),
        last: this.records.absolute(greatest(times)),
        trace_id: sample.traceId,
        span_id: sample.spanId,
        series,
      };
    });
    return { errors: errors.sort((a, b) => b.count - a.count), ...this.rangeOf(grid) };
  }

  /** The metrics that have points. */
  async metrics(parameters) {
    const { from, to } = this.windowOf(parameters);
    const metrics = [];
    for (const metric of this.records.metrics.values()) {
      const counts = [...metric.series.values()].map(
        ({ points }) => points.filter(({ time }) => time >= from && time < to).length,
      );
      const points = counts.reduce((sum, count) => sum + count, 0);
      if (!points) continue;
      metrics.push({
        name: metric.name,
        unit: metric.unit,
        description: metric.description,
        type: metric.type,
        is_monotonic: metric.isMonotonic,
        temporality: ["gauge", "summary"].includes(metric.type) ? null : metric.isDelta ? "delta" : "cumulative",
        services: [...metric.services].sort(compareText),
        series: counts.filter(Boolean).length,
        points,
      });
    }
    return { metrics: metrics.sort((a, b) => compareText(a.name, b.name)) };
  }

  /** One metric over time. */
  async metricSeries(parameters) {
    const { name, service, by = [], attr = [] } = parameters;
    const metric = [...this.records.metrics.values()].find((one) => one.name === name);
    if (!metric) {
      throw Object.assign(new Error(`There is no metric "${name}" in ${this.title}.`), { status: 404 });
    }
    const matches = makeMatcher(attr);
    const chosen = [...metric.series.values()].filter(
      (series) => isOfService(service)(series) && matches({ ...series, raw: series }),
    );
    const { from, to } = this.windowOf(parameters);
    const step = Number(parameters.step ?? 0) || niceStep((to - from) / (2 * STEPS));
    return metricSeries(this.records, metric, chosen, { from, to, step, by: [by].flat() });
  }

  /** The services and the calls between them. */
  async map(parameters) {
    const window = this.windowOf(parameters);
    const spans = this.spansIn(window);
    const edges = new Map();
    for (const span of spans) {
      const parent = this.parentOf(span);
      const [from, to] = [parent?.resource.service, span.resource.service];
      if (!parent || from === to) continue;
      const key = JSON.stringify([from, to]);
      if (!edges.has(key)) edges.set(key, { from, to, members: [] });
      edges.get(key).members.push(span);
    }
    const services = [...groupBy(spans, ({ resource }) => resource.service)].map(([name, members]) => {
      const requests = members.filter(isRequest);
      const { errors, p99 } = summarize(requests, window);
      return { name, requests: requests.length, errors, p99 };
    });
    return {
      services: services.sort((a, b) => compareText(a.name, b.name)),
      edges: [...edges.values()].map(({ from, to, members }) => {
        const { errors, p50, p99 } = summarize(members, window);
        return { from, to, calls: members.length, errors, p50, p99 };
      }),
    };
  }

  /** Refuse: there is no database in the page. */
  async sql() {
    throw new Error("SQL needs a recording that `rimp ui` shows: `rimp import` makes one of files.");
  }

  /** No tables: there is no database in the page. */
  async sqlSchema() {
    return { tables: [] };
  }

  /** Records in memory do not change: nothing is ever reported. */
  onChange() {
    return () => {};
  }

  serviceNames() {
    const { spans, logs, metrics } = this.records;
    const names = new Set([...spans, ...logs].map(({ resource }) => resource.service));
    for (const metric of metrics.values()) for (const name of metric.services) names.add(name);
    return [...names].sort(compareText);
  }

  losses(spans) {
    const interrupted = spans.filter(({ raw }) => plainAttribute(raw.attributes, "rimp.interrupted"));
    return { dropped: {}, interrupted: interrupted.length, damaged: this.records.damaged };
  }

  /** Return the window as numbers since the base of the records; its end is exclusive. */
  windowOf({ from, to }) {
    const { records } = this;
    const [first, last] = records.last >= records.first ? [records.first, records.last] : [0, 1];
    return { from: records.relative(from, first), to: records.relative(to, last + 1) };
  }

  rangeOf({ from, to, step }) {
    return { from: this.records.absolute(from), to: this.records.absolute(to), step };
  }

  spansIn({ from, to }) {
    const { spans } = this.records;
    const at = (time) => lowerBound(spans, time, (span) => span.start);
    return spans.slice(at(from), at(to));
  }

  logsIn({ from, to }) {
    const { logs } = this.records;
    const at = (time) => lowerBound(logs, time, (log) => log.time);
    return logs.slice(at(from), at(to));
  }

  matchingLogs(parameters) {
    const { service, min_severity: severity = 0, text = "", attr = [], trace_id: traceId } = parameters;
    const { from, to } = this.windowOf(parameters);
    const matches = makeMatcher([attr].flat());
    const wanted = text.toLowerCase();
    const first = lowerBound(this.records.logs, from, (log) => log.time);
    const found = [];
    for (let index = first; index < this.records.logs.length; index += 1) {
      const log = this.records.logs[index];
      if (log.time >= to) break;
      if (service && log.resource.service !== service) continue;
      if (log.severity < Number(severity) || (traceId && log.traceId !== traceId)) continue;
      if ((!wanted || textOfLog(log).includes(wanted)) && matches(log)) found.push({ index, log });
    }
    return found;
  }

  *attributesIn(parameters) {
    const window = this.windowOf(parameters);
    const { signal = "traces" } = parameters;
    if (signal === "traces") yield* attributesOf(this.spansIn(window), "span");
    if (signal === "logs") yield* attributesOf(this.logsIn(window), "log");
    if (signal !== "metrics") return;
    for (const metric of this.records.metrics.values()) {
      if (parameters.name && metric.name !== parameters.name) continue;
      const points = [...metric.series.values()].map((series) => ({ ...series, raw: series }));
      yield* attributesOf(points, "metric");
    }
  }

  parentOf({ traceId, parentId }) {
    const trace = this.records.traces.get(traceId);
    trace.byId ??= new Map(trace.spans.map((span) => [span.spanId, span]));
    return parentId ? trace.byId.get(parentId) : undefined;
  }
}

function bytesOfBase64(text) {
  return Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
}

// Order and choice.

function isOfService(service) {
  return ({ resource }) => !service || resource.service === service;
}

function compareText(a, b) {
  return a < b ? -1 : Number(a > b);
}

function least(values) {
  return values.reduce((found, value) => Math.min(found, value), Infinity);
}

function greatest(values) {
  return values.reduce((found, value) => Math.max(found, value), -Infinity);
}

/** Return the index of the first item whose key is not below `key`. */
function lowerBound(items, key, keyOf) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (keyOf(items[middle]) < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

// Conditions.

function spanMatcher({ service, operation, kind, status, min_duration, max_duration, attr = [], q }) {
  const isFulfilled = makeMatcher([attr].flat());
  const shortest = parseDuration(min_duration ?? "") ?? Number(min_duration || 0);
  const longest = parseDuration(max_duration ?? "") ?? Number(max_duration || Infinity);
  if (q) throw new Error("TraceQL needs a recording that `rimp ui` shows: use the filters here.");
  return (span) =>
    (!service || span.resource.service === service) &&
    (!operation || span.name === operation) &&
    (!kind || span.kind === kind) &&
    (!status || span.status === status) &&
    span.duration >= shortest &&
    span.duration <= longest &&
    isFulfilled(span);
}

function textOfLog(log) {
  log.text ??= [
    plainText(plainValue(log.raw.body)),
    log.raw.eventName ?? "",
    ...(log.raw.attributes ?? []).map(({ key, value }) => `${key}=${plainText(plainValue(value))}`),
  ]
    .join("\n")
    .toLowerCase();
  return log.text;
}

function* attributesOf(records, scope) {
  for (const { raw, resource, scope: envelope } of records) {
    for (const { key, value } of raw.attributes ?? []) yield { scope, key, value };
    for (const { key, value } of resource.attributes) yield { scope: "resource", key, value };
    const instrumentation = envelope?.scope?.name;
    if (instrumentation) {
      yield { scope: "instrumentation", key: "name", value: { stringValue: instrumentation } };
    }
    for (const event of raw.events ?? []) {
      for (const { key, value } of event.attributes ?? []) yield { scope: "event", key, value };
    }
  }
}

// OTLP JSON.

/** Return records in their envelopes: one for each run of records that share one. */
function wrap(records, scopesName, recordsName) {
  const outer = [];
  let last = null;
  for (const { raw, resource, scope } of records) {
    if (last?.resource !== resource || last.scope !== scope) {
      const inner = { scope: scope.scope, schemaUrl: scope.schemaUrl, [recordsName]: [] };
      outer.push({ resource: resource.part.resource, schemaUrl: resource.part.schemaUrl, [scopesName]: [inner] });
      last = { resource, scope, inner };
    }
    last.inner[recordsName].push(raw);
  }
  return outer;
}
