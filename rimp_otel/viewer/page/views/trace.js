/** The view of one trace: a waterfall with its minimap, and details of what is selected. */

import { Answer, EmptyState, html, Icon, Menu, saveFile, ServiceName, useAnswer, useEffect, useMemo, useRef, useState } from "../components.js";
import { escapeText, formatCount, formatDuration, formatTime } from "../format.js";
import { useKeys } from "../keys.js";
import { readLogs, readSpans } from "../otlp.js";
import { TraceDetails } from "../trace/details.js";
import { writeChromeTrace, writeOtlp } from "../trace/files.js";
import { TraceMinimap } from "../trace/minimap.js";
import { buildTrace, findCriticalPath, hasFailed, listRows, searchTextOf } from "../trace/model.js";
import { TraceWaterfall } from "../trace/waterfall.js";
import { tracesSeen } from "../traces/seen.js";
import { linkTo } from "../url_state.js";

const NONE = new Set();
const NO_PATH = new Map();
const SETTLED_NANOS = 60_000_000_000n;

export function TraceView({ source, state, navigate }) {
  const settled = useRef(null);
  const revision = settled.current?.id === state.id ? settled.current.revision : state.revision;
  const answer = useAnswer((options) => source.trace(state.id, options), [state.id, revision]);
  const trace = useMemo(
    () => answer.value && buildTrace(readSpans(answer.value.traces), readLogs(answer.value.logs)),
    [answer.value],
  );
  useEffect(() => {
    // What ended long ago does not change: live mode need not ask for it again and again.
    const end = trace && trace.start + BigInt(trace.duration);
    if (trace && end + SETTLED_NANOS < BigInt(Date.now()) * 1_000_000n) settled.current = { id: state.id, revision };
  }, [trace]);
  if (answer.error?.status === 404) {
    return html`
      <${EmptyState} title="This trace is not in the recording">
        <p>${escapeText(answer.error.message)}</p>
        <p><a href=${linkTo(state, { view: "traces" })}>Look for others</a></p><//>`;
  }
  return html`<${Answer} answer=${answer}>${(value) => html`<${TracePage} key=${trace.id}
    ...${{ trace, data: value, source, state, navigate }} />`}<//>`;
}

