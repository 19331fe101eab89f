/** The view of two traces beside each other, matched by their paths of services and names. */

import { Answer, EmptyState, html, Icon, ServiceName, useAnswer, useMemo, useState } from "../components.js";
import { escapeText, formatCount, formatDuration, formatNear, formatNumber, formatPercent, formatTime } from "../format.js";
import { useKeys } from "../keys.js";
import { readSpans } from "../otlp.js";
import { buildTrace, mergeTraces } from "../trace/model.js";
import { linkTo } from "../url_state.js";
import { VirtualList } from "../virtual_list.js";

const ROW_HEIGHT = 32;
const INDENT = 14;
const MAX_DEPTH = 16;
const CANDIDATES = 100;
const NOTABLE = 0.1; // of the longer trace's duration

export function CompareView({ source, state, navigate }) {
  const before = useTrace(source, state.a);
  const after = useTrace(source, state.b);
  if (!state.a) return html`<${EmptyState} title="No trace to compare"><p>Open a trace and choose “Compare”, or mark two in <a href=${linkTo(state, { view: "traces" })}>the list of traces</a>.</p><//>`;
  return html`
    <div class="compare">
      <h1 class="hidden">Compare two traces</h1>
      <div class="compare-heads">
        <${Answer} answer=${before}>${(trace) => html`<${TraceCard} ...${{ letter: "A", trace, state }} />`}<//>
        <button type="button" disabled=${!state.b} title="Swap A and B" aria-label="Swap A and B"
          onClick=${() => navigate({ a: state.b, b: state.a }, { replace: true })}><${Icon} name="compare" /></button>
        ${state.b
          ? html`<${Answer} answer=${after}>${(trace) => html`<${TraceCard} ...${{ letter: "B", trace, state, other: before.value, change: () => navigate({ b: null }) }} />`}<//>`
          : html`<div class="trace-card"><strong>B</strong><p class="muted">Choose the trace to compare with.</p></div>`}
      </div>
      ${before.value && !state.b && html`<${Candidates} ...${{ source, state, navigate, trace: before.value }} />`}
      ${before.value && state.b && after.value && html`<${Differences} ...${{ before: before.value, after: after.value, state, navigate }} />`}
    </div>`;
}

function useTrace(source, id) {
  return useAnswer(
    async (options) => (id ? buildTrace(readSpans((await source.trace(id, options)).traces), []) : undefined),
    [id],
  );
}

function TraceCard({ letter, trace, state, other, change }) {
  const root = trace.roots[0]?.span;
  return html`
    <div class="trace-card">
      <strong class=${`letter ${letter}`}>${letter}</strong>
      <div class="grow">
        <a class="cut"
          href=${linkTo(state, { view: "trace", id: trace.id })}>${root ? html`<${ServiceName} name=${root.service} /> ${escapeText(root.name)}` : "no spans"}</a>
        <p class="muted number"><strong>${formatDuration(trace.duration)}</strong>${other && html` <${Difference} before=${other.duration} after=${trace.duration} />`}${" · "}${formatCount(trace.nodes.length, "span")}${trace.errors > 0 && html` · <span class="error-text">${trace.errors} failed</span>`} · ${formatTime(trace.start)}</p>
      </div>
      ${change && html`<button type="button" class="small" onClick=${change}>Another</button>`}
    </div>`;
}

function Candidates({ source, state, navigate, trace }) {
  const root = trace.roots[0]?.span;
  const [typed, setTyped] = useState("");
  const answer = useAnswer(
    (options) => source.findTraces({ ...state.range, service: root?.service, operation: root?.name, limit: CANDIDATES }, options),
    [state.range, root?.service, root?.name],
  );
  const submit = (event) => {
    event.preventDefault();
    if (typed.trim()) navigate({ b: typed.trim() });
  };
  return html`
    <form class="list-head" onSubmit=${submit}>
      <span>Traces of <strong>${escapeText(root?.name ?? "")}</strong> in this time range</span><span class="grow"></span>
      <label>or the id of another <input class="mono" size="34" spellcheck="false" value=${typed}
        onInput=${(event) => setTyped(event.target.value)} /></label>
      <button type="submit">Compare</button>
    </form>
    <${Answer} answer=${answer}>${({ traces }) => {
      const others = traces.filter((one) => one.trace_id !== trace.id);
      if (!others.length) return html`<${EmptyState} title="There is no other such trace in this time range"><p>Choose a longer one above, or write the id of another trace.</p><//>`;
      return html`
        <ul class="candidates">${others.map((one) => html`
          <li><a href=${linkTo(state, { b: one.trace_id })}>
            <span class="number muted">${formatNear(one.start, Date.now())}</span>
            <span class="number">${formatDuration(one.duration)} <${Difference} before=${trace.duration}
              after=${one.duration} /></span>
            <span class="number muted">${formatCount(one.spans, "span")}</span>
            ${one.errors > 0 && html`<span class="badge error">${one.errors} failed</span>`}</a></li>`)}</ul>`;
    }}<//>`;
}

