/** OTLP JSON to objects for the views: exact 64-bit integers (BigInt), typed attributes. */

const KINDS = ["unspecified", "internal", "server", "client", "producer", "consumer"];
const STATUSES = ["unset", "ok", "error"];

/**
 * @typedef {{type: string, value: any}} Value
 *   type: "string", "bool", "int" (BigInt), "double", "bytes" (base64 text), "array" (Values),
 *   "map" (Attributes) or "empty" (null)
 * @typedef {{key: string, type: string, value: any}} Attribute
 * @typedef {object} Span
 * @property {string} traceId
 * @property {string} spanId
 * @property {string} parentId empty for a root
 * @property {string} name
 * @property {string} kind
 * @property {string} service
 * @property {bigint} start nanoseconds since the epoch
 * @property {bigint} end 0 if it is not known
 * @property {string} status "unset", "ok" or "error"
 * @property {string} statusMessage
 * @property {Attribute[]} attributes
 * @property {{time: bigint, name: string, attributes: Attribute[], dropped: number}[]} events
 * @property {{traceId: string, spanId: string, attributes: Attribute[], dropped: number}[]} links
 * @property {{attributes: Attribute[]}} resource
 * @property {{name: string, version: string, attributes: Attribute[]}} scope
 * @property {boolean} isInterrupted
 * @typedef {object} LogRecord
 * @property {bigint} time
 * @property {number} severity 0 to 24
 * @property {string} severityText
 * @property {string} text of the body
 * @property {Value} body
 */

/** Return an AnyValue as a Value. */
export function readValue(value) {
  if (!value) return { type: "empty", value: null };
  if (value.stringValue !== undefined) return { type: "string", value: value.stringValue };
  if (value.boolValue !== undefined) return { type: "bool", value: value.boolValue };
  if (value.intValue !== undefined) return { type: "int", value: BigInt(value.intValue) };
  if (value.doubleValue !== undefined) return { type: "double", value: Number(value.doubleValue) };
  if (value.bytesValue !== undefined) return { type: "bytes", value: value.bytesValue };
  if (value.arrayValue) return { type: "array", value: (value.arrayValue.values ?? []).map(readValue) };
  if (value.kvlistValue) return { type: "map", value: readAttributes(value.kvlistValue.values) };
  return { type: "empty", value: null };
}

/** Return a list of KeyValues as Attributes. */
export function readAttributes(pairs) {
  return (pairs ?? []).map(({ key, value }) => ({ key, ...readValue(value) }));
}

/** Return the attribute's value; undefined if there is none of this key. */
export function attributeOf(attributes, key) {
  return attributes.find((attribute) => attribute.key === key)?.value;
}

/** Return a Value as text: a string as it is, all else as JSON. */
export function textOfValue(value) {
  if (value.type === "empty") return "";
  if (value.type === "string" || value.type === "bytes") return value.value;
  if (value.type === "int") return String(value.value);
  return JSON.stringify(toPlain(value));
}

/** Return a Value as plain data for JSON; an integer beyond 2⁵³ becomes a string. */
export function toPlain(value) {
  switch (value.type) {
    case "int":
      return Number.isSafeInteger(Number(value.value)) ? Number(value.value) : String(value.value);
    case "double":
      return Number.isFinite(value.value) ? value.value : String(value.value);
    case "array":
      return value.value.map(toPlain);
    case "map":
      return plainAttributes(value.value);
    default:
      return value.value;
  }
}

/** Return attributes as a plain object for JSON. */
export function plainAttributes(attributes) {
  return Object.fromEntries(attributes.map((attribute) => [attribute.key, toPlain(attribute)]));
}

/** Return the spans of a TracesData. @returns {Span[]} */
export function readSpans(data) {
  return (data?.resourceSpans ?? []).flatMap((outer) => {
    const resource = readResource(outer);
    return (outer.scopeSpans ?? []).flatMap((inner) => {
      const scope = readScope(inner);
      return (inner.spans ?? []).map((span) => readSpan(span, resource, scope));
    });
  });
}

