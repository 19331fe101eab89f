/** The view Logs: records as they come, their levels over time, and exceptions by type and place. */

import { TimeChart, timesOfSteps } from "../charts.js";
import {
  Answer, Chip, CopyButton, EmptyState, ErrorNotice, html, Icon, Menu, OptionList, PartlyRead, Progress, ServiceName, Sparkline, useAnswer,
  useEffect, useMemo, useRef, useState,
} from "../components.js";
import { escapeLines, escapeText, formatAge, formatCount, formatNear, formatNumber, formatShort, formatTime } from "../format.js";
import { AttributeMenu, buttonLabel, writeValue } from "../filters.js";
import { useKeys } from "../keys.js";
import { useLogPages } from "../log_pages.js";
import { exceptionIn, levelOf, plainAttributes, readLogs, readSpans, textOfValue, toPlain } from "../otlp.js";
import { linkTo } from "../url_state.js";
import { VirtualList } from "../virtual_list.js";

const ROW_HEIGHT = 26;
const TYPING_MILLIS = 300;
const LEVELS = [
  { name: "fatal", least: 21, color: "var(--level-fatal)" },
  { name: "error", least: 17, color: "var(--error)" },
  { name: "warn", least: 13, color: "var(--level-warn)" },
  { name: "info", least: 9, color: "var(--level-info)" },
  { name: "debug", least: 5, color: "var(--level-debug)" },
  { name: "trace", least: 1, color: "var(--level-trace)" },
  { name: "unspecified", least: 0, color: "var(--line-strong)" },
];

/** The view. */
export function LogsView({ source, state, navigate, info }) {
  const isErrors = state.tab === "exceptions";
  useKeys("Logs", {
    x: [isErrors ? "Show records" : "Show exceptions", () => navigate({ tab: isErrors ? null : "exceptions", record: null })],
    "/": ["Search", () => document.getElementById("log-search")?.focus()],
  });
  return html`
    <div class="logs">
      <${Toolbar} ...${{ source, state, navigate, info, isErrors }} />
      ${isErrors
        ? html`<${Exceptions} ...${{ source, state, navigate }} />`
        : html`<${Records} ...${{ source, state, navigate }} />`}
    </div>`;
}

function filterOf({ range, service, min_severity, text, attr, trace }) {
  return { ...range, service, min_severity, text, attr, trace_id: trace };
}

function keyOfFilter({ rangeText, service, min_severity, text, attr, trace }) {
  return [rangeText, service, min_severity, text, attr, trace];
}

// What is asked for.

function Toolbar({ source, state, navigate, info, isErrors }) {
  const level = LEVELS.find(({ least }) => String(least) === state.min_severity);
  const services = info?.services ?? [];
  return html`
    <div class="toolbar" role="search" aria-label="Filters">
      <div class="buttons" role="group" aria-label="What is shown">
        <button type="button" aria-pressed=${!isErrors} onClick=${() => navigate({ tab: null })}>Records</button>
        <button type="button" aria-pressed=${isErrors}
          onClick=${() => navigate({ tab: "exceptions", record: null })}>Exceptions</button>
      </div>
      ${!isErrors && html`
        <${SearchField} text=${state.text} onChange=${(text) => navigate({ text, record: null }, { replace: true })} />
        <${LevelMenu} level=${level} onChoose=${(min_severity) => navigate({ min_severity, record: null })} />`}
      <${Menu} title="Service" isActive=${Boolean(state.service)} label=${buttonLabel("Service")}>
        ${(close) => html`<${OptionList} label="Service" selected=${state.service}
          options=${services.map((name) => ({ value: name, label: html`<${ServiceName} name=${name} />` }))}
          onChoose=${(service) => { navigate({ service, record: null }); close(); }} />`}
      <//>
      ${!isErrors && html`
        <${AttributeMenu} source=${source} signal="logs" range=${state.range}
          onAdd=${(condition) => navigate({ attr: [...state.attr, condition], record: null })} />`}
      ${!isErrors && level && html`<${Chip} label="level" value=${`${level.name} and above`}
        onRemove=${() => navigate({ min_severity: null })} />`}
      ${state.service && html`<${Chip} label="service" value=${escapeText(state.service)}
        onRemove=${() => navigate({ service: null })} />`}
      ${!isErrors && state.trace && html`<${Chip} label="trace" value=${state.trace.slice(0, 8)}
        onRemove=${() => navigate({ trace: null })} />`}
      ${!isErrors && state.attr.map((condition) => html`
        <${Chip} label="" value=${escapeText(condition)}
          onRemove=${() => navigate({ attr: state.attr.filter((one) => one !== condition) })} />`)}
    </div>`;
}