function Differences({ before, after, state, navigate }) {
  const [selected, setSelected] = useState(-1);
  const isShort = state.only === "changes";
  const longest = Math.max(before.duration, after.duration, 1);
  const all = useMemo(() => mergeTraces(before, after), [before, after]);
  const rows = useMemo(() => (isShort ? all.filter((row) => isNotable(row, longest)) : all), [all, isShort]);
  // Parallel spans of one path can be longer together than their trace.
  const scale = useMemo(() => all.reduce((most, row) => Math.max(most, row.before.duration, row.after.duration), 1), [all]);
  useKeys("Compare", {
    o: ["Only what differs, or all", () => navigate({ only: isShort ? "" : "changes" }, { replace: true })],
    w: ["Swap A and B", () => navigate({ a: state.b, b: state.a }, { replace: true })],
  });
  const open = (index) => {
    const { before: one, after: other } = rows[index];
    navigate(other.count ? { view: "trace", id: after.id, span: other.spanId } : { view: "trace", id: before.id, span: one.spanId });
  };
  return html`
    <div class="list-head">
      <span class="number">${formatCount(rows.length, "path")}${isShort && html` <span class="muted">of ${formatNumber(all.length)}</span>`}</span>
      <span class="grow"></span>
      <button type="button" class="small" aria-pressed=${isShort}
        onClick=${() => navigate({ only: isShort ? "" : "changes" }, { replace: true })}>Only what differs</button>
    </div>
    <div class="compare-row head" aria-hidden="true">
      <span>Service and operation</span><span>Duration, A above B</span><span class="right">A</span><span class="right">B</span><span class="right">Difference</span><span class="right">Spans A → B</span>
    </div>
    ${rows.length === 0
      ? html`<${EmptyState} title="Nothing differs by much"><p>Every path has the same spans, and none took longer or shorter by a tenth of the trace.</p><//>`
      : html`<${VirtualList} id="path" role="treegrid" label="Paths of both traces" count=${rows.length}
        rowHeight=${ROW_HEIGHT}
          selected=${selected} onSelect=${setSelected} onOpen=${open}
          rowProps=${(index) => ({ class: `compare-row ${sideOf(rows[index])}`, "aria-level": rows[index].depth + 1 })}
          renderRow=${(index) => html`<${PathRow} ...${{ row: rows[index], scale, before, after, state }} />`} />`}`;
}

function PathRow({ row, scale, before, after, state }) {
  const bar = (letter, { duration }) => html`<i class=${letter}
    style=${{ width: `${(duration / scale) * 100}%` }}></i>`;
  const cell = (trace, { count, duration, spanId }) => (count
    ? html`<a tabindex="-1"
      href=${linkTo(state, { view: "trace", id: trace.id, span: spanId })}>${formatDuration(duration)}</a>`
    : html`<span class="muted">–</span>`);
  const errors = row.after.errors - row.before.errors;
  return html`
    <span class="path" role="gridcell"
      style=${{ paddingLeft: `${Math.min(row.depth, MAX_DEPTH) * INDENT}px` }}><${ServiceName} name=${row.service} /> <span class="cut">${escapeText(row.name)}</span>
      ${sideOf(row) === "gone" && html`<span class="badge">only in A</span>`}${sideOf(row) === "new" && html`<span class="badge warn">only in B</span>`}
      ${errors > 0 && html`<span class="badge error">+${errors} failed</span>`}${errors < 0 && html`<span class="badge">−${-errors} failed</span>`}</span>
    <span class="pair" role="gridcell">${bar("A", row.before)}${bar("B", row.after)}</span>
    <span class="number right" role="gridcell">${cell(before, row.before)}</span>
    <span class="number right" role="gridcell">${cell(after, row.after)}</span>
    <span class="number right" role="gridcell"><${Difference} before=${row.before.duration} after=${row.after.duration}
      whole=${Math.max(before.duration, after.duration)} /></span>
    <span class="number right muted"
      role="gridcell">${row.before.count === row.after.count ? row.after.count : html`${row.before.count} → <strong>${row.after.count}</strong>`}</span>`;
}

/** By how much a duration has grown or shrunk, coloured if that is notable beside the whole. */
function Difference({ before, after, whole = Math.max(before, after) }) {
  const change = after - before;
  if (!change) return html`<span class="muted">±0</span>`;
  const isClear = Math.abs(change) > NOTABLE * whole;
  const level = !isClear ? "muted" : change > 0 ? "error-text" : "ok-text";
  const part = before && after ? ` (${change > 0 ? "+" : "−"}${formatPercent(Math.abs(change) / before)})` : "";
  return html`<span class=${level}>${change > 0 ? "+" : ""}${formatDuration(change)}${part}</span>`;
}

function sideOf(row) {
  if (!row.before.count) return "new";
  return row.after.count ? "" : "gone";
}

function isNotable(row, longest) {
  return row.before.count !== row.after.count || row.before.errors !== row.after.errors ||
    Math.abs(row.after.duration - row.before.duration) > NOTABLE * longest;
}
