/** Traces and spans as texts for other tools: files, queries, requests. */

import { attributeOf, plainAttributes, textOfValue } from "../otlp.js";

/** Return a trace as lines of OTLP JSON, which `rimp import` and this page read. */
export function writeOtlp({ traces, logs }) {
  const lines = [traces, logs].filter((data) => data && Object.values(data).some((list) => list?.length));
  return lines.map((data) => JSON.stringify(data) + "\n").join("");
}

/**
 * Return a trace in Chrome's Trace Event Format, for ui.perfetto.dev and speedscope: a process for each service, and as
 * many threads as it takes that spans nest.
 *
 * @param {import("./model.js").Trace} trace
 */
export function writeChromeTrace(trace) {
  const events = [];
  const processes = new Map(trace.services.map(({ name }, index) => [name, index + 1]));
  for (const [name, pid] of processes) {
    events.push({ name: "process_name", ph: "M", pid, tid: 0, args: { name: name || "(no service name)" } });
  }
  const lanes = new Map();
  for (const node of trace.nodes) {
    const { span } = node;
    const pid = processes.get(span.service);
    if (!lanes.has(pid)) lanes.set(pid, []);
    const place = { pid, tid: takeLane(lanes.get(pid), node) + 1, cat: span.kind };
    const args = { ...plainAttributes(span.attributes), span_id: span.spanId, parent_id: span.parentId, status: span.status };
    events.push({ ...place, name: span.name, ph: "X", ts: node.offset / 1000, dur: node.duration / 1000, args });
    for (const event of span.events) {
      const ts = Number(event.time - trace.start) / 1000;
      events.push({ ...place, name: event.name, ph: "i", s: "t", ts, args: plainAttributes(event.attributes) });
    }
  }
  const otherData = { trace_id: trace.id, start_unix_nano: String(trace.start) };
  return JSON.stringify({ displayTimeUnit: "ms", otherData, traceEvents: events });
}

/** Return the first lane in which the node nests; each lane is the stack of the ends that are open there. */
function takeLane(lanes, node) {
  const end = node.offset + node.duration;
  const fits = (open) => {
    while (open.length && open.at(-1) <= node.offset) open.pop();
    return !open.length || end <= open.at(-1);
  };
  let lane = lanes.findIndex(fits);
  if (lane < 0) lane = lanes.push([]) - 1;
  lanes[lane].push(end);
  return lane;
}

/** Return a span as JSON for people: plain values, times in nanoseconds as text. */
export function writeSpanJson(span) {
  const { traceId, spanId, parentId, name, kind, service, status, statusMessage, scope } = span;
  return JSON.stringify(
    {
      trace_id: traceId, span_id: spanId, parent_id: parentId, name, kind, service, start: String(span.start),
      end: String(span.end), status, status_message: statusMessage, attributes: plainAttributes(span.attributes),
      events: span.events.map((event) => ({
        name: event.name, time: String(event.time), attributes: plainAttributes(event.attributes),
      })),
      links: span.links.map((link) => ({
        trace_id: link.traceId, span_id: link.spanId, attributes: plainAttributes(link.attributes),
      })),
      resource: plainAttributes(span.resource.attributes),
      scope: { name: scope.name, version: scope.version, attributes: plainAttributes(scope.attributes) },
    },
    null,
    2,
  );
}

/** Return the query for `rimp sql` that finds this span. */
export function writeSpanSql(span) {
  return `SELECT * FROM otel_traces\nWHERE TraceId = ${quoteSql(span.traceId)} AND SpanId = ${quoteSql(span.spanId)}`;
}

/** Return the query for `rimp sql` that finds spans with this attribute. */
export function writeAttributeSql(attribute, column) {
  const condition = `${column}[${quoteSql(attribute.key)}] = ${quoteSql(textOfValue(attribute))}`;
  return `SELECT * FROM otel_traces\nWHERE ${condition}\nORDER BY Timestamp DESC LIMIT 100`;
}

function quoteSql(text) {
  return `'${String(text).replaceAll("'", "''")}'`;
}

/** Return the command that asks this server for the trace. */
export function writeTraceCurl(traceId, base, hasToken) {
  const header = hasToken ? ` \\\n  -H "Authorization: Bearer $RIMP_TOKEN"` : "";
  return `curl ${quoteShell(new URL(`traces/${traceId}`, base).href)}${header}`;
}

/** Return the command that makes the HTTP request of this span again; null if it is none. */
export function writeRequestCurl(span) {
  const get = (...keys) => keys.map((key) => attributeOf(span.attributes, key)).find((value) => value !== undefined);
  const method = get("http.request.method", "http.method");
  const url = get("url.full", "http.url") ?? urlOf(get);
  if (!method || !url) return null;
  const headers = span.attributes
    .filter(({ key }) => /^http\.request\.header\.[\w-]+$/.test(key))
    .map((attribute) => ` \\\n  --header ${quoteShell(`${attribute.key.slice(20)}: ${headerOf(attribute)}`)}`);
  return `curl --request ${quoteShell(String(method))} --url ${quoteShell(String(url))}${headers.join("")}`;
}

function urlOf(get) {
  const host = get("server.address", "http.host", "net.host.name");
  const path = get("url.path", "http.target");
  if (!host || !path) return null;
  const port = get("server.port", "net.host.port");
  const query = get("url.query");
  const isWritten = String(host).includes(":") || !port;
  return `${get("url.scheme", "http.scheme") ?? "http"}://${host}${isWritten ? "" : ":" + port}${path}${query ? "?" + query : ""}`;
}

function headerOf(attribute) {
  return attribute.type === "array" ? attribute.value.map(textOfValue).join(", ") : textOfValue(attribute);
}

// Recorded text may be hostile: what is pasted into a shell is one word, and no option of curl's.
function quoteShell(text) {
  return /^[A-Za-z0-9_.:/=-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Return the database's query of this span; null if it has none. */
export function queryTextOf(span) {
  const text = attributeOf(span.attributes, "db.query.text") ?? attributeOf(span.attributes, "db.statement");
  return text === undefined ? null : String(text);
}