function SearchField({ text = "", onChange }) {
  const [typed, setTyped] = useState(text);
  const timer = useRef(null);
  useEffect(() => setTyped(text), [text]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (value) => {
    setTyped(value);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChange(value), TYPING_MILLIS);
  };
  return html`
    <input type="search" id="log-search" class="search" placeholder="Search text and attributes ( / )"
      aria-label="Search text" value=${typed} spellcheck="false" onInput=${(event) => type(event.target.value)}
      onKeyDown=${(event) => event.key === "Escape" && event.target.blur()} />`;
}

function LevelMenu({ level, onChoose }) {
  const options = LEVELS.filter(({ least }) => least > 0).map(({ name, least, color }) => ({
    value: String(least),
    text: name,
    label: html`<span class="level-name"><i style=${{ background: color }}></i>${name} and above</span>`,
  }));
  return html`
    <${Menu} title="Level" isActive=${Boolean(level)} label=${buttonLabel("Level")}>
      ${(close) => html`<${OptionList} label="Least level" options=${options} selected=${level && String(level.least)}
        onChoose=${(value) => { onChoose(value); close(); }} />`}
    <//>`;
}

// Records.

function Records({ source, state, navigate }) {
  const filter = filterOf(state);
  const pages = useLogPages(source, filter, keyOfFilter(state), state.revision);
  const { records } = pages;
  const selected = useMemo(() => records.findIndex((record) => idOf(record) === state.record), [records, state.record]);
  const list = useRef(null);
  const open = (index) => navigate({ record: idOf(records[index]) }, { replace: true });
  const close = () => {
    navigate({ record: null }, { replace: true });
    list.current?.querySelector(".virtual-list")?.focus();
  };
  useKeys("Logs", {
    ...(state.record ? { Escape: ["Close the record", close] } : {}),
    "+": ["Only errors", () => navigate({ min_severity: state.min_severity === "17" ? null : "17", record: null })],
  });
  // New records come in above: what is being read stays where it is.
  useEffect(() => {
    const box = list.current?.querySelector(".virtual-list");
    if (box && pages.added && box.scrollTop > ROW_HEIGHT) box.scrollTop += pages.added * ROW_HEIGHT;
  }, [pages.records]);
  const count = records.length + (pages.hasOlder ? 1 : 0);
  const now = Date.now();
  return html`
    <${LevelHistogram} ...${{ source, state, navigate, filter }} />
    ${pages.error && html`<${ErrorNotice} error=${pages.error} retry=${pages.retry} />`}
    ${pages.progress && html`<${Progress} progress=${pages.progress} />`}
    <div class=${`split ${state.record ? "open" : ""}`}>
      <div class="log-list" ref=${list} aria-busy=${pages.isLoading}>
        ${count
          ? html`<${VirtualList} id="logs" label="Log records, newest first" count=${count} rowHeight=${ROW_HEIGHT}
              selected=${selected} onSelect=${(index) => records[index] && open(index)} onOpen=${open}
              rowProps=${(index) => ({
                class: records[index] ? `log ${levelOf(records[index].severity)}` : "older",
                onClick: () => records[index] && open(index),
              })}
              renderRow=${(index) =>
                records[index]
                  ? html`<${LogRow} record=${records[index]} now=${now} />`
                  : html`<${OlderRow} load=${pages.loadOlder} isLoading=${pages.isLoading} isComplete=${pages.isComplete}
                    key=${count} />`} />`
          : !pages.isLoading && !pages.error && html`<${NoRecords} ...${{ state, navigate }} />`}
      </div>
      ${state.record && html`<${OpenRecord} ...${{ source, state, navigate, close }} record=${records[selected]} />`}
    </div>
    <p class="status-line muted" role="status">${describeCount(pages)}</p>`;
}

function describeCount({ records, hasOlder, isLoading, isComplete }) {
  if (isLoading && !records.length) return "Reading…";
  const count = formatCount(records.length, "record");
  return `${hasOlder ? `The newest ${count}` : count}${isComplete ? "" : ", as far as could be searched in time"}`;
}

/** Return what tells the record from others in the URL. */
function idOf({ time, spanId, text }) {
  let hash = 0;
  for (let at = 0; at < text.length && at < 500; at++) hash = (hash * 31 + text.charCodeAt(at)) | 0;
  return `${time}-${spanId || "0"}-${(hash >>> 0).toString(36)}`;
}

