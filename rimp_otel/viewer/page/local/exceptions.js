/**
 * Exceptions of spans and log records in memory.
 * @module
 */
import { plainAttribute, plainText } from "./records.js";

const FRAME = /^[ \t|+]*File "([^"\n]+)", line (\d+), in (.+)$/gm;
const LONGEST_WAY_TO_LOG = 1e9;

/**
 * Return each exception once: one that leaves nested spans, or is logged as well, is one. Outside of all traces, as servers
 * log it when the span has ended, that is one with the same message within a second.
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
  const leaving = timesOfLeaving(found);
  for (const log of [...logs].sort((a, b) => a.time - b.time)) {
    const error = exceptionOf(log.raw.attributes, log.scope.scope?.name ?? "");
    if (!error || places.has(`${log.traceId} ${error.type} ${error.place}`)) continue;
    if (!log.traceId && takeNewest(leaving.get(sayingOf(error)), log.time)) continue;
    const ids = { traceId: log.traceId, spanId: String(log.raw.spanId ?? "").toLowerCase() };
    once.push({ ...error, ...ids, time: log.time, resource: log.resource });
  }
  return once.sort((a, b) => a.time - b.time);
}

function timesOfLeaving(found) {
  const times = new Map();
  for (const error of found) {
    if (!error.stack) continue;
    const ofTraces = times.get(sayingOf(error)) ?? new Map();
    ofTraces.set(error.traceId, Math.max(error.time, ofTraces.get(error.traceId) ?? error.time));
    times.set(sayingOf(error), ofTraces);
  }
  return new Map([...times].map(([saying, ofTraces]) => [saying, [...ofTraces.values()].sort((a, b) => a - b)]));
}

function takeNewest(times, now) {
  const index = times?.findLastIndex((time) => time <= now) ?? -1;
  if (index < 0 || now - times[index] > LONGEST_WAY_TO_LOG) return false;
  times.splice(index, 1);
  return true;
}

function sayingOf({ type, place, message }) {
  return JSON.stringify([type, place, message]);
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