function TracePage({ trace, data, source, state, navigate }) {
  const [collapsed, setCollapsed] = useState(NONE);
  const [row, setRow] = useState(null);
  const search = useRef(null);
  const hasEvents = state.events !== "no";
  const hasPath = state.path !== "no";
  const allPath = useMemo(() => findCriticalPath(trace), [trace]);
  const criticalPath = hasPath ? allPath : NO_PATH;
  const rows = useMemo(() => listRows(trace, collapsed, hasEvents), [trace, collapsed, hasEvents]);
  const spanRows = useMemo(() => listRows(trace, NONE, false), [trace]);
  const zoom = useMemo(() => readZoom(state.zoom, trace.duration), [state.zoom, trace]);
  const setZoom = (part) => navigate({ zoom: part && writeZoom(part, trace.duration) }, { replace: true });
  const matches = useMemo(() => findRows(rows, state.find), [rows, state.find]);
  const selected = useMemo(() => indexOfSelected(rows, row, state.span), [rows, row, state.span]);

  const select = (index) => {
    const next = rows[index];
    setRow(next);
    navigate({ span: next.kind === "span" || next.node ? next.node.span.spanId : "" }, { replace: true });
  };
  const selectNode = (node) => {
    // What hides it is opened.
    const open = new Set(collapsed);
    for (let above = node.parent; above; above = above.parent) open.delete(above.index);
    if (open.size !== collapsed.size) setCollapsed(open);
    setRow({ kind: "span", node, depth: node.depth, offset: node.offset });
    navigate({ span: node.span.spanId }, { replace: true });
  };
  const close = () => {
    setRow(null);
    navigate({ span: "" }, { replace: true });
    document.querySelector(".waterfall .virtual-list")?.focus();
  };
  const toggle = (index) => {
    const changed = new Set(collapsed);
    if (!changed.delete(index)) changed.add(index);
    setCollapsed(changed);
  };
  const step = (direction) => {
    if (!matches?.size) return;
    const found = [...matches].map((match) => rows.indexOf(match));
    const next = direction > 0
      ? (found.find((index) => index > selected) ?? found[0])
      : (found.findLast((index) => index < selected) ?? found.at(-1));
    select(next);
  };
  const stepTo = (isWanted) => {
    const wanted = spanRows.filter((one) => isWanted(one.node.span));
    const at = spanRows.findIndex((one) => one.node === rows[selected]?.node);
    const next = wanted.find((one) => spanRows.indexOf(one) > at) ?? wanted[0];
    if (next) selectNode(next.node);
  };
  const zoomBy = (factor) => {
    const length = zoom.to - zoom.from;
    const shown = rows[selected];
    const wanted = shown ? shown.offset + (shown.kind === "span" ? shown.node.duration / 2 : 0) : zoom.from + length / 2;
    const middle = Math.max(zoom.from, Math.min(zoom.to, wanted));
    setZoom({ from: middle - (length * factor) / 2, to: middle + (length * factor) / 2 });
  };
  const pan = (part) => {
    const length = zoom.to - zoom.from;
    const from = Math.max(0, Math.min(trace.duration - length, zoom.from + part * length));
    setZoom({ from, to: from + length });
  };
  const zoomTo = (node) => setZoom({ from: node.offset - node.duration * 0.02, to: node.offset + node.duration * 1.02 });
  const collapseAll = () => {
    const parents = trace.nodes.filter((node) => node.children.length && node.parent);
    setCollapsed(collapsed.size ? NONE : new Set(parents.map((node) => node.index)));
  };
  useEffect(() => {
    // The arrows move through the rows at once.
    if (document.activeElement === document.body) document.querySelector(".waterfall .virtual-list")?.focus();
  }, []);
  const onKey = (event, index) => handleTreeKey(event, rows, index, { collapsed, toggle, select, selectNode });

  useKeys("Trace", {
    "/": ["Search within the trace", () => search.current.focus()],
    n: ["Next match", () => step(1)],
    N: ["Match before", () => step(-1)],
    f: ["Next span that failed", () => stepTo(hasFailed)],
    i: ["Next span that was interrupted", () => stepTo((span) => span.isInterrupted)],
    e: ["Show or hide events and logs", () => navigate({ events: hasEvents ? "no" : "" }, { replace: true })],
    c: ["Show or hide the critical path", () => navigate({ path: hasPath ? "no" : "" }, { replace: true })],
    x: ["Collapse or expand all", collapseAll],
    "+": ["Zoom in, at what is selected", () => zoomBy(0.5)],
    "-": ["Zoom out", () => zoomBy(2)],
    "0": ["The whole trace", () => setZoom(null)],
    z: ["Zoom to the selected span", () => rows[selected]?.node && zoomTo(rows[selected].node)],
    "<": ["Earlier part", () => pan(-0.25)],
    ">": ["Later part", () => pan(0.25)],
    Escape: ["Close the details", close],
  });

  const shownRow = selected >= 0 ? rows[selected] : null;
  return html`
    <div class="trace-page">
      <${TraceHeader} ...${{ trace, data, state, stepTo }} />
      <div class="trace-tools">
        <div class="search-box">
          <${Icon} name="search" />
          <input ref=${search} type="search" placeholder="Search names, values, logs"
            aria-label="Search within the trace" value=${state.find ?? ""}
            onInput=${(event) => navigate({ find: event.target.value }, { replace: true })}
            onKeyDown=${(event) => event.key === "Enter" && (event.preventDefault(), step(event.shiftKey ? -1 : 1))} />
          ${matches && html`<span class="muted number"
            role="status">${formatCount(matches.size, "match").replace("matchs", "matches")}</span>
            <button type="button" class="bare" aria-label="Match before"
              onClick=${() => step(-1)}><${Icon} name="left" /></button>
            <button type="button" class="bare" aria-label="Next match"
              onClick=${() => step(1)}><${Icon} name="right" /></button>`}
        </div>
        <span class="grow"></span>
        <button type="button" class="small" aria-pressed=${hasEvents}
          onClick=${() => navigate({ events: hasEvents ? "no" : "" }, { replace: true })}>Events and logs</button>
        <button type="button" class="small" aria-pressed=${hasPath}
          onClick=${() => navigate({ path: hasPath ? "no" : "" }, { replace: true })}>Critical path</button>
        <button type="button" class="small"
          onClick=${collapseAll}>${collapsed.size ? "Expand all" : "Collapse all"}</button>
        ${state.zoom && html`<button type="button" class="small" onClick=${() => setZoom(null)}>Whole trace</button>`}
      </div>
      <${TraceMinimap} ...${{ trace, rows: spanRows, zoom, setZoom }} />
      <div class="trace-body">
        <${TraceWaterfall} ...${{ rows, zoom, criticalPath, collapsed, toggle, matches, selected, onKey }}
          onSelect=${select} onOpen=${() => document.querySelector(".details button")?.focus()} />
        ${shownRow && html`<${TraceDetails} ...${{ row: shownRow, trace, state, source, criticalPath: allPath, close, zoomTo, select: selectNode }} />`}
      </div>
    </div>`;
}

