/** Charts over time: lines, stacked bars and heat maps, with one cursor for all that are shown. */

import { default as uPlot } from "./vendor/uplot.js";
import { canvasColor } from "./colors.js";
import { html, useEffect, useRef, useState } from "./components.js";
import { escapeText, formatClock, formatDay, formatShort, formatTime } from "./format.js";

const MARKER_REACH = 9;
const MAX_TIP_ROWS = 12;
/** So wide that charts above each other have their times above each other, mostly. */
const LEAST_AXIS = 56;
const DAY = 86_400;
const YEAR = 365 * DAY;
const WHOLE_STEPS = Array.from({ length: 15 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();

/**
 * @typedef {object} ChartSeries
 * @property {string} label
 * @property {(number|null)[]} values one for each time
 * @property {string} color such as `var(--service-3)`
 * @property {boolean} [isHidden]
 * @typedef {{time: number, value: number|null, label: string, onOpen: function}} Marker
 *   a point that leads somewhere; without a value it stands at the bottom
 */

/** Return the times of the steps of an answer, in seconds since the epoch. */
export function timesOfSteps({ from, step }, count) {
  const first = secondsOf(from);
  return Array.from({ length: count }, (_, index) => first + (index * step) / 1e9);
}

/** Return a time in nanoseconds (text) in seconds since the epoch. */
export function secondsOf(nanos) {
  return Number(BigInt(nanos) / 1000n) / 1e6;
}

/** Return seconds since the epoch as nanoseconds (text). */
function nanosOf(seconds) {
  return (BigInt(Math.round(seconds * 1e6)) * 1000n).toString();
}

/**
 * Lines or stacked bars over time. The arrow keys move the cursor; dragging selects a range.
 *
 * @param {object} props
 * @param {string} props.label for screen readers
 * @param {number[]} props.times in seconds since the epoch
 * @param {ChartSeries[]} props.series
 * @param {function(number|null): string} [props.format] of a value
 * @param {"line"|"bars"} [props.kind] bars are stacked
 * @param {number} [props.step] seconds from one time to the next
 * @param {boolean} [props.isFromZero] the axis begins at 0, as for rates and counts
 * @param {Marker[]} [props.markers]
 * @param {function({from: string, to: string})} [props.onSelect] called with the range that was dragged
 * @param {string} [props.syncKey] charts of one key share the cursor
 */
export function TimeChart({ label, times, series, format = formatShort, kind = "line", height = 200, isFromZero, ...rest }) {
  const shown = series.filter(({ isHidden }) => !isHidden);
  const isStacked = kind === "bars";
  const data = [times, ...(isStacked ? stack(shown) : shown.map(({ values }) => values))];
  const colors = shown.map(({ color }) => canvasColor(color));
  const makeSeries = () => {
    const lines = shown.map((one, index) =>
      isStacked ? barStyle(one, colors[index]) : lineStyle(one, colors[index], times.length),
    );
    return isStacked ? lines.reverse() : lines;
  };
  const tip = (at) => ({
    title: titleOfStep(times, at, isStacked ? rest.step : 0),
    rows: shown.map((one) => ({ label: one.label, color: one.color, value: one.values[at], text: format(one.values[at]) })),
  });
  return html`
    <${Plot} ...${{ label, data, tip, height, format, makeSeries, isStacked, ...rest }}
      yRange=${isStacked || isFromZero ? rangeFromZero : rangeOfLines}
      xPadding=${rest.step ?? 0}
      styleKey=${JSON.stringify([kind, shown.map((one) => one.label), colors, series.length])} />`;
}

/**
 * A heat map: how many values fell into each bucket in each step.
 *
 * @param {object} props
 * @param {number[]} props.times in seconds since the epoch
 * @param {number} props.step in seconds
 * @param {number[]} props.bounds upper ones of the buckets; the last bucket has none
 * @param {number[][]} props.counts by time and bucket
 * @param {ChartSeries[]} props.series values drawn as lines over it, such as percentiles
 * @param {function(number|null): string} props.format of a value
 */
export function HeatMap({ label, times, step, bounds, counts, series, format, height = 260, markers = [], ...rest }) {
  const { low, high } = filledBuckets(counts);
  const rowOf = (value) => rowOfValue(bounds, value);
  const shown = series.filter(({ isHidden }) => !isHidden);
  const rows = shown.map(({ values }) => values.map((value) => (value === null ? null : rowOf(value))));
  const colors = shown.map(({ color }) => canvasColor(color));
  const accent = canvasColor("var(--accent)");
  const formatRow = (row) => (Number.isInteger(row) && bounds[row - 1] !== undefined ? format(bounds[row - 1]) : "");
  const most = counts.reduce((found, buckets) => Math.max(found, ...buckets), 0);
  const tip = (at) => ({
    title: titleOfStep(times, at, step),
    rows: shown.map((one) => ({ label: one.label, color: one.color, value: one.values[at], text: format(one.values[at]) })),
    note: `${formatShort(counts[at]?.reduce((sum, count) => sum + count, 0) ?? 0)} values`,
  });
  const paint = (plot) => paintCells(plot, { times, step, counts, low, high, most, accent });
  return html`
    <${Plot} ...${{ label, tip, height, paint, ...rest }} data=${[times, ...rows]} xPadding=${step}
      format=${formatRow} splits=${(least, greatest) => wholeRows(least, greatest)}
      markers=${markers.map((marker) => ({ ...marker, value: rowOf(marker.value) }))}
      makeSeries=${() => shown.map((one, index) => ({ ...lineStyle(one, colors[index], times.length), width: 2 }))}
      yRange=${() => [low, high + 1]} gridAlpha=${0}
      styleKey=${JSON.stringify([shown.map((one) => one.label), colors, accent, low, high, bounds])} />`;
}

/**
 * Names and colours of series. Each is a button that hides it; with Shift, or by the key `o`, it is shown alone.
 *
 * @param {object} props
 * @param {ChartSeries[]} props.series
 * @param {function(number|null): string} props.format
 * @param {function(string[])} props.onHide called with the labels that are hidden from now on
 */
export function Legend({ series, format, onHide }) {
  const hidden = series.filter(({ isHidden }) => isHidden).map(({ label }) => label);
  const toggle = (label) => onHide(hidden.includes(label) ? hidden.filter((one) => one !== label) : [...hidden, label]);
  const isolate = (label) => {
    const others = series.map((one) => one.label).filter((one) => one !== label);
    onHide(others.every((one) => hidden.includes(one)) && !hidden.includes(label) ? [] : others);
  };
  const onKeyDown = (event, label) => {
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
    const buttons = [...event.currentTarget.closest("ul").querySelectorAll("button")];
    if (step) buttons[buttons.indexOf(event.currentTarget) + step]?.focus();
    else if (event.key === "o") isolate(label);
    else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return html`
    <ul class="chart-legend" aria-label="Series">
      ${series.map(({ label, color, isHidden, values }) => html`
        <li><button type="button" aria-pressed=${!isHidden} title="Hide or show; with Shift or the key o, show it alone"
          onClick=${(event) => (event.shiftKey ? isolate(label) : toggle(label))}
          onKeyDown=${(event) => onKeyDown(event, label)}>
          <i style=${{ background: color }} aria-hidden="true"></i><span class="cut">${escapeText(label)}</span>
          <span class="number muted">${format(lastOf(values))}</span></button></li>`)}
    </ul>`;
}

function lastOf(values) {
  return values.findLast((value) => value !== null && value !== undefined) ?? null;
}

function Plot({ label, data, tip, height, syncKey, onSelect, markers = [], styleKey, ...options }) {
  const box = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const latest = useRef({});
  latest.current = { onSelect, markers, ...options };
  const theme = canvasColor("var(--text)") + canvasColor("var(--line)");

  useEffect(() => {
    const made = new uPlot(plotOptions({ box, height, syncKey, setAt, latest }), data, box.current);
    plot.current = made;
    const observer = new ResizeObserver(([{ contentRect }]) => {
      if (contentRect.width > 0) made.setSize({ width: Math.floor(contentRect.width), height });
    });
    observer.observe(box.current);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [styleKey, theme, syncKey, height]);

  useEffect(() => {
    plot.current.setData(data);
  }, [data.flat().join(), JSON.stringify(markers)]);

  const onKeyDown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const times = data[0];
    const next = Math.max(0, Math.min(times.length - 1, at === null ? (step > 0 ? 0 : times.length - 1) : at + step));
    const made = plot.current;
    made.setCursor({ left: made.valToPos(times[next], "x"), top: made.over.clientHeight / 2 });
  };
  const content = at !== null && at < data[0].length ? tip(at) : null;
  return html`
    <div class="chart" tabindex="0" role="group" aria-label=${`${label}. Arrow keys read its values.`} onKeyDown=${onKeyDown}>
      <div ref=${box} class="plot" aria-hidden="true" style=${{ height: `${height}px` }}></div>
      <div class=${`chart-tip ${content ? "" : "hidden"} ${isRightHalf(plot.current) ? "at-left" : "at-right"}`} role="status">
        ${content && html`<${Tip} ...${content} />`}
      </div>
    </div>`;
}

function isRightHalf(plot) {
  return plot && plot.cursor.left > plot.over.clientWidth / 2;
}

function Tip({ title, rows, note }) {
  const known = rows.filter(({ value }) => value !== null && value !== undefined);
  const sorted = known.length > MAX_TIP_ROWS ? [...known].sort((a, b) => b.value - a.value) : known;
  return html`
    <p class="number">${title}</p>
    <table><tbody>
      ${sorted.slice(0, MAX_TIP_ROWS).map(({ label, color, text }) => html`
        <tr><td><i style=${{ background: color }}></i></td><td class="cut">${escapeText(label)}</td>
          <td class="number">${text}</td></tr>`)}
    </tbody></table>
    ${sorted.length > MAX_TIP_ROWS && html`<p class="muted">and ${sorted.length - MAX_TIP_ROWS} more</p>`}
    ${note && html`<p class="muted">${note}</p>`}`;
}

function titleOfStep(times, at, step) {
  if (times[at] === undefined) return "";
  const start = formatTime(nanosOf(times[at]), times.length > 1 && times[1] - times[0] < 1 ? 3 : 0);
  return step >= 1 ? `${start} – ${formatClock(nanosOf(times[at] + step), 0)}` : start;
}

// What uPlot needs.

function plotOptions({ box, height, syncKey, setAt, latest }) {
  const { makeSeries, yRange, xPadding, splits, gridAlpha = 1, isStacked = false } = latest.current;
  const text = canvasColor("var(--muted)");
  const line = canvasColor("var(--line)");
  const axis = {
    stroke: text,
    font: '11px system-ui, "Segoe UI", sans-serif',
    ticks: { show: false },
    grid: { stroke: line, width: gridAlpha },
  };
  return {
    width: Math.max(Math.floor(box.current.clientWidth), 100),
    height,
    legend: { show: false },
    padding: [8, 22, 0, 0],
    cursor: {
      sync: syncKey ? { key: syncKey, setSeries: false, scales: ["x", null] } : undefined,
      drag: { x: true, y: false, setScale: false },
      points: { show: !isStacked, size: 7 },
      y: false,
    },
    scales: {
      x: { time: true, range: (_plot, least, greatest) => [least, greatest + xPadding] },
      y: { range: (_plot, least, greatest) => yRange(least, greatest) },
    },
    axes: [
      { ...axis, grid: { show: false }, space: 80, size: 24, values: (_plot, marks) => timeLabels(marks) },
      {
        ...axis,
        size: (_plot, values) => widthOfLabels(values),
        values: (_plot, marks) => marks.map((mark) => latest.current.format(mark)),
        incrs: isStacked ? WHOLE_STEPS : undefined,
        splits: splits && ((_plot, _axis, least, greatest) => splits(least, greatest)),
      },
    ],
    series: [{}, ...makeSeries()],
    hooks: {
      drawClear: [(plot) => latest.current.paint?.(plot)],
      draw: [(plot) => paintMarkers(plot, latest.current.markers)],
      setCursor: [(plot) => setAt(plot.cursor.idx ?? null)],
      setSelect: [(plot) => reportSelection(plot, latest)],
      ready: [(plot) => listenForMarkers(plot, latest)],
    },
  };
}

function lineStyle({ label }, color, count) {
  return {
    label,
    stroke: color,
    width: 1.5,
    points: { show: count < 3, size: 5, fill: color, filter: isolatedPoints },
  };
}

/** Return the places of values between two gaps, which no line would show. */
function isolatedPoints(plot, index, isShown) {
  if (isShown) return null;
  const values = plot.data[index];
  const places = [...values.keys()];
  return places.filter((at) => !isGap(values[at]) && isGap(values[at - 1]) && isGap(values[at + 1]));
}

function isGap(value) {
  return value === null || value === undefined;
}

function barStyle({ label }, color) {
  return { label, fill: color, stroke: color, width: 0, points: { show: false }, paths: uPlot.paths.bars({ size: [0.86, 60], align: 1 }) };
}

/** Return the sums up to each series, the whole first: what is drawn later stands before it. */
function stack(series) {
  const sums = [];
  for (const { values } of series) {
    const below = sums.at(-1);
    sums.push(values.map((value, at) => (value ?? 0) + (below?.[at] ?? 0)));
  }
  return sums.reverse();
}

function rangeFromZero(least, greatest) {
  return [Math.min(least ?? 0, 0) * 1.05, (greatest || 1) * 1.08];
}

function rangeOfLines(least, greatest) {
  if (least === null) return [0, 1];
  // Nearly all that is measured begins at 0; a gauge that moves little far from it does not.
  const low = least >= 0 && least < greatest * 0.8 ? 0 : least;
  const pad = (greatest - low) * 0.08 || Math.abs(greatest) * 0.1 || 1;
  return [low === 0 ? 0 : low - pad, greatest + pad];
}

function timeLabels(marks) {
  const step = marks.length > 1 ? marks[1] - marks[0] : 1;
  const digits = step >= 1 ? 0 : 3;
  let day = marks.length && marks.at(-1) - marks[0] > DAY / 2 ? "" : null;
  return marks.map((mark) => {
    const nanos = nanosOf(mark);
    const clock = formatClock(nanos, digits);
    if (step >= YEAR / 2) return formatDay(nanos).slice(0, 7);
    const text = step >= DAY ? formatDay(nanos).slice(5) : step >= 60 ? clock.slice(0, 5) : clock;
    if (day === null || step >= DAY || formatDay(nanos) === day) return text;
    day = formatDay(nanos);
    return `${day.slice(5)} ${text}`;
  });
}

function widthOfLabels(values) {
  const longest = (values ?? []).reduce((most, value) => Math.max(most, value.length), 0);
  return Math.max(LEAST_AXIS, 14 + longest * 6.4);
}

function reportSelection(plot, latest) {
  const { left, width } = plot.select;
  if (width < 3) return;
  const range = { from: nanosOf(plot.posToVal(left, "x")), to: nanosOf(plot.posToVal(left + width, "x")) };
  plot.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  latest.current.onSelect?.(range);
}

// Heat maps.

/** Return the first and the last bucket that holds anything, with one beside them. */
function filledBuckets(counts) {
  const isFilled = (bucket) => counts.some((buckets) => buckets[bucket] > 0);
  const size = counts[0]?.length ?? 1;
  let [low, high] = [0, size - 1];
  while (low < high && !isFilled(low)) low += 1;
  while (high > low && !isFilled(high)) high -= 1;
  return { low: Math.max(low - 1, 0), high: Math.min(high + 1, size - 1) };
}

/** Return the height of a value on an axis whose rows are buckets. */
function rowOfValue(bounds, value) {
  const found = bounds.findIndex((bound) => value <= bound);
  const row = found < 0 ? bounds.length : found;
  const upper = bounds[row];
  const lower = row > 0 ? bounds[row - 1] : Math.min(0, upper ?? 0);
  if (upper === undefined || upper === lower) return row + 0.5;
  return row + Math.max(0, Math.min(1, (value - lower) / (upper - lower)));
}

function wholeRows(least, greatest) {
  const every = Math.max(1, Math.ceil((greatest - least) / 10));
  const first = Math.ceil(least);
  const count = Math.floor((greatest - first) / every) + 1;
  return Array.from({ length: Math.max(count, 0) }, (_, index) => first + index * every);
}

function paintCells(plot, { times, step, counts, low, high, most, accent }) {
  const { ctx } = plot;
  const place = (value, scale) => Math.round(plot.valToPos(value, scale, true));
  ctx.save();
  ctx.fillStyle = accent;
  times.forEach((time, at) => {
    const left = place(time, "x");
    const width = Math.max(place(time + step, "x") - left - 1, 1);
    for (let bucket = low; bucket <= high; bucket++) {
      const count = counts[at]?.[bucket] ?? 0;
      if (count <= 0) continue;
      const top = place(bucket + 1, "y");
      ctx.globalAlpha = 0.08 + 0.82 * Math.sqrt(count / most);
      ctx.fillRect(left, top, width, Math.max(place(bucket, "y") - top - 1, 1));
    }
  });
  ctx.restore();
}

// Markers.

function placeOfMarker(plot, { time, value }, isCanvas) {
  const x = plot.valToPos(time, "x", isCanvas);
  const ratio = isCanvas ? devicePixelRatio : 1;
  const bottom = isCanvas ? plot.bbox.top + plot.bbox.height : plot.over.clientHeight;
  const top = isCanvas ? plot.bbox.top : 0;
  const y = isGap(value) ? bottom - 6 * ratio : plot.valToPos(value, "y", isCanvas);
  return { x, y: Math.max(top, Math.min(bottom - 4 * ratio, y)) };
}

function paintMarkers(plot, markers) {
  const { ctx, bbox } = plot;
  const size = 4 * devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  ctx.fillStyle = canvasColor("var(--surface)");
  ctx.strokeStyle = canvasColor("var(--text)");
  ctx.lineWidth = 1.25 * devicePixelRatio;
  for (const marker of markers) {
    const { x, y } = placeOfMarker(plot, marker, true);
    ctx.beginPath();
    ctx.moveTo(x, y - size);
    ctx.lineTo(x + size, y);
    ctx.lineTo(x, y + size);
    ctx.lineTo(x - size, y);
    ctx.closePath();
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
}

function nearestMarker(plot, { left, top }, markers) {
  let [best, distance] = [null, MARKER_REACH];
  for (const marker of markers) {
    const { x, y } = placeOfMarker(plot, marker, false);
    const far = Math.hypot(x - left, y - top);
    if (far < distance) [best, distance] = [marker, far];
  }
  return best;
}

function listenForMarkers(plot, latest) {
  const find = (event) => {
    const { left, top } = plot.over.getBoundingClientRect();
    return nearestMarker(plot, { left: event.clientX - left, top: event.clientY - top }, latest.current.markers);
  };
  plot.over.addEventListener("mousemove", (event) => {
    const marker = find(event);
    plot.over.style.cursor = marker ? "pointer" : "";
    plot.over.title = marker ? marker.label : "";
  });
  plot.over.addEventListener("click", (event) => find(event)?.onOpen());
}
