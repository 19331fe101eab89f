/**
 * Metrics in memory as lines over time: rates, values, heat maps, percentiles.
 * @module
 */
import { groupBy, plainAttribute, plainText, plainValue } from "./records.js";

const MAX_BUCKETS = 60;
const MAX_EXEMPLARS = 500;

/**
 * Return the series of one metric, as `/api/metrics/series` answers.
 * @param {import("./records.js").LocalRecords} records
 * @param {object} metric of `records.metrics`
 * @param {object[]} chosen those of its series that are wanted
 * @param {{from: number, to: number, step: number, by: string[]}} options times since `records.base`
 */
export function metricSeries(records, metric, chosen, { from, to, step, by }) {
  const steps = Math.max(Math.ceil((to - from) / step), 1);
  const grid = { from, to, step, steps };
  const isHistogram = metric.type.endsWith("histogram");
  const groups = groupBy(chosen, (series) => JSON.stringify(labelsOf(series, by)));
  const lines = [...groups.values()].map((members) => ({
    labels: labelsOf(members[0], by),
    values: combine(metric, members, grid),
  }));
  const heatmap = isHistogram ? makeHeatmap(chosen, metric, grid) : null;
  return {
    name: metric.name,
    unit: metric.unit,
    type: metric.type,
    from: records.absolute(from),
    step,
    series: lines,
    quantiles: heatmap && quantilesOf(heatmap),
    heatmap: heatmap && { bounds: heatmap.bounds, counts: heatmap.counts },
    exemplars: exemplarsOf(chosen, records, grid),
  };
}

/** Return the value of an attribute of a point, or else of its resource, as text. */
function labelOf(series, key) {
  const value = plainAttribute(series.attributes, key) ?? plainAttribute(series.resource.attributes, key);
  return value === undefined ? "" : plainText(value);
}

function labelsOf(series, by) {
  return Object.fromEntries(by.map((key) => [key, labelOf(series, key)]));
}

function combine(metric, members, grid) {
  if (metric.type.endsWith("histogram") || metric.type === "summary") {
    return rates(metric, members, grid, ({ raw }) => Number(raw.count ?? 0));
  }
  if (metric.type === "sum" && metric.isMonotonic) return rates(metric, members, grid, valueOf);
  return levels(members, grid, metric.type === "gauge");
}

function valueOf({ raw }) {
  return Number(raw.asDouble ?? raw.asInt ?? NaN);
}

/** Return the sum of what each series had last in each step, or its mean. */
function levels(members, { from, step, steps }, isMean) {
  const sums = new Array(steps).fill(null);
  const counts = new Array(steps).fill(0);
  for (const { points } of members) {
    const last = new Array(steps).fill(null);
    for (const point of points) {
      const at = Math.floor((point.time - from) / step);
      const value = valueOf(point);
      if (at >= 0 && at < steps && !Number.isNaN(value)) last[at] = value;
    }
    last.forEach((value, at) => {
      if (value === null) return;
      sums[at] = (sums[at] ?? 0) + value;
      counts[at] += 1;
    });
  }
  return isMean ? sums.map((sum, at) => sum && sum / counts[at]) : sums;
}

/** Return the increase each second in each step. */
function rates(metric, members, grid, countOf) {
  const sums = new Array(grid.steps).fill(null);
  for (const { points } of members) {
    const increases = new Array(grid.steps).fill(null);
    const covered = new Array(grid.steps).fill(0);
    for (const { start, end, later, earlier } of intervals(points, metric.isDelta)) {
      const before = earlier ? countOf(earlier) : 0;
      const after = countOf(later);
      // A count that fell has started anew.
      const increase = earlier && after >= before ? after - before : after;
      spread(grid, start, end, (at, share) => {
        increases[at] = (increases[at] ?? 0) + increase * share;
        covered[at] += share * (end - start);
      });
    }
    increases.forEach((increase, at) => {
      if (increase === null) return;
      // Deltas without anything in between are 0; a cumulative series just has not begun, or has ended.
      const time = metric.isDelta ? grid.step : covered[at] || grid.step;
      sums[at] = (sums[at] ?? 0) + (increase * 1e9) / time;
    });
  }
  return sums;
}

/** Yield the times between points, with the points that say what was counted in between. */
function* intervals(points, isDelta) {
  let earlier = null;
  for (const later of points) {
    const isSame = earlier !== null && (later.start === null || later.start <= earlier.time);
    if (isDelta) {
      yield { start: later.start ?? earlier?.time ?? later.time, end: later.time, later, earlier: null };
    } else if (isSame) {
      yield { start: earlier.time, end: later.time, later, earlier };
    } else if (later.start !== null && later.start < later.time) {
      yield { start: later.start, end: later.time, later, earlier: null };
    }
    earlier = later;
  }
}

/** Share an interval out over the steps that it touches. */
function spread({ from, step, steps }, start, end, add) {
  if (end <= start) {
    const at = Math.floor((end - from) / step);
    if (at >= 0 && at < steps) add(at, 1);
    return;
  }
  const first = Math.max(Math.floor((start - from) / step), 0);
  const last = Math.min(Math.ceil((end - from) / step), steps) - 1;
  for (let at = first; at <= last; at += 1) {
    const overlap = Math.min(end, from + (at + 1) * step) - Math.max(start, from + at * step);
    if (overlap > 0) add(at, overlap / (end - start));
  }
}

// Histograms.

