/** One trace as trees, rows and a critical path. Any recording can be laid out, as in trace_layout.py: with
 * missing parents, several roots, circles, spans that never ended, clocks that disagree. */

import { exceptionIn } from "../otlp.js";

/**
 * @typedef {object} Node a span in its place
 * @property {import("../otlp.js").Span} span
 * @property {number} index in the order of time
 * @property {string} flaw "orphan" (its parent is not recorded), "circle" (its ancestors are its descendants),
 *   "skewed" (it starts before its parent), or empty
 * @property {Node|null} parent
 * @property {Node[]} children in the order of time
 * @property {import("../otlp.js").LogRecord[]} logs
 * @property {number} offset of its start from the trace's, in nanoseconds
 * @property {number} duration in nanoseconds; 0 if its end is not known
 * @property {number} depth
 * @property {number} descendants how many spans are below it
 * @property {number} errors how many spans failed, of it and those below it
 *
 * @typedef {object} Trace
 * @property {string} id
 * @property {Node[]} nodes in the order of time
 * @property {Node[]} roots in the order of time
 * @property {object[]} looseLogs of no recorded span
 * @property {bigint} start nanoseconds since the epoch
 * @property {number} duration in nanoseconds
 * @property {{name: string, spans: number, errors: number}[]} services in the order in which they appear
 * @property {number} errors how many spans failed
 * @property {number} interrupted how many spans were open when their process died
 */

/** Return the trace of these spans and log records. @returns {Trace} */
export function buildTrace(spans, logs) {
  const start = earliest(spans, logs);
  const nodes = [...spans]
    .sort((one, other) => compare(one.start, other.start))
    .map((span, index) => makeNode(span, index, start));
  const byId = new Map();
  for (const node of nodes) {
    if (node.span.spanId && !byId.has(node.span.spanId)) byId.set(node.span.spanId, node);
  }
  const roots = linkNodes(nodes, byId);
  const looseLogs = linkLogs(logs, byId);
  const order = walk(roots);
  countBelow(order);
  const lastEnd = Math.max(0, ...largest(nodes.map((node) => node.offset + node.duration)));
  const lastLog = Math.max(0, ...largest(spans.length ? [] : logs.map((log) => Number(log.time - start))));
  return {
    id: spans[0]?.traceId ?? logs[0]?.traceId ?? "",
    nodes,
    roots,
    looseLogs,
    byId,
    start,
    duration: Math.max(lastEnd, lastLog),
    services: countServices(order),
    errors: nodes.filter((node) => hasFailed(node.span)).length,
    interrupted: nodes.filter((node) => node.span.isInterrupted).length,
  };
}

/** Return true if the span's status is an error. */
export function hasFailed(span) {
  return span.status === "error";
}

function earliest(spans, logs) {
  const times = (spans.length ? spans.map((span) => span.start) : logs.map((log) => log.time)).filter(Boolean);
  return times.reduce((least, time) => (time < least ? time : least), times[0] ?? 0n);
}

// `Math.max(...values)` fails with more values than the stack holds.
function largest(values) {
  return values.length ? [values.reduce((most, value) => Math.max(most, value))] : [];
}

function compare(one, other) {
  return one < other ? -1 : one > other ? 1 : 0;
}

function makeNode(span, index, start) {
  const offset = span.start ? Number(span.start - start) : 0;
  const duration = span.end > span.start ? Number(span.end - span.start) : 0;
  const failed = hasFailed(span) ? 1 : 0;
  return {
    span, index, offset, duration, flaw: "", parent: null, children: [], logs: [], depth: 0, descendants: 0,
    errors: failed,
  };
}

function linkNodes(nodes, byId) {
  const roots = [];
  for (const node of nodes) {
    const parent = byId.get(node.span.parentId);
    if (parent) {
      node.parent = parent;
      parent.children.push(node);
      if (node.span.start && node.span.start < parent.span.start) node.flaw = "skewed";
    } else {
      roots.push(node);
      if (node.span.parentId) node.flaw = "orphan";
    }
  }
  openCircles(nodes, roots);
  return roots.sort((one, other) => one.index - other.index);
}

