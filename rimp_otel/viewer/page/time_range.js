/** Ranges of time: relative (`now-1h`) and absolute (nanoseconds), as texts of the URL. */

import { formatDay, formatDuration, formatTime, formatClock } from "./format.js";

const UNITS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 604_800_000 };
const NAMES = { s: "second", m: "minute", h: "hour", d: "day", w: "week" };

/** Relative ranges to choose from. */
export const PRESETS = ["5m", "15m", "1h", "6h", "1d", "7d", "30d"].map((length) => ({
  from: "now-" + length,
  to: "now",
}));

/** The whole recording. */
export const ALL = { from: "all", to: "" };

/** Return the time in nanoseconds (text) that a text of the URL says; null for no bound. */
export function resolveTime(text, nowMillis) {
  if (/^\d+$/.test(text)) return text;
  const found = /^now(?:-(\d+)([smhdw]))?$/.exec(text);
  if (!found) return null;
  const back = found[1] ? Number(found[1]) * UNITS[found[2]] : 0;
  return (BigInt(Math.max(nowMillis - back, 0)) * 1_000_000n).toString();
}

/** Return the range in nanoseconds: texts, or null for an open end. */
export function resolveRange(rangeText, nowMillis) {
  return { from: resolveTime(rangeText.from, nowMillis), to: resolveTime(rangeText.to, nowMillis) };
}

/** Return true if the range moves with the clock. */
export function isRelative(rangeText) {
  return rangeText.from.startsWith("now") || rangeText.to === "now";
}

/**
 * Return the range to show at first: the last hour while the recording is being written, all of a
 * short recording, else its last hour.
 *
 * @param {{first: string|null, last: string|null}} info
 */
export function firstRange(info, nowMillis) {
  if (!info.first || !info.last) return { from: "now-1h", to: "now" };
  const first = BigInt(info.first);
  const last = BigInt(info.last);
  const hour = 3_600_000_000_000n;
  const now = BigInt(nowMillis) * 1_000_000n;
  // A last record far ahead of the clock is of a clock that is wrong: one of the two.
  if (now - last < hour / 4n && last - now < hour) {
    const age = now - first;
    return { from: age < hour / 12n ? "now-5m" : age < hour / 4n ? "now-15m" : "now-1h", to: "now" };
  }
  // A whole second around, so that the edges are round.
  const second = 1_000_000_000n;
  const to = (last / second + 1n) * second;
  const from = last - first < 6n * hour ? (first / second) * second : to - hour;
  return { from: from.toString(), to: to.toString() };
}

/** Return the range in words, such as `Last 15 minutes`. */
export function describeRange(rangeText) {
  if (rangeText.from === "all" || (!rangeText.from && !rangeText.to)) return "All of the recording";
  const found = /^now-(\d+)([smhdw])$/.exec(rangeText.from);
  if (found && (rangeText.to === "now" || !rangeText.to)) {
    const count = Number(found[1]);
    return count === 1 ? `Last ${NAMES[found[2]]}` : `Last ${count} ${NAMES[found[2]]}s`;
  }
  const { from, to } = rangeText;
  if (/^\d+$/.test(from) && /^\d+$/.test(to)) {
    const end = formatDay(from) === formatDay(to) ? formatClock(to, 0) : formatTime(to, 0);
    return `${formatTime(from, 0)} – ${end}`;
  }
  return `${describeEdge(from) || "start"} – ${describeEdge(to) || "now"}`;
}

function describeEdge(text) {
  return /^\d+$/.test(text) ? formatTime(text, 0) : text;
}

/** Return the length of a range in nanoseconds; null if it is unbounded. */
export function lengthOfRange(range, nowMillis) {
  if (range.from === null) return null;
  const to = range.to === null ? BigInt(nowMillis) * 1_000_000n : BigInt(range.to);
  return Number(to - BigInt(range.from));
}

/**
 * Return the range moved by `parts` of its length, and `scale` times as long around its middle.
 *
 * @param {{from: string|null, to: string|null}} range resolved
 */
export function moveRange(range, parts, scale, nowMillis) {
  const length = lengthOfRange(range, nowMillis);
  if (length === null) return null;
  const from = BigInt(range.from);
  const middle = from + BigInt(Math.round(length * (0.5 + parts)));
  const half = BigInt(Math.round(Math.max(length * scale, 1000) / 2));
  return { from: (middle - half).toString(), to: (middle + half).toString() };
}

/**
 * Return the text for the URL of a time that a person typed: `now-2h`, `2026-11-29 14:05`, ISO 8601,
 * or seconds to nanoseconds since the epoch; null if it is none.
 */
export function readTime(text, isUtc) {
  const trimmed = text.trim();
  if (/^now(-\d+[smhdw])?$/.test(trimmed)) return trimmed;
  if (/^\d{10,19}$/.test(trimmed)) return trimmed.padEnd(19, "0");
  const found =
    /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?\s*(Z|[+-]\d\d:?\d\d)?$/.exec(trimmed);
  if (!found) return null;
  const [, day, minutes = "00:00", seconds = "00", fraction = "", zone = isUtc ? "Z" : ""] = found;
  const millis = Date.parse(`${day}T${minutes}:${seconds}${zone}`);
  if (Number.isNaN(millis) || millis < 0) return null;
  return (BigInt(millis) * 1_000_000n + BigInt(fraction.padEnd(9, "0"))).toString();
}

/** Return the length of a range in words, for a label. */
export function describeLength(range, nowMillis) {
  const length = lengthOfRange(range, nowMillis);
  return length === null ? "" : formatDuration(length);
}

const TICK_SECONDS = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800,
  21_600, 43_200, 86_400, 172_800, 604_800, 2_592_000,
];
const YEAR = 31_557_600;

/**
 * Return round times within a range, to label an axis.
 *
 * @param {bigint} from nanoseconds since the epoch
 * @param {number} length in nanoseconds
 * @param {number} most how many there may be
 * @returns {{time: bigint, text: string}[]}
 */
export function timeTicks(from, length, most) {
  const parts = length / 1e9 / most;
  const seconds = TICK_SECONDS.find((one) => parts <= one) ?? Math.ceil(parts / YEAR) * YEAR;
  const step = BigInt(Math.round(seconds * 1e9));
  const ticks = [];
  for (let time = ((from + step - 1n) / step) * step; time <= from + BigInt(length); time += step) {
    ticks.push({ time, text: tickText(time, seconds) });
  }
  return ticks;
}

function tickText(time, seconds) {
  if (seconds >= YEAR) return formatDay(time).slice(0, 4);
  if (seconds >= 86_400) return formatDay(time).slice(5);
  if (seconds < 1) return formatClock(time, 3);
  return seconds < 60 ? formatClock(time, 0) : formatClock(time, 0).slice(0, 5);
}
