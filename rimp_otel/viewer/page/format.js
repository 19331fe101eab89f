/** Durations, numbers, times and recorded text as text to show. */

// C0, DEL, C1, and characters that are invisible or reorder others, as in render/format.py.
const UNSAFE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]|\udb40[\udc00-\udc7f]/g;

let isUtc = false;

/** Show times in UTC from now on, or in the browser's zone. */
export function setUtc(value) {
  isUtc = value;
}

/** Return recorded text with invisible and reordering characters as escapes such as `\x1b`. */
export function escapeText(text) {
  return String(text).replace(UNSAFE, escapeCharacter);
}

/** Return the text as `escapeText` does, with its line breaks and tabs. */
export function escapeLines(text) {
  return String(text).replace(UNSAFE, (found) =>
    found === "\n" || found === "\t" ? found : escapeCharacter(found),
  );
}

function escapeCharacter(found) {
  const common = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[found];
  if (common) return common;
  const code = found.codePointAt(0);
  if (code < 0x100) return "\\x" + code.toString(16).padStart(2, "0");
  return code < 0x10000
    ? "\\u" + code.toString(16).padStart(4, "0")
    : "\\U" + code.toString(16).padStart(8, "0");
}

/** Return a duration in nanoseconds in three significant digits, such as `12.3 ms` or `4 m 7 s`. */
export function formatDuration(nanos) {
  if (nanos === null || nanos === undefined || Number.isNaN(nanos)) return "–";
  if (nanos < 0) return "−" + formatDuration(-nanos);
  for (const [unit, size] of [["ns", 1], ["µs", 1e3], ["ms", 1e6]]) {
    if (nanos / size < 999.5) return `${significant(nanos / size)} ${unit}`;
  }
  if (nanos < 59.95e9) return `${significant(nanos / 1e9)} s`;
  const seconds = Math.round(nanos / 1e9);
  if (seconds < 3600) return `${Math.floor(seconds / 60)} m ${seconds % 60} s`;
  if (seconds < 172_800) {
    return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} m`;
  }
  if (seconds < 63_115_200) return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
  return `${Math.floor(seconds / 31_557_600)} years`;
}

const DURATION_UNITS = { ns: 1, us: 1e3, µs: 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Return the nanoseconds that a text such as `1.5s` or `200 ms` says; null if it says none. */
export function parseDuration(text) {
  const found = /^\s*(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s|m|h)\s*$/.exec(text);
  return found ? Math.round(Number(found[1]) * DURATION_UNITS[found[2]]) : null;
}

/** Return a duration as a text that `parseDuration` reads, exact to three digits. */
export function writeDuration(nanos) {
  for (const [unit, size] of [["s", 1e9], ["ms", 1e6], ["us", 1e3]]) {
    if (nanos >= size) return significant(nanos / size) + unit;
  }
  return Math.round(nanos) + "ns";
}

function significant(value) {
  return String(Number(value.toPrecision(3)));
}

/** Return a number with separators of thousands, or in six significant digits. */
export function formatNumber(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (typeof value === "bigint" || Number.isInteger(value)) return value.toLocaleString("en-US");
  return Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4
    ? value.toPrecision(4)
    : String(Number(value.toPrecision(6)));
}

/** Return a number in short, such as `1.2k` or `3.4M`. */
export function formatShort(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= size) return significant(value / size) + unit;
  }
  return significant(value);
}

const RATE_UNITS = [
  { name: "s", seconds: 1 },
  { name: "min", seconds: 60 },
  { name: "h", seconds: 3600 },
];

/** Return the unit in which the largest of these rates per second is read best. */
export function rateUnitOf(rates) {
  const most = rates.reduce((found, rate) => Math.max(found, rate ?? 0), 0);
  return RATE_UNITS.find(({ seconds }) => most * seconds >= 0.5) ?? RATE_UNITS[most ? 2 : 0];
}

/** Return a rate per second as text, such as `12.3/s`, or `4/min` where it is less. */
export function formatRate(perSecond, unit = rateUnitOf([perSecond])) {
  if (perSecond === null || perSecond === undefined) return "–";
  return `${formatShort(perSecond * unit.seconds)}/${unit.name}`;
}

/** Return a part of 1 as per cent, such as `0.40 %` or `6.0 %`; never `0 %` of something that is not 0. */
export function formatPercent(part) {
  if (part === null || part === undefined || Number.isNaN(part)) return "–";
  const percent = part * 100;
  if (percent === 0) return "0 %";
  if (Math.abs(percent) < 0.01) return "< 0.01 %";
  if (percent === 100) return "100 %";
  return (Math.abs(percent) < 0.995 ? percent.toPrecision(2) : percent.toFixed(1)) + " %";
}

/** Return a size in bytes, such as `1.2 MB`; a kB is 1,000 bytes. */
export function formatBytes(size) {
  for (const [unit, scale] of [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]]) {
    if (size >= scale) return `${(size / scale).toFixed(1)} ${unit}`;
  }
  return `${size} B`;
}

/** Return a count with its noun, such as `1 span` or `1,204 spans`. */
export function formatCount(count, noun) {
  return `${formatNumber(count)} ${noun}${count === 1 ? "" : "s"}`;
}

const PARTS = {
  day: { year: "numeric", month: "2-digit", day: "2-digit" },
  clock: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
};

function partsOf(millis, which) {
  const zone = isUtc ? { timeZone: "UTC" } : {};
  const format = new Intl.DateTimeFormat("en-CA", { ...which, ...zone });
  return Object.fromEntries(format.formatToParts(millis).map((part) => [part.type, part.value]));
}

/** Return the milliseconds since the epoch of a time in nanoseconds (text or BigInt). */
export function toMillis(nanos) {
  return Number(BigInt(nanos) / 1_000_000n);
}

/** Return the day of a time, such as `2026-11-29`. */
export function formatDay(nanos) {
  const day = partsOf(toMillis(nanos), PARTS.day);
  return `${day.year}-${day.month}-${day.day}`;
}

/** Return the time of day, to `digits` digits of a second's fraction. */
export function formatClock(nanos, digits = 3) {
  const clock = partsOf(toMillis(nanos), PARTS.clock);
  const fraction = (BigInt(nanos) % 1_000_000_000n).toString().padStart(9, "0").slice(0, digits);
  return `${clock.hour}:${clock.minute}:${clock.second}${digits ? "." + fraction : ""}`;
}

/** Return day and time of a time in nanoseconds; `-` for 0. */
export function formatTime(nanos, digits = 3) {
  return BigInt(nanos) === 0n ? "-" : `${formatDay(nanos)} ${formatClock(nanos, digits)}`;
}

/** Return the time of day, with the day before it where that is not today's. */
export function formatNear(nanos, nowMillis, digits = 3) {
  const day = formatDay(nanos);
  const today = formatDay(BigInt(nowMillis) * 1_000_000n);
  const clock = formatClock(nanos, digits);
  return day === today ? clock : `${day.slice(0, 4) === today.slice(0, 4) ? day.slice(5) : day} ${clock}`;
}

/** Return how long ago a time was, such as `3 min ago`. */
export function formatAge(nanos, nowMillis) {
  const seconds = Math.round((nowMillis - toMillis(nanos)) / 1000);
  if (seconds < 0) return "in the future";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86_400)} days ago`;
}