/** Make a root of the earliest span of each circle, which no root leads to. */
function openCircles(nodes, roots) {
  const seen = new Set(walk(roots));
  for (const node of nodes) {
    if (seen.has(node)) continue;
    const path = new Set();
    let above = node;
    while (!path.has(above)) {
      path.add(above);
      above = above.parent;
    }
    const climbed = [...path];
    const circle = climbed.slice(climbed.indexOf(above));
    const first = circle.reduce((least, one) => (one.index < least.index ? one : least));
    first.parent.children.splice(first.parent.children.indexOf(first), 1);
    first.parent = null;
    first.flaw = "circle";
    roots.push(first);
    for (const reached of walk([first])) seen.add(reached);
  }
}

function linkLogs(logs, byId) {
  const loose = [];
  for (const log of [...logs].sort((one, other) => compare(one.time, other.time))) {
    const node = log.spanId && byId.get(log.spanId);
    if (node) node.logs.push(log);
    else loose.push(log);
  }
  return loose;
}

/** Return the nodes from top to bottom, and set their depths. */
function walk(roots) {
  const order = [];
  const stack = [...roots].reverse();
  while (stack.length) {
    const node = stack.pop();
    node.depth = node.parent ? node.parent.depth + 1 : 0;
    order.push(node);
    for (let index = node.children.length - 1; index >= 0; index--) stack.push(node.children[index]);
  }
  return order;
}

function countBelow(order) {
  for (let index = order.length - 1; index >= 0; index--) {
    const { parent, descendants, errors } = order[index];
    if (!parent) continue;
    parent.descendants += descendants + 1;
    parent.errors += errors;
  }
}

function countServices(order) {
  const services = new Map();
  for (const { span } of order) {
    const service = services.get(span.service) ?? { name: span.service, spans: 0, errors: 0 };
    service.spans += 1;
    service.errors += hasFailed(span) ? 1 : 0;
    services.set(span.service, service);
  }
  return [...services.values()];
}

/**
 * Return the rows from top to bottom: `{kind: "span", node, depth}`, `{kind: "event", event, node, depth, offset}` and
 * `{kind: "log", log, node, depth, offset}`.
 *
 * @param {Trace} trace
 * @param {Set<number>} collapsed indexes of the nodes whose descendants are hidden
 * @param {boolean} hasEvents whether span events and log records have rows
 */
export function listRows(trace, collapsed, hasEvents) {
  const rows = [];
  const loose = hasEvents ? trace.looseLogs.map((log) => logRow(log, null, trace)) : [];
  const stack = sortRows([...trace.roots.map((node) => spanRow(node)), ...loose]).reverse();
  while (stack.length) {
    const row = stack.pop();
    rows.push(row);
    if (row.kind !== "span" || collapsed.has(row.node.index)) continue;
    const { node } = row;
    const below = node.children.map((child) => spanRow(child));
    if (hasEvents) {
      below.push(...node.span.events.map((event) => eventRow(event, node, trace)));
      below.push(...node.logs.map((log) => logRow(log, node, trace)));
    }
    const sorted = below.length > node.children.length ? sortRows(below) : below;
    for (let index = sorted.length - 1; index >= 0; index--) stack.push(sorted[index]);
  }
  return rows;
}

function spanRow(node) {
  return { kind: "span", node, depth: node.depth, offset: node.offset };
}

function eventRow(event, node, trace) {
  return { kind: "event", event, node, depth: node.depth + 1, offset: Number(event.time - trace.start) };
}

function logRow(log, node, trace) {
  return { kind: "log", log, node, depth: node ? node.depth + 1 : 0, offset: Number(log.time - trace.start) };
}

function sortRows(rows) {
  return rows.sort((one, other) => one.offset - other.offset);
}

/**
 * Return the critical path: for each node on it, the pieces of time that the trace's end waited for it.
 *
 * From the end of the longest root back: each moment belongs to the child that ended last before what came after it;
 * where there is none, to the span itself. A child counts no longer than its parent.
 *
 * @param {Trace} trace
 * @returns {Map<Node, [number, number][]>} offsets from and to, the last piece first
 */
