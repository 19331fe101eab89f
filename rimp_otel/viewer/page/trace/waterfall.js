/** The rows of a trace, over its time. */

import { serviceColor } from "../colors.js";
import { html, Icon, useRef, useState } from "../components.js";
import { escapeText, formatCount, formatDuration } from "../format.js";
import { exceptionIn, levelOf } from "../otlp.js";
import { hasFailed } from "./model.js";
import { VirtualList } from "../virtual_list.js";

export const ROW_HEIGHT = 24;
const INDENT = 14;
const MAX_DEPTH = 22;
const TICKS = 5;
const FIRST_NAME_WIDTH = 40; // per cent
const LEAST_NAME_WIDTH = 15;
const MOST_NAME_WIDTH = 85;

const FLAWS = {
  orphan: "Its parent is not recorded",
  circle: "Its ancestors are its descendants",
  skewed: "It starts before its parent: the clocks differ",
};

/**
 * @param {object} props
 * @param {object[]} props.rows of `listRows`
 * @param {{from: number, to: number}} props.zoom
 * @param {Map} props.criticalPath empty to hide it
 * @param {Set<number>} props.collapsed
 * @param {function(number)} props.toggle a node's index
 * @param {number} props.selected the selected row
 * @param {function(number)} props.onSelect
 * @param {function(number)} props.onOpen
 * @param {function(KeyboardEvent, number)} props.onKey
 * @param {Set<object>|null} props.matches rows that a search has found
 */
export function TraceWaterfall({ rows, zoom, criticalPath, collapsed, toggle, matches, ...list }) {
  const length = Math.max(zoom.to - zoom.from, 1);
  const [nameWidth, setNameWidth] = useState(FIRST_NAME_WIDTH);
  const box = useRef(null);
  const ticks = Array.from({ length: TICKS }, (_, tick) => zoom.from + (length * tick) / (TICKS - 1));
  const renderRow = (index) => {
    const row = rows[index];
    const isSpan = row.kind === "span";
    return html`
      <div class="name" role="gridcell"
        style=${{ paddingLeft: `${(isSpan ? 6 : 27) + Math.min(row.depth, MAX_DEPTH) * INDENT}px` }}>
        ${isSpan
          ? html`<${SpanName} row=${row} isCollapsed=${collapsed.has(row.node.index)} toggle=${toggle} />`
          : html`<${EventName} row=${row} />`}
      </div>
      <div class="time" role="gridcell">
        ${isSpan
          ? html`<${SpanBar} node=${row.node} zoom=${zoom} length=${length} pieces=${criticalPath.get(row.node)} />`
          : html`<${EventMark} row=${row} zoom=${zoom} length=${length} />`}
      </div>`;
  };
  const rowProps = (index) => {
    const row = rows[index];
    const isOpenable = row.kind === "span" && (row.node.children.length || row.node.logs.length || row.node.span.events.length);
    return {
      class: `${row.kind}-row ${matches?.has(row) ? "match" : ""} ${matches && !matches.has(row) ? "no-match" : ""}`,
      "aria-level": row.depth + 1,
      "aria-expanded": isOpenable ? !collapsed.has(row.node.index) : null,
    };
  };
  return html`
    <div class="waterfall" ref=${box} style=${{ "--name-width": `${nameWidth}%` }}>
      <div class="ruler">
        <div class="name">Service and operation</div>
        <${Splitter} box=${box} value=${nameWidth} setValue=${setNameWidth} />
        <div class="time" aria-hidden="true">${ticks.map((offset, tick) => html`
          <span style=${{ left: `${(tick * 100) / (TICKS - 1)}%` }}>${formatDuration(offset)}</span>`)}</div>
      </div>
      <${VirtualList} id="trace-row" role="treegrid" label="Spans" count=${rows.length} rowHeight=${ROW_HEIGHT}
        renderRow=${renderRow} rowProps=${rowProps} ...${list} />
    </div>`;
}

/** The line between names and times, moved by dragging and with the arrows. */
function Splitter({ box, value, setValue }) {
  const set = (width) => setValue(Math.round(Math.max(LEAST_NAME_WIDTH, Math.min(MOST_NAME_WIDTH, width))));
  const start = (event) => {
    const { left, width } = box.current.getBoundingClientRect();
    const handle = event.currentTarget;
    handle.setPointerCapture(event.pointerId);
    handle.onpointermove = (moved) => set(((moved.clientX - left) / width) * 100);
    handle.onlostpointercapture = () => {
      handle.onpointermove = null;
    };
  };
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -2, ArrowRight: 2 }[event.key];
    if (!step) return;
    event.preventDefault();
    set(value + step);
  };
  return html`
    <div class="splitter" role="separator" tabindex="0" aria-orientation="vertical" aria-label="Width of the names"
      aria-valuenow=${value} aria-valuemin=${LEAST_NAME_WIDTH} aria-valuemax=${MOST_NAME_WIDTH}
        title="Drag to make room for names or times"
      onPointerDown=${start} onKeyDown=${onKeyDown}></div>`;
}

