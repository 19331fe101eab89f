/** The view of many traces: filters, a scatter of durations over time, and a list. */

import { Answer, EmptyState, html, Icon, ServiceName, useAnswer, useEffect, useMemo, useState } from "../components.js";
import { serviceColor } from "../colors.js";
import { escapeText, formatCount, formatDuration, formatNear, formatNumber } from "../format.js";
import { useKeys } from "../keys.js";
import { ALL } from "../time_range.js";
import { filtersOf, hasFilters, TraceFilters, FILTERS } from "../traces/filters.js";
import { rememberTraces, tracesSeen } from "../traces/seen.js";
import { readCells } from "../traces/heat.js";
import { TraceScatter } from "../traces/scatter.js";
import { formatState, linkTo } from "../url_state.js";
import { VirtualList } from "../virtual_list.js";

const FIRST_LIMIT = 200;
const MOST = 5000;
const ROW_HEIGHT = 30;
const SORTS = {
  newest: { title: "Newest", compare: (one, other) => compareTexts(other.start, one.start) },
  longest: { title: "Longest", compare: (one, other) => other.duration - one.duration },
  errors: { title: "Most errors", compare: (one, other) => other.errors - one.errors || other.duration - one.duration },
  spans: { title: "Most spans", compare: (one, other) => other.spans - one.spans },
};

export function TracesView({ source, state, navigate, info }) {
  const limit = Math.min(Number(state.limit) || FIRST_LIMIT, MOST);
  const filters = filtersOf(state);
  const answer = useAnswer(
    (options) => source.findTraces({ ...state.range, ...filters, limit }, options),
    [state.range, filters, limit, state.revision],
  );
  useEffect(() => rememberTraces(formatState(state)), [state]);
  return html`
    <div class="traces-page">
      <h1 class="hidden">Traces</h1>
      <${TraceFilters} ...${{ source, state, navigate, info }} />
      <${Answer} answer=${answer}>${(found) => html`<${FoundTraces} ...${{ found, source, state, navigate, info, limit }} />`}<//>
    </div>`;
}

function FoundTraces({ found, source, state, navigate, info, limit }) {
  const sort = SORTS[state.sort] ?? SORTS.newest;
  const traces = useMemo(() => [...found.traces].sort(sort.compare), [found, sort]);
  // Who comes back from a trace finds it again, and so does who gets newer ones meanwhile.
  const [selectedId, setSelectedId] = useState(tracesSeen.opened);
  const selected = useMemo(() => traces.findIndex((trace) => trace.trace_id === selectedId), [traces, selectedId]);
  const setSelected = (index) => setSelectedId(traces[index]?.trace_id);
  const [marked, setMarked] = useState([]);
  const longest = useMemo(() => traces.reduce((most, trace) => Math.max(most, trace.duration), 1), [traces]);
  const hasMore = !found.is_complete || traces.length >= limit;
  const cells = useCells(source, state, hasMore);
  const open = (trace) => {
    tracesSeen.opened = trace.trace_id;
    navigate({ view: "trace", id: trace.trace_id, span: hasFilters(state) ? trace.matched?.[0] : "" });
  };
  const mark = (trace) => {
    const others = marked.filter((id) => id !== trace.trace_id);
    if (others.length < marked.length) setMarked(others);
    else if (marked.length === 1) navigate({ view: "compare", a: marked[0], b: trace.trace_id });
    else setMarked([trace.trace_id]);
  };
  useKeys("Traces", {
    j: ["Next trace", () => setSelected(Math.min(traces.length - 1, selected + 1))],
    k: ["Trace before", () => setSelected(Math.max(0, selected - 1))],
    Enter: ["Open the trace", () => selected >= 0 && open(traces[selected])],
    m: ["Mark it, to compare it with another", () => selected >= 0 && mark(traces[selected])],
    E: ["Only traces with errors, or all", () => navigate({ status: state.status === "error" ? null : "error" })],
    s: ["Sort by the next order", () => navigate({ sort: nextSort(state.sort) }, { replace: true })],
  });
  if (!traces.length) return html`<${NoTraces} ...${{ found, state, navigate, info }} />`;
  return html`
    <${TraceScatter} traces=${traces} cells=${cells} range=${state.range} onRange=${navigate} onOpen=${open} />
    <div class="list-head">
      <span class="number" role="status">${hasMore ? "The newest " : ""}${formatCount(traces.length, "trace")}</span>
      ${hasMore && limit < MOST && html`<button type="button" class="small"
        onClick=${() => navigate({ limit: Math.min(limit * 4, MOST) }, { replace: true })}>Look for more</button>`}
      ${marked.length > 0 && html`<span class="badge">One is marked: mark another to compare the two</span>`}
      <span class="grow"></span>
      <span class="buttons" role="group" aria-label="Sort">${Object.entries(SORTS).map(([name, { title }]) => html`
        <button type="button" class="small" aria-pressed=${SORTS[name] === sort}
          onClick=${() => navigate({ sort: name === "newest" ? null : name }, { replace: true })}>${title}</button>`)}</span>
    </div>
    <${VirtualList} id="trace" role="grid" label="Traces" count=${traces.length} rowHeight=${ROW_HEIGHT} opensByClick
      selected=${selected} onSelect=${setSelected} onOpen=${(index) => open(traces[index])}
      rowProps=${() => ({ class: "trace-row" })}
      renderRow=${(index) => html`<${TraceRow} ...${{ trace: traces[index], longest, state, mark, isMarked: marked.includes(traces[index].trace_id) }} />`} />`;
}

