/**
 * What is new or different in one time of records in memory, against the time before it.
 * @module
 */
import { formatCount, formatDuration, formatPercent } from "../format.js";

const LEAST_SPANS = 20;
const LEAST_CHANGE = 1.25;
const MOST_CHANGES = 50;
const MOST_P_VALUE = 0.001;
const MOST_SAMPLE = 500;

/**
 * Return the changes, failures first; one that may be due to chance is left out.
 *
 * @param {object[]} before spans of the time before
 * @param {object[]} after spans of the time that is shown
 * @returns {{kind: string, service: string, operation: string, before: number, after: number, text: string}[]}
 */
export function findChanges(before, after) {
  if (!before.length || !after.length) return [];
  const [old, now] = [byOperation(before), byOperation(after)];
  const common = [...now.keys()].filter((key) => old.has(key));
  const pairs = common.map((key) => [old.get(key), now.get(key)]);
  const changes = [
    ...pairs.map(compareFailures),
    ...pairs.map(compareDurations),
    ...appeared(now, old, before.length, "new_operation"),
    ...appeared(old, now, after.length, "gone_operation"),
  ];
  return changes.filter(Boolean).slice(0, MOST_CHANGES);
}

function byOperation(spans) {
  const found = new Map();
  for (const { resource, name, duration, status } of spans) {
    const key = JSON.stringify([resource.service, name]);
    let operation = found.get(key);
    if (!operation) {
      found.set(key, (operation = { service: resource.service, operation: name, durations: [], errors: 0 }));
    }
    operation.durations.push(duration);
    operation.errors += Number(status === "error");
  }
  return found;
}

function compareFailures([old, now]) {
  const [spansBefore, spansAfter] = [old.durations.length, now.durations.length];
  const [before, after] = [old.errors / spansBefore, now.errors / spansAfter];
  if (!old.errors && now.errors && spansBefore >= LEAST_SPANS) {
    const text = `fails now: ${formatCount(now.errors, "time")}`;
    return { ...nameOf(now), kind: "new_failure", before: 0, after: now.errors, text };
  }
  if (Math.min(spansBefore, spansAfter) < LEAST_SPANS || ratioOf(before, after) < LEAST_CHANGE) return null;
  const common = (old.errors + now.errors) / (spansBefore + spansAfter);
  const spread = Math.sqrt(common * (1 - common) * (1 / spansBefore + 1 / spansAfter));
  if (!spread || tailOf(Math.abs(after - before) / spread) > MOST_P_VALUE) return null;
  const text = `${formatPercent(before)} → ${formatPercent(after)} of spans fail`;
  return { ...nameOf(now), kind: "error_rate", before, after, text };
}

function compareDurations([old, now]) {
  const [left, right] = [sampleOf(old.durations), sampleOf(now.durations)];
  const [before, after] = [medianOf(left), medianOf(right)];
  if (Math.min(left.length, right.length) < LEAST_SPANS || ratioOf(before, after) < LEAST_CHANGE) return null;
  if (testRanks(left, right) > MOST_P_VALUE) return null;
  const text = `median ${formatDuration(before)} → ${formatDuration(after)}`;
  return { ...nameOf(now), kind: after > before ? "slower" : "faster", before, after, text };
}

function appeared(here, there, spansThere, kind) {
  const isNew = kind === "new_operation";
  const spansHere = [...here.values()].reduce((sum, { durations }) => sum + durations.length, 0);
  return [...here].map(([key, operation]) => {
    const times = operation.durations.length;
    // How probable it is to see none there, if it were as frequent as here.
    const chance = (1 - times / (spansHere + 1)) ** spansThere;
    if (there.has(key) || chance > MOST_P_VALUE) return null;
    const text = isNew ? formatCount(times, "time") : `${formatCount(times, "time")} before, never now`;
    return { ...nameOf(operation), kind, before: isNew ? 0 : times, after: isNew ? times : 0, text };
  });
}

function nameOf({ service, operation }) {
  return { service, operation };
}

function ratioOf(a, b) {
  return Math.max(a, b) / (Math.min(a, b) || Number.EPSILON);
}

function sampleOf(values) {
  const every = Math.ceil(values.length / MOST_SAMPLE);
  return values.filter((_value, index) => index % every === 0).sort((a, b) => a - b);
}

function medianOf(sorted) {
  return sorted[Math.floor(sorted.length / 2)];
}

/** Return the two-sided p-value of the Mann-Whitney U test of two sorted samples. */
function testRanks(left, right) {
  const all = [...left.map((value) => [value, 1]), ...right.map((value) => [value, 0])].sort((a, b) => a[0] - b[0]);
  let ranks = 0;
  for (let first = 0; first < all.length; ) {
    let last = first;
    while (last + 1 < all.length && all[last + 1][0] === all[first][0]) last += 1;
    const rank = (first + last) / 2 + 1;
    for (let at = first; at <= last; at++) ranks += all[at][1] * rank;
    first = last + 1;
  }
  const [n, m] = [left.length, right.length];
  const u = ranks - (n * (n + 1)) / 2;
  return tailOf((Math.abs(u - (n * m) / 2) - 0.5) / Math.sqrt((n * m * (n + m + 1)) / 12));
}

/** Return how probable a value so far from the mean is, on both sides, in a normal distribution. */
function tailOf(z) {
  // Abramowitz and Stegun, 7.1.26.
  const x = Math.max(z, 0) / Math.SQRT2;
  const t = 1 / (1 + 0.3275911 * x);
  const series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return series * Math.exp(-x * x);
}