/** Return the log records of a LogsData. @returns {LogRecord[]} */
export function readLogs(data) {
  return (data?.resourceLogs ?? []).flatMap((outer) => {
    const resource = readResource(outer);
    return (outer.scopeLogs ?? []).flatMap((inner) => {
      const scope = readScope(inner);
      return (inner.logRecords ?? []).map((record) => readLog(record, resource, scope));
    });
  });
}

function readResource(outer) {
  const attributes = readAttributes(outer.resource?.attributes);
  const service = String(attributeOf(attributes, "service.name") ?? "");
  return { attributes, service, schemaUrl: outer.schemaUrl ?? "" };
}

function readScope(inner) {
  const { name = "", version = "", attributes } = inner.scope ?? {};
  return { name, version, attributes: readAttributes(attributes), schemaUrl: inner.schemaUrl ?? "" };
}

function readSpan(span, resource, scope) {
  const attributes = readAttributes(span.attributes);
  return {
    traceId: span.traceId ?? "",
    spanId: span.spanId ?? "",
    parentId: span.parentSpanId ?? "",
    traceState: span.traceState ?? "",
    name: span.name ?? "",
    kind: nameOf(KINDS, "SPAN_KIND_", span.kind),
    service: resource.service,
    start: BigInt(span.startTimeUnixNano ?? 0),
    end: BigInt(span.endTimeUnixNano ?? 0),
    status: nameOf(STATUSES, "STATUS_CODE_", span.status?.code),
    statusMessage: span.status?.message ?? "",
    attributes,
    droppedAttributes: span.droppedAttributesCount ?? 0,
    events: (span.events ?? []).map((event) => ({
      time: BigInt(event.timeUnixNano ?? 0),
      name: event.name ?? "",
      attributes: readAttributes(event.attributes),
      dropped: event.droppedAttributesCount ?? 0,
    })),
    droppedEvents: span.droppedEventsCount ?? 0,
    links: (span.links ?? []).map((link) => ({
      traceId: link.traceId ?? "",
      spanId: link.spanId ?? "",
      attributes: readAttributes(link.attributes),
      dropped: link.droppedAttributesCount ?? 0,
    })),
    droppedLinks: span.droppedLinksCount ?? 0,
    resource,
    scope,
    isInterrupted: attributeOf(attributes, "rimp.interrupted") === true,
  };
}

function readLog(record, resource, scope) {
  const body = readValue(record.body);
  const time = BigInt(record.timeUnixNano ?? 0);
  const observed = BigInt(record.observedTimeUnixNano ?? 0);
  return {
    time: time || observed,
    observed,
    severity: severityOf(record.severityNumber),
    severityText: record.severityText ?? "",
    eventName: record.eventName ?? "",
    body,
    text: textOfValue(body) || record.eventName || "",
    attributes: readAttributes(record.attributes),
    dropped: record.droppedAttributesCount ?? 0,
    traceId: record.traceId ?? "",
    spanId: record.spanId ?? "",
    service: resource.service,
    resource,
    scope,
  };
}

// Enumerations are numbers in OTLP JSON; some producers write their names.
function nameOf(names, prefix, code = 0) {
  if (typeof code === "number") return names[code] ?? names[0];
  const name = String(code).replace(prefix, "").toLowerCase();
  return names.includes(name) ? name : names[0];
}

const SEVERITIES = ["trace", "debug", "info", "warn", "error", "fatal"];

function severityOf(number = 0) {
  if (typeof number === "number") return number;
  const found = /^SEVERITY_NUMBER_([A-Z]+)([2-4]?)$/.exec(number);
  const index = found ? SEVERITIES.indexOf(found[1].toLowerCase()) : -1;
  return index < 0 ? 0 : index * 4 + Number(found[2] || 1);
}

/** Return the level of a severity number: "trace" to "fatal", or "unspecified". */
export function levelOf(severity) {
  return severity >= 1 && severity <= 24 ? SEVERITIES[Math.floor((severity - 1) / 4)] : "unspecified";
}

/** Return the exception that attributes describe; null if they describe none. */
export function exceptionIn(attributes) {
  const [type, message, stack] = ["type", "message", "stacktrace"].map((part) =>
    String(attributeOf(attributes, "exception." + part) ?? ""),
  );
  return type || message || stack ? { type, message, stack } : null;
}
