/** Traces as points: when they started, and how long they took. */

import { followDrag, useCanvas } from "../canvas.js";
import { canvasColor } from "../colors.js";
import { html, useMemo, useState } from "../components.js";
import { escapeText, formatClock, formatCount, formatDuration, formatNumber } from "../format.js";
import { timeTicks } from "../time_range.js";
import { drawCells } from "./heat.js";

const LEFT = 64;
const RIGHT = 12;
const TOP = 8;
const BOTTOM = 22;
const REACH = 12; // pixels around a point where the pointer finds it
const LINE_DISTANCE = 16;
const MINUTE = 60e9;
const DAY = 86_400e9;
const YEAR = 31_557_600e9;
const ROUND_DURATIONS = [
  ...Array.from({ length: 11 }, (_, decade) => 10 ** decade), MINUTE, 10 * MINUTE, 60 * MINUTE, 600 * MINUTE, DAY, 10 * DAY,
  100 * DAY, ...[2, 10, 100, 1000].map((years) => years * YEAR),
];
const THIN = 8; // a drag that is thinner chooses by the other axis alone

/**
 * @param {object} props
 * @param {object[]} props.traces of the API
 * @param {import("./heat.js").Cell[]} props.cells of all spans in the range, where not all traces were read; else empty
 * @param {{from: string|null, to: string|null}} props.range
 * @param {function({from: string, to: string, min_duration: number, max_duration: number})} props.onRange called with what a
 *   drag has chosen; an axis that it did not choose by is left out
 * @param {function(object)} props.onOpen a trace
 */
export function TraceScatter({ traces, cells, range, onRange, onOpen }) {
  const [drag, setDrag] = useState(null);
  const [hovered, setHovered] = useState(null);
  const scale = useMemo(() => makeScale(traces, cells, range), [traces, cells, range.from, range.to]);
  const canvas = useCanvas(
    (context, width, height) => draw(context, width, height, { traces, cells, scale, hovered }),
    [traces, cells, scale, hovered],
  );

  const nearest = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const point = { x: event.clientX - box.left, y: event.clientY - box.top };
    return (
      findNearest(traces, scale, box.width, box.height, point) ?? findCell(cells, scale, box.width, box.height, point)
    );
  };
  const start = (event) => {
    const { width, height } = canvas.current.getBoundingClientRect();
    const pressed = nearest(event);
    setHovered(null);
    followDrag(
      event,
      (one, other) => setDrag(rectangleOf(one, other, width, height)),
      (one, other) => {
        setDrag(null);
        if (other) onRange(chosenBy(rectangleOf(one, other, width, height), scale, width, height));
        else if (pressed?.trace_id) onOpen(pressed);
        else if (pressed) onRange(rangeOfCell(pressed));
      },
    );
  };
  const hoveredAt = hovered && canvas.current && tipPlaceOf(hovered, scale, canvas.current.clientWidth, canvas.current.clientHeight);
  return html`
    <div class=${`scatter ${hovered ? "over-point" : ""}`} onPointerDown=${start}
      onPointerMove=${(event) => drag || setHovered(nearest(event))}
      onPointerLeave=${() => setHovered(null)}>
      <canvas ref=${canvas} role="img" aria-label=${describe(traces, cells)}></canvas>
      ${drag && html`<div class="drag"
        style=${{ left: `${drag.left}px`, top: `${drag.top}px`, width: `${drag.right - drag.left}px`, height: `${drag.bottom - drag.top}px` }}></div>`}
      ${hoveredAt && html`
        <div class=${`scatter-tip ${hoveredAt.x > canvas.current.clientWidth / 2 ? "to-left" : ""}`}
          style=${{ left: `${hoveredAt.x}px`, top: `${hoveredAt.y}px` }}>
          ${hovered.trace_id ? html`<${TraceTip} trace=${hovered} />` : html`<${CellTip} cell=${hovered} />`}</div>`}
    </div>`;
}