export function findCriticalPath(trace) {
  const path = new Map();
  const root = trace.roots.reduce((most, node) => (!most || node.duration > most.duration ? node : most), null);
  const stack = root ? [[root, root.offset + root.duration]] : [];
  const add = (node, from, to) => {
    if (to <= from) return;
    if (!path.has(node)) path.set(node, []);
    path.get(node).push([from, to]);
  };
  while (stack.length) {
    const [node, end] = stack.pop();
    const bound = node.offset + node.duration;
    const endOf = (child) => Math.min(child.offset + child.duration, bound);
    let cursor = Math.min(end, bound);
    for (const child of [...node.children].sort((one, other) => endOf(other) - endOf(one))) {
      const from = Math.max(child.offset, node.offset);
      if (endOf(child) > cursor || from >= endOf(child)) continue;
      add(node, endOf(child), cursor);
      stack.push([child, endOf(child)]);
      cursor = from;
    }
    add(node, node.offset, cursor);
  }
  return path;
}

/** Return the time of a node that no child accounts for, in nanoseconds. */
export function selfTimeOf(node) {
  const end = node.offset + node.duration;
  let covered = 0;
  let reached = node.offset;
  for (const child of node.children) {
    const from = Math.max(child.offset, reached);
    const to = Math.min(child.offset + child.duration, end);
    if (to > from) {
      covered += to - from;
      reached = to;
    }
  }
  return Math.max(0, node.duration - covered);
}

/** Return the texts that a search within a trace looks at, in lower case. */
export function searchTextOf(row) {
  const attributes = (list) => list.map(({ key, value }) => `${key}=${value}`).join("\n");
  if (row.kind === "event") return `${row.event.name}\n${attributes(row.event.attributes)}`.toLowerCase();
  if (row.kind === "log") return `${row.log.text}\n${attributes(row.log.attributes)}`.toLowerCase();
  const { span } = row.node;
  return `${span.name}\n${span.service}\n${span.spanId}\n${span.statusMessage}\n${attributes(span.attributes)}`.toLowerCase();
}

/** Return the exception that a span ended with: of its last event that has one; null for none. */
export function exceptionOf(span) {
  for (let index = span.events.length - 1; index >= 0; index--) {
    const found = exceptionIn(span.events[index].attributes);
    if (found) return found;
  }
  return null;
}

/**
 * Return two traces as one tree of what has the same path of services and names.
 *
 * @param {Trace} before
 * @param {Trace} after
 * @returns {object[]} rows from top to bottom: `{path, service, name, depth, children, before, after}`, where both are
 *   `{count, duration, errors, spanId}` and count is 0 on the side that has none
 */
export function mergeTraces(before, after) {
  const top = new Map();
  for (const [side, trace] of [["before", before], ["after", after]]) {
    const stack = trace.roots.map((node) => [node, top, 0]);
    while (stack.length) {
      const [node, level, depth] = stack.pop();
      const key = JSON.stringify([node.span.service, node.span.name]);
      if (!level.has(key)) level.set(key, makeMerged(node, depth));
      const merged = level.get(key);
      const sums = merged[side];
      sums.count += 1;
      sums.duration += node.duration;
      sums.errors += hasFailed(node.span) ? 1 : 0;
      sums.spanId ||= node.span.spanId;
      merged.offset = Math.min(merged.offset, node.offset);
      for (const child of node.children) stack.push([child, merged.below, depth + 1]);
    }
  }
  const rows = [];
  const stack = sortMerged(top).map((merged) => [merged, ""]).reverse();
  while (stack.length) {
    const [merged, above] = stack.pop();
    const { below, ...row } = merged;
    row.path = `${above}/${row.service}:${row.name}`;
    row.children = below.size;
    rows.push(row);
    for (const child of sortMerged(below).reverse()) stack.push([child, row.path]);
  }
  return rows;
}

function makeMerged(node, depth) {
  const sums = () => ({ count: 0, duration: 0, errors: 0, spanId: "" });
  const { service, name } = node.span;
  return { service, name, depth, offset: Infinity, before: sums(), after: sums(), below: new Map() };
}

function sortMerged(level) {
  return [...level.values()].sort((one, other) => one.offset - other.offset);
}
