/** Values in the unit of their metric (UCUM), as text. */

import { formatDuration, formatNumber, formatPercent, formatShort } from "./format.js";

const SECONDS = { ns: 1, us: 1e3, ms: 1e6, s: 1e9, min: 60e9, h: 3600e9, d: 86_400e9 };
const BYTES = { By: 1, kBy: 1e3, MBy: 1e6, GBy: 1e9, KiBy: 1024, MiBy: 1024 ** 2, GiBy: 1024 ** 3 };
const NAMES = { Cel: "°C", V: "V", A: "A", W: "W", J: "J", Hz: "Hz", m: "m", g: "g" };
const MULTIPLES = [["PB", 1e15], ["TB", 1e12], ["GB", 1e9], ["MB", 1e6], ["kB", 1e3]];

/**
 * Return a function that writes a value of a metric.
 * @param {string} unit in UCUM, such as `s`, `By`, `{request}` or `By/s`
 * @param {object} [options]
 * @param {boolean} [options.isRate] the values are increases each second
 * @param {boolean} [options.isShare] values of the unit 1 are parts of a whole
 * @returns {function(number|null): string}
 */
export function makeFormatter(unit, { isRate = false, isShare = false } = {}) {
  const write = formatterOf(unit, isRate, isShare);
  return (value) => (value === null || value === undefined || Number.isNaN(value) ? "–" : write(value));
}

/**
 * Return what values of the unit are called, such as `requests/s`; empty where each value says it.
 * @param {string} unit
 * @param {boolean} isRate
 */
export function describeUnit(unit, isRate) {
  const annotation = /^\{([^{}]+)\}$/.exec(unit);
  const name = annotation ? annotation[1] : unit in SECONDS || unit in BYTES || unit === "1" ? "" : unit;
  return isRate && name ? `${name}/s` : name;
}

function formatterOf(unit, isRate, isShare) {
  const [base, per] = unit.split("/");
  const suffix = isRate ? "/s" : per ? `/${per.replace(/^\{|\}$/g, "")}` : "";
  if (base in BYTES) return (value) => formatSize(value * BYTES[base]) + suffix;
  // Seconds counted each second are a share of the time.
  if (base in SECONDS && isRate) return (value) => `${formatShort((value * SECONDS[base]) / 1e9)} s/s`;
  if (base in SECONDS && !per) return (value) => formatDuration(value * SECONDS[base]);
  if (base === "%") return (value) => `${formatShort(value)} %${suffix}`;
  if (base === "1" && isShare) return formatPercent;
  if (base === "1" || base === "" || base.startsWith("{")) return (value) => formatCompact(value) + suffix;
  return (value) => `${formatCompact(value)} ${NAMES[base] ?? base}${suffix}`;
}

function formatCompact(value) {
  return Math.abs(value) >= 10_000 ? formatShort(value) : formatNumber(Number(value.toPrecision(4)));
}

function formatSize(bytes) {
  const [name, size] = MULTIPLES.find(([, least]) => Math.abs(bytes) >= least) ?? ["B", 1];
  return `${Number((bytes / size).toPrecision(3))} ${name}`;
}