function describe(traces, cells) {
  const errors = traces.filter((trace) => trace.errors > 0).length;
  const behind = cells.length ? ", over those of all spans in this time range" : "";
  return `Duration over time of ${formatCount(traces.length, "trace")}, ${errors} with errors${behind}; the list below has the same traces`;
}

function TraceTip({ trace }) {
  return html`
    <strong>${escapeText(trace.root_service)} ${escapeText(trace.root_name)}</strong>
    <span class="number">${formatDuration(trace.duration)} · ${formatCount(trace.spans, "span")}${
      trace.errors > 0 && html` · <span class="error-text">${trace.errors} failed</span>`}</span>
    <span class="muted number">${formatClock(trace.start)}</span>`;
}

function CellTip({ cell }) {
  return html`
    <strong class="number">${formatDuration(cell.low)} – ${formatDuration(cell.high)}</strong>
    <span class="number">${formatCount(cell.count, "span")}${
      cell.errors > 0 && html` · <span class="error-text">${formatNumber(cell.errors)} failed</span>`}</span>
    <span class="muted number">${formatClock(cell.from, 0)} – ${formatClock(cell.to, 0)}</span>`;
}

function makeScale(traces, cells, range) {
  const starts = [...traces.map((trace) => BigInt(trace.start)), ...cells.flatMap((cell) => [cell.from, cell.to])];
  const edge = (pick) => starts.reduce((found, start) => (pick(start, found) ? start : found), starts[0] ?? 0n);
  const from = range.from === null ? edge((one, other) => one < other) : BigInt(range.from);
  const to = range.to === null ? edge((one, other) => one > other) : BigInt(range.to);
  const durations = [
    ...traces.map((trace) => Math.max(trace.duration, 1)), ...cells.flatMap((cell) => [Math.max(cell.low, 1), cell.high]),
  ];
  const least = durations.reduce((one, other) => Math.min(one, other), Infinity);
  const most = durations.reduce((one, other) => Math.max(one, other), 0);
  return {
    from,
    length: Math.max(Number(to - from), 1),
    // Whole decades, so that the lines are round.
    low: Number.isFinite(least) ? Math.floor(Math.log10(least)) : 6,
    high: most ? Math.max(Math.ceil(Math.log10(most * 1.05)), Math.floor(Math.log10(least)) + 1) : 9,
  };
}

function placeOf({ start, duration }, scale, width, height) {
  const x = LEFT + (Number(BigInt(start) - scale.from) / scale.length) * (width - LEFT - RIGHT);
  const part = (Math.log10(Math.max(duration, 1)) - scale.low) / (scale.high - scale.low);
  return { x, y: height - BOTTOM - part * (height - TOP - BOTTOM) };
}

function rectangleOfCell(cell, scale, width, height) {
  const lower = placeOf({ start: cell.from, duration: cell.low }, scale, width, height);
  const upper = placeOf({ start: cell.to, duration: cell.high }, scale, width, height);
  const left = Math.max(lower.x, LEFT);
  // A pixel between cells, where there is room.
  const right = Math.min(upper.x, width - RIGHT);
  return { left, top: upper.y, width: Math.max(right - left - (right - left > 3), 0), height: Math.max(lower.y - upper.y - 1, 1) };
}

function tipPlaceOf(item, scale, width, height) {
  if (item.trace_id) return placeOf(item, scale, width, height);
  const { left, top, width: across } = rectangleOfCell(item, scale, width, height);
  return { x: left + across, y: top };
}

function findCell(cells, scale, width, height, { x, y }) {
  const isIn = (cell) => {
    const { left, top, width: across, height: down } = rectangleOfCell(cell, scale, width, height);
    return x >= left && x <= left + across && y >= top && y <= top + down;
  };
  return cells.find(isIn) ?? null;
}

function rangeOfCell({ from, to, low, high }) {
  return { from: from.toString(), to: to.toString(), min_duration: Math.floor(low), max_duration: Math.ceil(high) };
}

function findNearest(traces, scale, width, height, point) {
  let found = null;
  let least = REACH;
  for (const trace of traces) {
    const { x, y } = placeOf(trace, scale, width, height);
    const distance = Math.hypot(x - point.x, y - point.y);
    if (distance < least) [found, least] = [trace, distance];
  }
  return found;
}