function SpanName({ row: { node }, isCollapsed, toggle }) {
  const { span } = node;
  const isParent = node.children.length > 0;
  const press = (event) => {
    event.stopPropagation();
    toggle(node.index);
  };
  return html`
    <button type="button" class="twist" tabindex="-1" disabled=${!isParent} onClick=${press}
      onDblClick=${(event) => event.stopPropagation()}
      aria-label=${isCollapsed ? "Show what is below" : "Hide what is below"}>
      ${isParent && html`<${Icon} name=${isCollapsed ? "right" : "down"} />`}</button>
    <i class="dot" style=${{ background: serviceColor(span.service) }}></i>
    ${hasFailed(span) && html`<span class="error-text"><${Icon} name="warning" label="failed" /></span>`}
    ${span.isInterrupted && html`<span class="warn-text" title="Its process died before it ended"><${Icon} name="broken"
      label="interrupted" /></span>`}
    ${node.flaw && html`<span class="warn-text" title=${FLAWS[node.flaw]}><${Icon} name="link"
      label=${FLAWS[node.flaw]} /></span>`}
    <span class="cut"><span class="muted">${escapeText(span.service)}</span> <span class=${hasFailed(span) ? "error-text" : ""}>${escapeText(span.name) || html`<em>no name</em>`}</span></span>
    ${isCollapsed && html`<span class="badge"
      title=${formatCount(node.descendants, "span")}>+${node.descendants}</span>`}
    ${isCollapsed && node.errors > (hasFailed(span) ? 1 : 0) && html`<span class="badge error">${node.errors} failed</span>`}
    ${node.depth > MAX_DEPTH && html`<span class="badge" title="its depth">${node.depth}</span>`}`;
}

function EventName({ row }) {
  if (row.kind === "log") {
    const level = levelOf(row.log.severity);
    return html`<span class=${`trace-level ${level}`}>${level === "unspecified" ? "log" : level}</span>
      <span class="cut">${escapeText(row.log.text)}</span>`;
  }
  const raised = exceptionIn(row.event.attributes);
  return html`<span class=${`trace-level ${raised ? "error" : "event"}`}>${raised ? "raised" : "event"}</span>
    <span class="cut">${escapeText(raised ? [raised.type, raised.message].filter(Boolean).join(": ") : row.event.name)}</span>`;
}

function SpanBar({ node, zoom, length, pieces }) {
  const { span } = node;
  const left = ((node.offset - zoom.from) / length) * 100;
  const right = ((node.offset + node.duration - zoom.from) / length) * 100;
  if (right < 0 || left > 100) return html`<span class=${`beyond ${right < 0 ? "left" : "right"}`}
    aria-hidden="true"></span>`;
  const from = Math.max(left, 0);
  const to = Math.min(right, 100);
  const hasRoom = to < 82;
  const place = hasRoom ? { left: `calc(${Math.max(to, 0)}% + 6px)` } : { right: `calc(${100 - from}% + 6px)` };
  const isInside = !hasRoom && from < 18;
  return html`
    <span class=${`bar-of-span ${span.isInterrupted ? "interrupted" : ""} ${hasFailed(span) ? "failed" : ""}`}
      style=${{ left: `${from}%`, width: `${to - from}%`, background: serviceColor(span.service) }}></span>
    ${pieces?.map(([start, end]) => {
      const pieceFrom = Math.max(0, ((start - zoom.from) / length) * 100);
      const pieceTo = Math.min(100, ((end - zoom.from) / length) * 100);
      return pieceTo > 0 && pieceFrom < 100 && html`<span class="critical"
        style=${{ left: `${pieceFrom}%`, width: `${pieceTo - pieceFrom}%` }}></span>`;
    })}
    ${span.events.slice(0, 50).map((event) => {
      const at = ((node.offset + Number(event.time - span.start) - zoom.from) / length) * 100;
      return at >= 0 && at <= 100 && html`<span class=${`tick ${exceptionIn(event.attributes) ? "error" : ""}`}
        style=${{ left: `${at}%` }}></span>`;
    })}
    <span class=${`duration number ${isInside ? "inside" : ""}`}
      style=${isInside ? { right: `calc(${100 - to}% + 6px)` } : place}>${
      node.duration || span.end ? formatDuration(node.duration) : "no end"}</span>`;
}

function EventMark({ row, zoom, length }) {
  const at = ((row.offset - zoom.from) / length) * 100;
  if (at < 0 || at > 100) return null;
  const level = row.kind === "log" ? levelOf(row.log.severity) : exceptionIn(row.event.attributes) ? "error" : "event";
  const place = at < 82 ? { left: `calc(${at}% + 8px)` } : { right: `calc(${100 - at}% + 8px)` };
  return html`
    <span class=${`event-mark ${level}`} style=${{ left: `${at}%` }}></span>
    <span class="duration number" style=${place}>+${formatDuration(row.offset)}</span>`;
}
