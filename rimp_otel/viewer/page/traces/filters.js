/** The filters of traces: each is chosen from what the recording holds. */

import { Answer, Chip, html, Menu, OptionList, ServiceName, useAnswer, useRef, useState } from "../components.js";
import { AttributeMenu, buttonLabel } from "../filters.js";
import { escapeText, formatDuration, parseDuration, writeDuration } from "../format.js";
import { useKeys } from "../keys.js";

const STATUSES = [
  { value: "error", text: "Error" },
  { value: "ok", text: "OK" },
  { value: "unset", text: "Unset" },
];
const KINDS = [
  { value: "server", text: "Server: answers a request" },
  { value: "client", text: "Client: sends a request" },
  { value: "consumer", text: "Consumer: takes a message" },
  { value: "producer", text: "Producer: sends a message" },
  { value: "internal", text: "Internal" },
];
const DURATIONS = ["1ms", "10ms", "100ms", "1s", "10s"];
/** Names of the URL's parameters that are filters. */
export const FILTERS = ["service", "operation", "kind", "status", "min_duration", "max_duration", "attr", "q"];

/** Return the parameters for `source.findTraces` that a state says. */
export function filtersOf(state) {
  return Object.fromEntries(FILTERS.map((name) => [name, state[name]]));
}

/** Return true if any filter is set. */
export function hasFilters(state) {
  return FILTERS.some((name) => (Array.isArray(state[name]) ? state[name].length : state[name]));
}

/** The bar of filters, with what is set. */
export function TraceFilters({ source, state, navigate, info }) {
  const choose = (changes, close) => {
    navigate(changes);
    close();
  };
  const services = (info?.services ?? []).map((name) => ({
    value: name, text: name, label: html`<${ServiceName} name=${name} />`,
  }));
  const clear = () => navigate(Object.fromEntries(FILTERS.map((name) => [name, null])));
  return html`
    <div class="filters" role="group" aria-label="Filters">
      <${Menu} title="Service" label=${buttonLabel("Service")}>
        ${(close) => html`<${OptionList} label="Services" options=${services} selected=${state.service}
          onChoose=${(service) => choose({ service, operation: null }, close)} />`}<//>
      <${Menu} title="Operation" label=${buttonLabel("Operation")}>
        ${(close) => html`<${OperationOptions} ...${{ source, state }}
          onChoose=${(found) => choose({ service: found.service, operation: found.operation }, close)} />`}<//>
      <${Menu} title="Status" label=${buttonLabel("Status")}>
        ${(close) => html`<${OptionList} label="Status" options=${STATUSES} selected=${state.status}
          onChoose=${(status) => choose({ status }, close)} />`}<//>
      <${Menu} title="Kind" label=${buttonLabel("Kind")}>
        ${(close) => html`<${OptionList} label="Kinds of spans" options=${KINDS} selected=${state.kind}
          onChoose=${(kind) => choose({ kind }, close)} />`}<//>
      <${Menu} title="Duration" label=${buttonLabel("Duration")}>
        ${(close) => html`<${DurationPanel} state=${state} onChoose=${(changes) => choose(changes, close)} />`}<//>
      <${AttributeMenu} ...${{ source, signal: "traces", range: state.range }}
        onAdd=${(comparison) => navigate({ attr: [...state.attr, comparison] })} />
      ${!source.isLocal && html`
        <${Menu} title="TraceQL" label=${buttonLabel("TraceQL")}>
          ${(close) => html`<${TraceqlPanel} state=${state} onChoose=${(q) => choose({ q }, close)} />`}<//>`}
      <${FilterChips} state=${state} navigate=${navigate} />
      ${hasFilters(state) && html`<button type="button" class="bare" onClick=${clear}>Clear all</button>`}
      <${TraceIdField} navigate=${navigate} />
    </div>`;
}

function TraceIdField({ navigate }) {
  const field = useRef(null);
  const [isWrong, setWrong] = useState(false);
  useKeys("Traces", { "/": ["Open a trace by its id", () => field.current.focus()] });
  const submit = (event) => {
    event.preventDefault();
    const id = field.current.value.trim().toLowerCase().replaceAll("-", "");
    if (/^[0-9a-f]{32}$/.test(id)) navigate({ view: "trace", id });
    else setWrong(true);
  };
  return html`
    <form class="trace-id" onSubmit=${submit}>
      <input ref=${field} class="mono" size="18" spellcheck="false" placeholder="Trace id"
        aria-label="Open a trace by its id"
        aria-invalid=${isWrong} onInput=${() => setWrong(false)} />
      ${isWrong && html`<span class="error-text" role="alert">32 hexadecimal digits</span>`}
    </form>`;
}

function FilterChips({ state, navigate }) {
  const remove = (name) => () => navigate({ [name]: null });
  const chips = [
    state.service && ["Service", escapeText(state.service), () => navigate({ service: null, operation: null })],
    state.operation && ["Operation", escapeText(state.operation), remove("operation")],
    state.status && ["Status", escapeText(state.status), remove("status")],
    state.kind && ["Kind", escapeText(state.kind), remove("kind")],
    state.min_duration && ["≥", formatDuration(Number(state.min_duration)), remove("min_duration")],
    state.max_duration && ["≤", formatDuration(Number(state.max_duration)), remove("max_duration")],
    ...state.attr.map((text, at) => ["", escapeText(text), () => navigate({ attr: state.attr.filter((_, index) => index !== at) })]),
    state.q && ["TraceQL", escapeText(state.q), remove("q")],
  ];
  return chips.filter(Boolean).map(([label, value, onRemove]) => html`<${Chip} ...${{ label, value, onRemove }} />`);
}

function OperationOptions({ source, state, onChoose }) {
  const answer = useAnswer(
    (options) => source.operations({ ...state.range, service: state.service }, options),
    [state.service],
  );
  return html`<${Answer} answer=${answer}>${({ operations }) => html`
    <${OptionList} label="Operations" selected=${JSON.stringify([state.service, state.operation])}
      options=${[...operations].sort((one, other) => other.spans - one.spans).map(({ service, name, spans }) => ({
        value: JSON.stringify([service, name]), text: `${service} ${name}`, count: spans, service, operation: name,
        label: html`${!state.service && html`<${ServiceName} name=${service} /> `}${escapeText(name)}`,
      }))}
      onChoose=${(_, option) => onChoose(option)} />`}<//>`;
}