function LogRow({ record, now }) {
  const level = levelOf(record.severity);
  const brief = record.attributes.filter(({ key }) => !/^(code|thread|log|exception)\./.test(key));
  const raised = exceptionIn(record.attributes);
  return html`
    <span class="number time">${formatNear(record.time.toString(), now)}</span>
    <span class=${`log-level ${level}`}>${level === "unspecified" ? "" : level}</span>
    <span class="service-cell"><${ServiceName} name=${record.service} /></span>
    <span class="cut body">${escapeText(firstLine(record.text))}
      ${raised && html` <span class="error-text">${escapeText(raised.type)}</span>`}
      <span class="muted">${brief.map((attribute) => html`  ${escapeText(attribute.key)}=${escapeText(textOfValue(attribute)).slice(0, 80)}`)}</span></span>`;
}

function firstLine(text) {
  const line = text.trimStart().split("\n", 1)[0];
  return line.length > 400 ? `${line.slice(0, 400)}…` : line;
}

/** The last row: it asks for older records as soon as it comes into sight; for long searches, by a press. */
function OlderRow({ load, isLoading, isComplete }) {
  useEffect(() => {
    if (isComplete) load();
  }, [isLoading]);
  if (isLoading) return html`<span class="muted">Reading older records…</span>`;
  return html`<button type="button" class="small" onClick=${load}>${isComplete ? "Older records" : "Search further back"}</button>`;
}

function NoRecords({ state, navigate }) {
  const isFiltered = state.text || state.min_severity || state.service || state.trace || state.attr.length;
  return html`
    <${EmptyState} title=${isFiltered ? "No log record fulfils all filters" : "No log records in this time range"}>
      ${isFiltered
        ? html`<p><button type="button"
          onClick=${() => navigate({ text: null, min_severity: null, service: null, trace: null, attr: [] })}>Remove all filters</button></p>`
        : html`<p>Choose a longer range at the top. <code>rimp run -- python app.py</code> records what a program logs.</p>`}
    <//>`;
}

function LevelHistogram({ source, state, navigate, filter }) {
  const answer = useAnswer((options) => source.logHistogram(filter, options), [keyOfFilter(state), state.revision]);
  const [hidden, setHidden] = useState([]);
  return html`
    <${Answer} answer=${answer}>
      ${({ from, step, series, is_complete: isComplete }) => {
        const totals = LEVELS.map(({ name }) => (series[name] ?? []).reduce((sum, count) => sum + count, 0));
        const known = LEVELS.filter((_level, index) => totals[index] > 0);
        const steps = Math.max(...Object.values(series).map((values) => values.length), 1);
        const toggle = (name) => setHidden(hidden.includes(name) ? hidden.filter((one) => one !== name) : [...hidden, name]);
        return html`
          <div class="histogram">
            <${TimeChart} label="Log records over time by level" kind="bars" height=${112} syncKey="logs"
              times=${timesOfSteps({ from, step }, steps)} step=${step / 1e9} format=${formatShort}
              series=${[...known].reverse().map(({ name, color }) => ({ label: name, color, values: series[name], isHidden: hidden.includes(name) }))}
              onSelect=${(range) => navigate({ ...range, record: null })} />
            ${isComplete === false && html`<${PartlyRead} />`}
            <ul class="levels" aria-label="Levels">
              ${known.map(({ name, color }) => html`
                <li><button type="button" class="bare" aria-pressed=${!hidden.includes(name)} title="Hide or show in the chart"
                    onClick=${() => toggle(name)}><i style=${{ background: color }}></i>${name}
                  <span class="number">${formatNumber(totals[LEVELS.findIndex((level) => level.name === name)])}</span></button></li>`)}
            </ul>
          </div>`;
      }}
    <//>`;
}

// One record.

function OpenRecord({ source, state, navigate, record, close }) {
  const time = state.record.split("-")[0];
  const needsAsking = !record && /^\d+$/.test(time);
  const answer = useAnswer(
    async (options) => {
      if (!needsAsking) return null;
      const { logs } = await source.logs({ from: time, to: String(BigInt(time) + 1n), limit: 100 }, options);
      return readLogs(logs).find((one) => idOf(one) === state.record) ?? null;
    },
    [state.record, needsAsking],
  );
  const found = record ?? answer.value;
  return html`
    <aside class="detail" aria-label="Log record">
      <header><h2>Log record</h2>
        <button type="button" class="bare" aria-label="Close" title="Close (Escape)" onClick=${close}><${Icon}
          name="close" /></button></header>
      ${found
        ? html`<${RecordDetail} ...${{ state, navigate }} record=${found} />`
        : !answer.isLoading && html`<p class="muted pad">This record is not in the recording any more.</p>`}
    </aside>`;
}