function rectangleOf(one, other, width, height) {
  const within = (value, low, high) => Math.max(low, Math.min(high, value));
  const [left, right] = [one.x, other.x].sort((a, b) => a - b).map((x) => within(x, LEFT, width - RIGHT));
  const [top, bottom] = [one.y, other.y].sort((a, b) => a - b).map((y) => within(y, TOP, height - BOTTOM));
  // What the drag does not choose by is taken whole.
  if (bottom - top < THIN) return { left, right, top: TOP, bottom: height - BOTTOM, isTime: true };
  if (right - left < THIN) return { left: LEFT, right: width - RIGHT, top, bottom, isDuration: true };
  return { left, right, top, bottom, isTime: true, isDuration: true };
}

function chosenBy(rectangle, scale, width, height) {
  const timeAt = (x) => (scale.from + BigInt(Math.round(((x - LEFT) / (width - LEFT - RIGHT)) * scale.length))).toString();
  const durationAt = (y) => {
    const part = (height - BOTTOM - y) / (height - TOP - BOTTOM);
    return Math.round(10 ** (scale.low + part * (scale.high - scale.low)));
  };
  return {
    ...(rectangle.isTime && { from: timeAt(rectangle.left), to: timeAt(rectangle.right) }),
    ...(rectangle.isDuration && { min_duration: durationAt(rectangle.bottom), max_duration: durationAt(rectangle.top) }),
  };
}

function draw(context, width, height, { traces, cells, scale, hovered }) {
  drawAxes(context, width, height, scale);
  drawCells(context, cells, (cell) => rectangleOfCell(cell, scale, width, height));
  const accent = canvasColor("var(--accent)");
  const error = canvasColor("var(--error)");
  context.globalAlpha = 0.6;
  // Failed ones last, so that they are on top.
  for (const isFailed of [false, true]) {
    context.fillStyle = isFailed ? error : accent;
    for (const trace of traces) {
      if (trace.errors > 0 !== isFailed) continue;
      const { x, y } = placeOf(trace, scale, width, height);
      context.beginPath();
      context.arc(x, y, isFailed ? 3.5 : 3, 0, 2 * Math.PI);
      context.fill();
    }
  }
  context.globalAlpha = 1;
  if (hovered?.trace_id) {
    const { x, y } = placeOf(hovered, scale, width, height);
    context.strokeStyle = canvasColor("var(--text)");
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, y, 6, 0, 2 * Math.PI);
    context.stroke();
  }
}

function drawAxes(context, width, height, scale) {
  context.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  context.fillStyle = canvasColor("var(--muted)");
  context.strokeStyle = canvasColor("var(--line)");
  context.lineWidth = 1;
  context.textAlign = "right";
  context.textBaseline = "middle";
  let last = Infinity;
  for (const duration of ROUND_DURATIONS) {
    const part = (Math.log10(duration) - scale.low) / (scale.high - scale.low);
    const y = Math.round(height - BOTTOM - part * (height - TOP - BOTTOM)) + 0.5;
    if (part < 0 || part > 1 || last - y < LINE_DISTANCE) continue;
    last = y;
    context.beginPath();
    context.moveTo(LEFT, y);
    context.lineTo(width - RIGHT, y);
    context.stroke();
    // "1 m", not "1 m 0 s".
    context.fillText(formatDuration(duration).replace(/ 0 [a-z]$/, ""), LEFT - 8, y);
  }
  context.textBaseline = "top";
  context.textAlign = "center";
  for (const { time, text } of timeTicks(scale.from, scale.length, Math.max(2, Math.floor(width / 120)))) {
    const x = LEFT + (Number(time - scale.from) / scale.length) * (width - LEFT - RIGHT);
    context.fillRect(Math.round(x), height - BOTTOM, 1, 4);
    context.fillText(text, Math.max(LEFT, Math.min(width - RIGHT - 26, x)), height - BOTTOM + 7);
  }
}