function DurationPanel({ state, onChoose }) {
  const [least, setLeast] = useState(state.min_duration ? writeDuration(Number(state.min_duration)) : "");
  const [most, setMost] = useState(state.max_duration ? writeDuration(Number(state.max_duration)) : "");
  const isWrong = (text) => text.trim() !== "" && parseDuration(text) === null;
  const submit = (event) => {
    event.preventDefault();
    if (isWrong(least) || isWrong(most)) return;
    onChoose({ min_duration: parseDuration(least), max_duration: parseDuration(most) });
  };
  return html`
    <form class="panel-body" onSubmit=${submit}>
      <div class="buttons" role="group" aria-label="At least">
        ${DURATIONS.map((text) => html`<button type="button"
          onClick=${() => onChoose({ min_duration: parseDuration(text) })}>≥ ${formatDuration(parseDuration(text))}</button>`)}
      </div>
      <label>At least <input value=${least} placeholder="200ms" aria-invalid=${isWrong(least)}
        onInput=${(event) => setLeast(event.target.value)} /></label>
      <label>At most <input value=${most} placeholder="1.5s" aria-invalid=${isWrong(most)}
        onInput=${(event) => setMost(event.target.value)} /></label>
      ${(isWrong(least) || isWrong(most)) && html`<p class="error-text"
        role="alert">Write a number with ns, us, ms, s, m or h: 1.5s</p>`}
      <button type="submit" class="primary">Filter</button>
    </form>`;
}

function TraceqlPanel({ state, onChoose }) {
  const [text, setText] = useState(state.q ?? "");
  const submit = (event) => {
    event.preventDefault();
    onChoose(text.trim());
  };
  return html`
    <form class="panel-body" onSubmit=${submit}>
      <label>A filter in TraceQL
        <textarea rows="3" value=${text} spellcheck="false" class="mono"
          placeholder=${'{ span.http.response.status_code >= 500 && duration > 200ms }'}
          onInput=${(event) => setText(event.target.value)}
          onKeyDown=${(event) => event.key === "Enter" && !event.shiftKey && submit(event)}></textarea></label>
      <button type="submit" class="primary">Filter</button>
    </form>`;
}