/** Return what is known of all spans where there are more traces than were read; no cells where that is nothing. */
function useCells(source, state, hasMore) {
  const { range, service, operation, kind, status } = state;
  // Attributes and TraceQL are asked of each span, which takes as long as reading them.
  const isKnown = hasMore && !state.attr.length && !state.q;
  const answer = useAnswer(
    async (options) => (isKnown ? source.traceDurations({ ...range, service, operation, kind, status }, options) : null),
    [isKnown, range, service, operation, kind, status, state.revision],
  );
  const limits = { least: Number(state.min_duration) || 0, most: Number(state.max_duration) || Infinity };
  return useMemo(() => (isKnown && answer.value ? readCells(answer.value, limits) : []), [isKnown, answer.value, limits.least, limits.most]);
}

function TraceRow({ trace, longest, state, mark, isMarked }) {
  const press = (event) => {
    event.stopPropagation();
    mark(trace);
  };
  return html`
    <span class="when number muted" role="gridcell">${formatNear(trace.start, Date.now())}</span>
    <span class="what" role="gridcell"><${ServiceName} name=${trace.root_service} /><a class="cut name-link"
      tabindex="-1" href=${linkTo(state, { view: "trace", id: trace.trace_id })}
      onClick=${(event) => event.stopPropagation()}>${escapeText(trace.root_name) || "no name"}</a>
      ${trace.is_interrupted && html`<span class="badge warn"
        title="A span of it was open when its process died">interrupted</span>`}</span>
    <span class="how-long" role="gridcell"><span class=${`length ${trace.errors ? "failed" : ""}`}
      style=${{ width: `${(trace.duration / longest) * 100}%` }}></span><span class="number">${formatDuration(trace.duration)}</span></span>
    <span class="number muted spans"
      role="gridcell">${formatNumber(trace.spans)} <span class="unit">span${trace.spans === 1 ? "" : "s"}</span></span>
    <span class="failures"
      role="gridcell">${trace.errors > 0 && html`<span class="badge error">${formatNumber(trace.errors)} failed</span>`}</span>
    <span class="dots" role="gridcell"
      title=${trace.services.map(({ name, spans }) => `${name}: ${spans}`).join("\n")}>${trace.services.slice(0, 8).map(({ name }) => html`<i style=${{ background: serviceColor(name) }}></i>`)}</span>
    <span role="gridcell"><button type="button" class=${`bare mark ${isMarked ? "marked" : ""}`} tabindex="-1"
      aria-pressed=${isMarked} title="Mark it, to compare it with another (m)"
      aria-label="Mark it, to compare it with another" onClick=${press}><${Icon} name="compare" /></button></span>`;
}

function NoTraces({ found, state, navigate, info }) {
  const clear = () => navigate(Object.fromEntries(FILTERS.map((name) => [name, null])));
  return html`
    <${EmptyState} title=${hasFilters(state) ? "No trace fits these filters" : "No traces in this time range"}>
      ${found.spans_read > 0 && html`<p>${formatCount(found.spans_read, "span")} ${found.spans_read === 1 ? "was" : "were"} looked at.</p>`}
      ${!found.is_complete && html`<p>There was not time for all of them: narrow the time range.</p>`}
      <p class="empty-buttons">
        ${hasFilters(state) && html`<button type="button" onClick=${clear}>Clear the filters</button>`}
        ${info?.first && html`<button type="button"
          onClick=${() => navigate(ALL)}>Look through all of the recording</button>`}
      </p>
    <//>`;
}

function nextSort(name) {
  const names = Object.keys(SORTS);
  const next = names[(names.indexOf(name ?? "newest") + 1) % names.length];
  return next === "newest" ? null : next;
}

// Decimal texts of nanoseconds: a longer one is later.
function compareTexts(one, other) {
  return one.length - other.length || (one < other ? -1 : one > other ? 1 : 0);
}