function RecordDetail({ state, navigate, record }) {
  const level = levelOf(record.severity);
  const raised = exceptionIn(record.attributes);
  const add = (condition) => navigate({ attr: [...state.attr.filter((one) => one !== condition), condition] });
  const plain = {
    time: formatTime(record.time.toString(), 9),
    severity: record.severityText || level,
    service: record.service,
    body: toPlain(record.body),
    attributes: plainAttributes(record.attributes),
    resource: plainAttributes(record.resource.attributes),
    scope: record.scope.name,
    trace_id: record.traceId || undefined,
    span_id: record.spanId || undefined,
  };
  return html`
    <div class="detail-body">
      <p class="detail-line"><span
        class=${`log-level ${level}`}>${record.severityText ? escapeText(record.severityText) : level}</span>
        <${ServiceName} name=${record.service} />
        <span class="number">${formatTime(record.time.toString(), 6)}</span></p>
      <pre class="log-text">${escapeLines(record.text)}</pre>
      <p class="detail-actions">
        ${record.traceId && html`
          <a class="button small" href=${linkTo(state, { view: "trace", id: record.traceId, span: record.spanId })}>Its trace</a>
          <button type="button" class="small"
            onClick=${() => navigate({ trace: record.traceId, record: null })}>Logs of this trace</button>`}
        <button type="button" class="small" onClick=${() => navigate(rangeAround(record.time))}>A minute around it</button>
        <${CopyButton} text=${() => JSON.stringify(plain, null, 2)} label="Copy as JSON" title="Copy as JSON" />
      </p>
      ${raised && html`<section><h3>Exception</h3>
        <p class="error-text"><b>${escapeText(raised.type)}</b> ${escapeText(raised.message)}</p>
        ${raised.stack && html`<${Stack} text=${raised.stack} />`}</section>`}
      <${AttributeTable} title="Attributes" scope="log"
        attributes=${record.attributes.filter(({ key }) => !key.startsWith("exception."))} onFilter=${add} />
      <${AttributeTable} title="Resource" scope="resource" attributes=${record.resource.attributes} onFilter=${add} />
      <${AttributeTable} title="Instrumentation" scope="instrumentation" onFilter=${add}
        attributes=${[
          { key: "name", type: "string", value: record.scope.name },
          { key: "version", type: "string", value: record.scope.version },
          ...record.scope.attributes,
        ].filter(({ value }) => value !== "")} />
      ${record.eventName && html`<p class="muted">event ${escapeText(record.eventName)}</p>`}
      ${record.dropped > 0 && html`<p
        class="warn-text">${formatCount(record.dropped, "attribute")} more were dropped where it was made.</p>`}
    </div>`;
}

function rangeAround(time) {
  const half = 30_000_000_000n;
  return { from: String(time - half), to: String(time + half) };
}

/** The stack of an exception, to copy. */
export function Stack({ text }) {
  return html`
    <div class="stack"><${CopyButton} text=${text} title="Copy the stack" />
      <pre tabindex="0" aria-label="Stack">${escapeLines(text)}</pre></div>`;
}

function AttributeTable({ title, scope, attributes, onFilter }) {
  if (!attributes.length) return null;
  return html`
    <section><h3>${title}</h3>
      <table class="log-attributes"><tbody>
        ${attributes.map((attribute) => html`<${AttributeRow} key=${attribute.key} ...${{ attribute, scope, onFilter }} />`)}
      </tbody></table></section>`;
}

function AttributeRow({ attribute, scope, onFilter }) {
  const { key, type } = attribute;
  const text = textOfValue(attribute);
  const isSimple = ["string", "bool", "int", "double"].includes(type);
  const write = (operator) => `${scope}.${key} ${operator} ${writeValue(type, toPlain(attribute))}`;
  return html`
    <tr>
      <th scope="row"><span class="cut">${escapeText(key)}</span></th>
      <td><span class=${`value ${type}`}>${escapeLines(text)}</span> ${type !== "string" && html`<span
        class="type">${type}</span>`}</td>
      <td class="row-tools">
        ${isSimple && html`
          <button type="button" class="bare" title="Only records with this value" aria-label=${`Only records with this ${key}`}
            onClick=${() => onFilter(write("="))}><${Icon} name="plus" /></button>
          <button type="button" class="bare" title="Without this value" aria-label=${`Without this ${key}`}
            onClick=${() => onFilter(write("!="))}><${Icon} name="minus" /></button>`}
        <${CopyButton} text=${text} title=${`Copy ${key}`} />
      </td>
    </tr>`;
}

// Exceptions.