function TraceHeader({ trace, data, state, stepTo }) {
  const name = `trace-${trace.id}`;
  const downloads = [
    ["OTLP JSON, for rimp import and others", () => saveFile(`${name}.jsonl`, writeOtlp(data), "application/x-ndjson")],
    ["Chrome trace, for Perfetto and speedscope", () => saveFile(`${name}.chrome.json`, writeChromeTrace(trace))],
  ];
  const root = trace.roots[0]?.span;
  const logs = trace.nodes.reduce((sum, node) => sum + node.logs.length, trace.looseLogs.length);
  return html`
    <header class="trace-header">
      <a class="back" href=${tracesSeen.fragment || linkTo(state, { view: "traces" })} aria-label="Back to the traces"
        title="Traces"><${Icon} name="left" /></a>
      <h1 class="cut">${root ? html`<${ServiceName} name=${root.service} /> ${escapeText(root.name)}` : "Log records of a trace without spans"}</h1>
      ${trace.errors > 0 && html`<button type="button" class="badge error" title="Go to the next of them (f)"
        onClick=${() => stepTo(hasFailed)}>${trace.errors} failed</button>`}
      ${trace.interrupted > 0 && html`<button type="button" class="badge warn" title="Go to the next of them (i)"
        onClick=${() => stepTo((span) => span.isInterrupted)}>${trace.interrupted} interrupted</button>`}
      ${trace.roots.length > 1 && html`<span class="badge warn">${trace.roots.length} roots</span>`}
      <span class="trace-facts muted number">
        <strong>${formatDuration(trace.duration)}</strong>
        <span>${formatCount(trace.nodes.length, "span")}</span>
        <span>${formatCount(trace.services.length, "service")}</span>
        ${logs > 0 && html`<span>${formatCount(logs, "log record")}</span>`}
        <span>${formatTime(trace.start, 3)}</span>
      </span>
      <span class="trace-actions">
        <a class="button" href=${linkTo(state, { view: "compare", a: trace.id })}><${Icon} name="compare" />Compare</a>
        <${Menu} title="Download" align="right"
          label=${html`<${Icon} name="download" />Download<${Icon} name="down" />`}>
          ${(close) => html`<ul class="copy-list">${downloads.map(([label, save]) => html`
            <li><button type="button" onClick=${() => { save(); close(); }}>${label}</button></li>`)}</ul>`}
        <//>
      </span>
    </header>
    <ul class="trace-services" aria-label="Services">
      ${trace.services.map((service) => html`<li><${ServiceName} name=${service.name} /> <span class="muted number">${service.spans}</span>${
        service.errors > 0 && html` <span class="error-text number">${service.errors} failed</span>`}</li>`)}
    </ul>`;
}

function handleTreeKey(event, rows, index, { collapsed, toggle, select, selectNode }) {
  const row = rows[index];
  if (!row || (event.key !== "ArrowRight" && event.key !== "ArrowLeft")) return;
  event.preventDefault();
  const isParent = row.kind === "span" && row.node.children.length > 0;
  const isOpen = isParent && !collapsed.has(row.node.index);
  if (event.key === "ArrowRight") {
    if (isParent && !isOpen) toggle(row.node.index);
    else if (isOpen) select(index + 1);
  } else if (isOpen) toggle(row.node.index);
  else if (row.kind !== "span" && row.node) selectNode(row.node);
  else if (row.node?.parent) selectNode(row.node.parent);
}

function findRows(rows, text) {
  const wanted = text?.trim().toLowerCase();
  return wanted ? new Set(rows.filter((row) => searchTextOf(row).includes(wanted))) : null;
}

function indexOfSelected(rows, row, spanId) {
  if (row) {
    const at = rows.findIndex((one) => isSameRow(one, row));
    if (at >= 0) return at;
  }
  return spanId ? rows.findIndex((one) => one.kind === "span" && one.node.span.spanId === spanId) : -1;
}

function isSameRow(one, other) {
  if (one.kind !== other.kind) return false;
  return one.kind === "span" ? one.node.index === other.node.index : one.log ? one.log === other.log : one.event === other.event;
}

function readZoom(text, duration) {
  const found = /^(\d+)-(\d+)$/.exec(text ?? "");
  const from = found ? Number(found[1]) : 0;
  const to = found ? Math.min(Number(found[2]), duration) : duration;
  return to > from ? { from, to } : { from: 0, to: duration };
}

function writeZoom({ from, to }, duration) {
  const start = Math.max(0, Math.round(from));
  const end = Math.min(duration, Math.round(to));
  return start === 0 && end === duration ? "" : `${start}-${end}`;
}
