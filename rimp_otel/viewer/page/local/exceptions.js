/**
 * Exceptions of spans and log records in memory.
 * @module
 */
import { plainAttribute, plainText } from "./records.js";

const FRAME = /^[ \t|+]*File "([^"\n]+)", line (\d+), in (.+)$/gm;

/**
 * Return each exception once: one that leaves nested spans, or is logged as well, is one.
 *
 * @param {object[]} spans
 * @param {object[]} logs
 * @param {import("./records.js").LocalRecords} records
 * @returns {{type: string, message: string, stack: string, place: string, name: string, time: number, traceId: string,
 *   spanId: string, resource: object}[]} in the order of their times
 */
export function exceptionsIn(spans, logs, records) {
  const found = [];
  const places = new Set();
  for (const span of spans) {
    for (const error of exceptionsOfSpan(span, records)) {
      found.push(error);
      places.add(`${span.traceId} ${error.type} ${error.place}`);
    }
  }
  const nested = new Set(
    found.map(({ span, type, place }) => `${span.traceId} ${span.parentId} ${type} ${place}`),
  );
  const once = found.filter(
    ({ traceId, spanId, type, place }) => !nested.has(`${traceId} ${spanId} ${type} ${place}`),
  );
  for (const log of logs) {
    const error = exceptionOf(log.raw.attributes, log.scope.scope?.name ?? "");
    if (!error || places.has(`${log.traceId} ${error.type} ${error.place}`)) continue;
    const ids = { traceId: log.traceId, spanId: String(log.raw.spanId ?? "").toLowerCase() };
    once.push({ ...error, ...ids, time: log.time, resource: log.resource });
  }
  return once.sort((a, b) => a.time - b.time);
}

function exceptionsOfSpan(span, records) {
  const { raw, resource, traceId, spanId } = span;
  const errors = [];
  for (const event of raw.events ?? []) {
    const error = exceptionOf(event.attributes, span.name);
    const time = records.relative(event.timeUnixNano, span.start);
    if (error) errors.push({ ...error, span, traceId, spanId, time, resource });
  }
  if (!errors.length && span.status === "error") {
    const type = plainText(plainAttribute(raw.attributes, "error.type") ?? "");
    const error = { type, message: raw.status?.message ?? "", stack: "", place: span.name, name: span.name };
    errors.push({ ...error, span, traceId, spanId, time: span.start + span.duration, resource });
  }
  return errors;
}

function exceptionOf(attributes, name) {
  const textAt = (key) => plainText(plainAttribute(attributes, key) ?? "");
  const [type, message, stack] = ["type", "message", "stacktrace"].map((part) => textAt(`exception.${part}`));
  if (!type && !message && !stack) return null;
  const frame = [...stack.matchAll(FRAME)].at(-1);
  const place = frame ? `in ${frame[3]}, ${frame[1].split("/").at(-1)}:${frame[2]}` : name;
  return { type, message, stack, place, name: frame ? "" : name };
}