function makeHeatmap(chosen, metric, grid) {
  const isExponential = metric.type === "exponential_histogram";
  const inside = ({ time }) => time >= grid.from;
  const points = chosen.flatMap((series) => series.points.filter(inside));
  const bounds = isExponential ? exponentialBounds(points) : explicitBounds(points);
  const bucketsOf = isExponential ? exponentialBuckets(bounds) : explicitBuckets(bounds);
  const counts = Array.from({ length: grid.steps }, () => new Array(bounds.length + 1).fill(0));
  for (const series of chosen) {
    for (const { start, end, later, earlier } of intervals(series.points, metric.isDelta)) {
      const after = bucketsOf(later.raw);
      const before = earlier && bucketsOf(earlier.raw);
      const hasFallen = before?.some((count, index) => count > after[index]);
      spread(grid, start, end, (at, share) => {
        after.forEach((count, index) => {
          counts[at][index] += (count - (before && !hasFallen ? before[index] : 0)) * share;
        });
      });
    }
  }
  return { bounds, counts };
}

function explicitBounds(points) {
  const bounds = new Set(points.flatMap(({ raw }) => (raw.explicitBounds ?? []).map(Number)));
  return [...bounds].sort((a, b) => a - b);
}

function explicitBuckets(bounds) {
  const places = new Map(bounds.map((bound, index) => [bound, index]));
  return (raw) => {
    const counts = new Array(bounds.length + 1).fill(0);
    (raw.bucketCounts ?? []).forEach((count, index) => {
      const bound = raw.explicitBounds?.[index];
      counts[bound === undefined ? bounds.length : (places.get(Number(bound)) ?? bounds.length)] += Number(count);
    });
    return counts;
  };
}

/** Return bounds at the finest scale that needs no more than `MAX_BUCKETS` buckets. */
function exponentialBounds(points) {
  let low = Infinity;
  let high = -Infinity;
  let scale = 20;
  const ranges = points.flatMap(({ raw }) => {
    const counts = raw.positive?.bucketCounts ?? [];
    const first = counts.findIndex((count) => Number(count) > 0);
    if (first < 0) return [];
    scale = Math.min(scale, Number(raw.scale ?? 0));
    return [{ scale: Number(raw.scale ?? 0), offset: Number(raw.positive.offset ?? 0), first, end: counts.length }];
  });
  for (const range of ranges) {
    const base = 2 ** -range.scale;
    low = Math.min(low, (range.offset + range.first) * base);
    high = Math.max(high, (range.offset + range.end) * base);
  }
  if (!ranges.length) return [];
  while ((high - low) * 2 ** scale > MAX_BUCKETS) scale -= 1;
  const from = Math.floor(low * 2 ** scale);
  const to = Math.ceil(high * 2 ** scale);
  return Array.from({ length: to - from + 1 }, (_, index) => 2 ** ((from + index) / 2 ** scale));
}

function exponentialBuckets(bounds) {
  const scale = bounds.length > 1 ? Math.round(-Math.log2(Math.log2(bounds[1] / bounds[0]))) : 0;
  const from = bounds.length ? Math.round(Math.log2(bounds[0]) * 2 ** scale) : 0;
  return (raw) => {
    const counts = new Array(bounds.length + 1).fill(0);
    const below = [...(raw.negative?.bucketCounts ?? []), raw.zeroCount ?? 0];
    counts[0] += below.reduce((sum, count) => sum + Number(count), 0);
    const offset = Number(raw.positive?.offset ?? 0);
    const shrink = 2 ** (scale - Number(raw.scale ?? 0));
    (raw.positive?.bucketCounts ?? []).forEach((count, index) => {
      const place = Math.floor((offset + index) * shrink) - from + 1;
      counts[Math.min(Math.max(place, 0), bounds.length)] += Number(count);
    });
    return counts;
  };
}

function quantilesOf({ bounds, counts }) {
  const of = (share) => counts.map((buckets) => quantile(bounds, buckets, share));
  return { p50: of(0.5), p90: of(0.9), p99: of(0.99) };
}

function quantile(bounds, buckets, share) {
  const total = buckets.reduce((sum, count) => sum + count, 0);
  if (!total || !bounds.length) return null;
  const rank = share * total;
  let below = 0;
  const index = Math.max(
    buckets.findIndex((count) => {
      if (count && below + count >= rank) return true;
      below += count;
      return false;
    }),
    0,
  );
  const upper = bounds[Math.min(index, bounds.length - 1)];
  if (index >= bounds.length) return upper;
  const lower = index ? bounds[index - 1] : Math.min(0, upper);
  return lower + ((upper - lower) * (rank - below)) / (buckets[index] || 1);
}

function exemplarsOf(chosen, records, { from, to }) {
  const found = [];
  for (const { points } of chosen) {
    for (const { raw } of points) {
      for (const exemplar of raw.exemplars ?? []) {
        const time = records.relative(exemplar.timeUnixNano);
        if (time >= from && time < to) found.push({ time, exemplar });
      }
    }
  }
  // A cumulative point repeats the exemplars of the one before.
  const unique = new Map(found.map((one) => [`${one.exemplar.timeUnixNano} ${one.exemplar.spanId}`, one]));
  return [...unique.values()]
    .sort((a, b) => a.time - b.time)
    .slice(-MAX_EXEMPLARS)
    .map(({ exemplar }) => ({
      time: String(exemplar.timeUnixNano),
      value: Number(exemplar.asDouble ?? exemplar.asInt ?? 0),
      trace_id: String(exemplar.traceId ?? "").toLowerCase(),
      span_id: String(exemplar.spanId ?? "").toLowerCase(),
      attributes: Object.fromEntries(
        (exemplar.filteredAttributes ?? []).map(({ key, value }) => [key, plainValue(value)]),
      ),
    }));
}
