/**
 * Figures of records in memory: rates, percentiles, and numbers over steps of time.
 * @module
 */
import { levelOf } from "../otlp.js";

/** The levels of log records. */
export const LEVELS = ["unspecified", "trace", "debug", "info", "warn", "error", "fatal"];

/** Return true for a span of kind server or consumer, and for a root. */
export function isRequest({ kind, isRoot }) {
  return kind === "server" || kind === "consumer" || isRoot;
}

/** Return how often spans came in a window, how many failed, and percentiles of their duration. */
export function summarize(spans, { from, to }) {
  const durations = spans.map(({ duration }) => duration).sort((a, b) => a - b);
  const errors = spans.filter(({ status }) => status === "error").length;
  return {
    errors,
    rate: (spans.length * 1e9) / Math.max(to - from, 1),
    error_rate: spans.length ? errors / spans.length : 0,
    p50: percentile(durations, 0.5),
    p90: percentile(durations, 0.9),
    p99: percentile(durations, 0.99),
  };
}

function percentile(sorted, share) {
  if (!sorted.length) return null;
  return sorted[Math.min(Math.ceil(share * sorted.length), sorted.length) - 1];
}

/** Return the numbers of spans and of failed ones, and the 99th percentile of their duration, for each step. */
export function seriesOf(spans, grid) {
  const requests = new Array(grid.steps).fill(0);
  const errors = new Array(grid.steps).fill(0);
  const durations = Array.from({ length: grid.steps }, () => []);
  for (const span of spans) {
    const at = stepOf(grid, span.start);
    if (at === null) continue;
    requests[at] += 1;
    errors[at] += Number(span.status === "error");
    durations[at].push(span.duration);
  }
  const p99 = durations.map((values) => percentile(values.sort((a, b) => a - b), 0.99));
  return { requests, errors, p99 };
}

/** Return the number of log records of each level. */
export function countLevels(logs) {
  const counts = Object.fromEntries(LEVELS.map((level) => [level, 0]));
  for (const { severity } of logs) counts[levelOf(severity)] += 1;
  return counts;
}

/** Return a window as so many steps of time. */
export function makeGrid({ from, to }, steps) {
  const step = Math.max(Math.ceil((to - from) / steps), 1);
  return { from, to, step, steps: Math.max(Math.ceil((to - from) / step), 1) };
}

/** Return the number of the step that a time is in; null for none. */
export function stepOf({ from, step, steps }, time) {
  const at = Math.floor((time - from) / step);
  return at >= 0 && at < steps ? at : null;
}

/** Return the shortest of the usual intervals that is as long. */
export function niceStep(least) {
  const seconds = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600, 86_400];
  return (seconds.find((one) => one * 1e9 >= least) ?? Math.ceil(least / 86_400e9) * 86_400) * 1e9;
}


/**
 * Return how many spans took how long, in rows of half powers of two, and how many of them failed.
 *
 * @param {object[]} spans
 * @param {{steps: number}} grid
 * @returns {{bounds: number[], counts: number[][], errors: number[][]}} rows of steps, and the durations between them
 */
export function countDurations(spans, grid) {
  const rowOf = ({ duration }) => Math.floor(2 * Math.log2(Math.max(duration, 1)));
  const rows = spans.map(rowOf);
  const low = rows.reduce((least, row) => Math.min(least, row), Infinity);
  const high = rows.reduce((greatest, row) => Math.max(greatest, row), -Infinity);
  if (!rows.length) return { bounds: [], counts: [], errors: [] };
  const makeRows = () => Array.from({ length: high - low + 1 }, () => new Array(grid.steps).fill(0));
  const [counts, errors] = [makeRows(), makeRows()];
  spans.forEach((span, index) => {
    const at = stepOf(grid, span.start);
    if (at === null) return;
    counts[rows[index] - low][at] += 1;
    errors[rows[index] - low][at] += Number(span.status === "error");
  });
  const bounds = Array.from({ length: high - low + 2 }, (_, index) => Math.round(2 ** ((low + index) / 2)));
  return { bounds, counts, errors };
}