function Exceptions({ source, state, navigate }) {
  const { range, service } = state;
  const answer = useAnswer(
    (options) => source.errors({ ...range, service }, options),
    [state.rangeText, service, state.revision],
  );
  return html`
    <${Answer} answer=${answer}>
      ${({ errors, is_complete: isComplete }) => html`
        ${isComplete === false && html`<${PartlyRead} />`}
        ${errors.length
          ? html`<${ExceptionTable} ...${{ source, state, navigate, errors }} />`
          : html`<${NoExceptions} isComplete=${isComplete !== false} />`}`}
    <//>`;
}

function NoExceptions({ isComplete }) {
  return isComplete
    ? html`<${EmptyState} title="No exceptions in this time range">
        <p>Neither a span nor a log record has one.</p>
      <//>`
    : html`<${EmptyState} title="No exceptions in what was read">
        <p>A shorter range is read as a whole.</p>
      <//>`;
}

function ExceptionTable({ source, state, navigate, errors }) {
  const now = Date.now();
  const open = errors.find((error) => idOfError(error) === state.error);
  const total = errors.reduce((sum, { count }) => sum + count, 0);
  useKeys("Logs", open ? { Escape: ["Close the exception", () => navigate({ error: null })] } : {});
  return html`
    <div class=${`split ${open ? "open" : ""}`}>
      <div class="table-scroll grow">
        <table class="exceptions">
          <caption class="muted">${formatCount(total, "exception")} of ${formatCount(errors.length, "kind")}</caption>
          <thead><tr><th scope="col">Exception</th><th scope="col">Service</th><th scope="col">Trend</th>
            <th scope="col" class="number">Count</th><th scope="col" class="number">Last</th></tr></thead>
          <tbody>${errors.map((error) => html`
            <tr class=${error === open ? "open" : ""}>
              <td><button type="button" class="row-button" aria-expanded=${error === open}
                  onClick=${() => navigate({ error: error === open ? null : idOfError(error) })}>
                  <span class="error-text">${escapeText(error.type || "Failed span")}</span>
                  <span class="cut">${escapeText(firstLine(error.message ?? ""))}</span>
                  <span class="muted cut mono">${escapeText(error.place)}</span></button></td>
              <td><${ServiceName} name=${error.service} /></td>
              <td><${Sparkline} values=${error.series} kind="errors"
                label=${`${error.type}: ${error.count} over this time range`} /></td>
              <td class="number">${formatNumber(error.count)}</td>
              <td class="number muted">${formatAge(error.last, now)}</td>
            </tr>`)}</tbody>
        </table>
      </div>
      ${open && html`<${ExceptionDetail} ...${{ source, state, navigate, error: open }} />`}
    </div>`;
}

function idOfError({ type, place, service }) {
  return [service, type, place].join(" ");
}

function ExceptionDetail({ source, state, navigate, error }) {
  const close = () => navigate({ error: null });
  const answer = useAnswer(
    async (options) => error.stack ?? (error.trace_id ? stackIn(await source.trace(error.trace_id, options), error) : ""),
    [idOfError(error), error.trace_id],
  );
  return html`
    <aside class="detail" aria-label="Exception">
      <header><h2>Exception</h2>
        <button type="button" class="bare" aria-label="Close" title="Close (Escape)" onClick=${close}><${Icon}
          name="close" /></button></header>
      <div class="detail-body">
        <p class="error-text"><b>${escapeText(error.type || "Failed span")}</b></p>
        <pre class="log-text">${escapeLines(error.message ?? "")}</pre>
        <p class="detail-line"><${ServiceName} name=${error.service} /><span class="mono muted">${escapeText(error.place)}</span></p>
        <p><b>${formatNumber(error.count)}</b> times, first ${formatTime(error.first, 0)}, last ${formatTime(error.last, 0)}</p>
        <p class="detail-actions">
          ${error.trace_id && html`<a class="button"
            href=${linkTo(state, { view: "trace", id: error.trace_id, span: error.span_id })}>A trace with it</a>`}
          <button type="button" class="small"
            onClick=${() => navigate({ tab: null, error: null, min_severity: null, attr: [], text: error.type })}>Log records with it</button>
        </p>
        <section><h3>Stack of the newest</h3>
          <${Answer} answer=${answer}>${(stack) => stack ? html`<${Stack} text=${stack} />` : html`<p
            class="muted">None is recorded.</p>`}<//></section>
      </div>
    </aside>`;
}

function stackIn({ traces }, error) {
  const events = readSpans(traces).flatMap((span) => (span.spanId === error.span_id ? span.events : []));
  const raised = events.map(({ attributes }) => exceptionIn(attributes)).filter(Boolean);
  return (raised.find(({ type }) => type === error.type) ?? raised[0])?.stack ?? "";
}
