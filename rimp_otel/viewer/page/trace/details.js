/** What is recorded of one span, log record or event. */

import { CopyButton, html, Icon, Menu, ServiceName, useState } from "../components.js";
import { writeValue } from "../filters.js";
import { escapeLines, escapeText, formatCount, formatDuration, formatPercent, formatTime } from "../format.js";
import { exceptionIn, levelOf, plainAttributes, textOfValue } from "../otlp.js";
import { queryTextOf, writeAttributeSql, writeRequestCurl, writeSpanJson, writeSpanSql, writeTraceCurl } from "./files.js";
import { exceptionOf, selfTimeOf } from "./model.js";
import { linkTo } from "../url_state.js";

const LONG_VALUE = 300;
const MANY_ATTRIBUTES = 8;
const MARGIN_NANOS = 60_000_000_000n;

/**
 * The panel beside a trace.
 *
 * @param {object} props
 * @param {object} props.row of `listRows`
 * @param {import("./model.js").Trace} props.trace
 * @param {object} props.source whose address the commands name
 * @param {function} props.close
 */
export function TraceDetails({ row, trace, state, source, criticalPath, close, zoomTo, select }) {
  return html`
    <aside class="details" aria-label="Details">
      ${row.kind === "span"
        ? html`<${SpanDetails} key=${row.node.index}
          ...${{ node: row.node, trace, state, source, criticalPath, close, zoomTo, select }} />`
        : html`<${EventDetails} ...${{ row, trace, state, close, select }} />`}
    </aside>`;
}

function SpanDetails({ node, trace, state, source, criticalPath, close, zoomTo, select }) {
  const { span } = node;
  const [wanted, setWanted] = useState("");
  const raised = exceptionOf(span);
  const pieces = criticalPath.get(node) ?? [];
  const critical = pieces.reduce((sum, [from, to]) => sum + to - from, 0);
  const hasMany = span.attributes.length + span.resource.attributes.length > MANY_ATTRIBUTES;
  const facts = [
    ["Service", html`<${ServiceName} name=${span.service} />`],
    ["Start", html`${formatTime(span.start, 6)} <span class="muted">(+${formatDuration(node.offset)})</span>`],
    ["Duration", html`${span.end ? formatDuration(node.duration) : "it has no end"}${
      node.children.length > 0 && html` <span class="muted">(itself ${formatDuration(selfTimeOf(node))})</span>`}`],
    critical > 0 && ["Critical path", `${formatDuration(critical)}, ${formatPercent(critical / (trace.duration || 1))} of the trace`],
    ["Kind", span.kind],
    span.status !== "unset" && ["Status", html`<span class=${span.status === "error" ? "error-text" : ""}>${span.status}${
      span.statusMessage && `: ${escapeText(span.statusMessage)}`}</span>`],
    ["Span", html`<code>${escapeText(span.spanId)}</code> <${CopyButton} text=${span.spanId}
      title="Copy the span's id" />`],
    span.parentId && ["Parent", node.parent
      ? html`<button type="button" class="link"
        onClick=${() => select(node.parent)}>${escapeText(node.parent.span.name)}</button>`
      : html`<code>${escapeText(span.parentId)}</code> <span class="warn-text">not recorded</span>`],
    span.traceState && ["Trace state", html`<code>${escapeText(span.traceState)}</code>`],
  ];
  return html`
    <header>
      <h2>${escapeText(span.name) || "No name"}</h2>
      <button type="button" class="bare" aria-label="Close the details" title="Close (Esc)"
        onClick=${close}><${Icon} name="close" /></button>
    </header>
    <div class="details-tools">
      <${CopyMenu} span=${span} source=${source} />
      <button type="button" class="small" onClick=${() => zoomTo(node)}><${Icon} name="zoom" />Zoom</button>
      <a class="small-text"
        href=${linkTo(state, { view: "logs", trace: span.traceId, ...rangeAround(trace, state.range) })}>Logs of this trace</a>
    </div>
    ${span.isInterrupted && html`<p class="remark warn"><${Icon} name="broken" />Interrupted: its process died before it ended. Its end is the last sign of life.</p>`}
    ${node.flaw === "orphan" && html`<p class="remark warn"><${Icon} name="link" />Its parent is not in this recording: it was sampled out, lost, or recorded elsewhere.</p>`}
    ${node.flaw === "skewed" && html`<p class="remark warn"><${Icon} name="clock" />It starts before its parent: the clocks of two machines differ.</p>`}
    ${raised && html`<${Exception} raised=${raised} />`}
    <${Facts} facts=${facts} />
    ${hasMany && html`<input type="search" class="narrow-input" placeholder="Search keys and values"
      aria-label="Search keys and values"
      value=${wanted} onInput=${(event) => setWanted(event.target.value)} />`}
    <${AttributeSection} title="Attributes" scope="span" attributes=${span.attributes} dropped=${span.droppedAttributes}
      ...${{ wanted, state }} column="SpanAttributes" isOpen />
    ${span.events.length > 0 && html`
      <${Section} title=${`Events (${span.events.length})`} isOpen=${!raised}>
        ${span.events.map((event) => html`<${EventBlock} event=${event} start=${trace.start} />`)}<//>`}
    ${span.droppedEvents > 0 && html`<p class="muted">${formatCount(span.droppedEvents, "event")} dropped by the SDK</p>`}
    ${node.logs.length > 0 && html`
      <${Section} title=${`Logs (${node.logs.length})`} isOpen>
        ${node.logs.map((log) => html`
          <div class="block"><span class=${`trace-level ${levelOf(log.severity)}`}>${levelOf(log.severity)}</span>
            <span class="muted number">+${formatDuration(Number(log.time - trace.start))}</span>
            <pre class="text">${escapeLines(log.text)}</pre></div>`)}<//>`}
    ${span.links.length > 0 && html`
      <${Section} title=${`Links (${span.links.length})`} isOpen>
        ${span.links.map((link) => html`
          <div class="block"><a href=${linkTo(state, { view: "trace", id: link.traceId, span: link.spanId })}><code>${escapeText(link.traceId)}</code></a>
            <${AttributeTable} attributes=${link.attributes} /></div>`)}<//>`}
    <${AttributeSection} title="Resource" scope="resource" attributes=${span.resource.attributes}
      ...${{ wanted, state }} column="ResourceAttributes" />
    <${Section} title="Scope"><${Facts} facts=${[
      ["Name", escapeText(span.scope.name) || "–"],
      span.scope.version && ["Version", escapeText(span.scope.version)],
    ]} /><${AttributeTable} attributes=${span.scope.attributes} /><//>`;
}

/** Return a range that has the trace in it: nothing if the current one does. */
function rangeAround(trace, range) {
  const end = trace.start + BigInt(trace.duration);
  const isInside = (range.from === null || BigInt(range.from) <= trace.start) && (range.to === null || BigInt(range.to) >= end);
  return isInside ? {} : { from: trace.start - MARGIN_NANOS, to: end + MARGIN_NANOS };
}

function EventDetails({ row, trace, state, close, select }) {
  const { log, event } = row;
  const { attributes } = log ?? event;
  const raised = exceptionIn(attributes);
  const facts = [
    ["Time", html`${formatTime((log ?? event).time, 6)} <span class="muted">(+${formatDuration(row.offset)})</span>`],
    log && ["Service", html`<${ServiceName} name=${log.service} />`],
    log && ["Severity", html`<span class=${`trace-level ${levelOf(log.severity)}`}>${escapeText(log.severityText) || levelOf(log.severity)}</span>`],
    row.node && ["Span", html`<button type="button" class="link"
      onClick=${() => select(row.node)}>${escapeText(row.node.span.name)}</button>`],
  ];
  return html`
    <header>
      <h2>${log ? "Log record" : escapeText(event.name) || "Event"}</h2>
      <button type="button" class="bare" aria-label="Close the details" title="Close (Esc)"
        onClick=${close}><${Icon} name="close" /></button>
    </header>
    ${log && html`<pre class="text body">${escapeLines(log.text)}</pre>`}
    ${raised && html`<${Exception} raised=${raised} />`}
    <${Facts} facts=${facts} />
    <${AttributeSection} title="Attributes" attributes=${attributes} wanted="" state=${state} isOpen />
    ${log && html`<${AttributeSection} title="Resource" scope="resource" attributes=${log.resource.attributes} wanted=""
      state=${state} />`}`;
}

function CopyMenu({ span, source }) {
  const request = writeRequestCurl(span);
  const query = queryTextOf(span);
  const base = source.isLocal ? null : new URL(source.base, location.href);
  const texts = [
    ["The span as JSON", writeSpanJson(span)],
    ["Its attributes as JSON", JSON.stringify(plainAttributes(span.attributes), null, 2)],
    ["SQL that finds it", writeSpanSql(span)],
    query && ["The database's query", query],
    request && ["curl that makes the request again", request],
    base && ["curl that gets the trace from here", writeTraceCurl(span.traceId, base, Boolean(source.token))],
    ["The trace's id", span.traceId],
  ].filter(Boolean);
  return html`
    <${Menu} title="Copy" label=${html`<${Icon} name="copy" />Copy as<${Icon} name="down" />`}>
      ${() => html`<ul class="copy-list">${texts.map(([label, text]) => html`<li><${CopyButton} label=${label}
        text=${text} /></li>`)}</ul>`}
    <//>`;
}

/** Pairs of a name and what it says; what is falsy is left out. */
export function Facts({ facts }) {
  return html`<dl class="facts">${facts.filter(Boolean).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;
}

function Section({ title, isOpen, children }) {
  return html`<details class="section" open=${Boolean(isOpen)}><summary>${title}</summary>${children}</details>`;
}

/** An exception with its stack. */
export function Exception({ raised }) {
  return html`
    <div class="exception">
      <p><strong>${escapeText(raised.type)}</strong>${raised.message && html`: ${escapeLines(raised.message)}`}</p>
      ${raised.stack && html`<details><summary>Stack <${CopyButton} text=${raised.stack}
        title="Copy the stack" /></summary><pre>${escapeLines(raised.stack)}</pre></details>`}
    </div>`;
}

function EventBlock({ event, start }) {
  const raised = exceptionIn(event.attributes);
  const rest = raised ? event.attributes.filter(({ key }) => !key.startsWith("exception.")) : event.attributes;
  return html`
    <div class="block">
      <strong>${escapeText(event.name)}</strong> <span class="muted number">+${formatDuration(Number(event.time - start))}</span>
      ${raised && html`<${Exception} raised=${raised} />`}
      <${AttributeTable} attributes=${rest} />
    </div>`;
}

function AttributeSection({ title, attributes, dropped = 0, wanted, state, scope, column, isOpen }) {
  const text = wanted.trim().toLowerCase();
  const found = text
    ? attributes.filter((one) => `${one.key}=${textOfValue(one)}`.toLowerCase().includes(text))
    : attributes;
  if (!attributes.length && !dropped) return null;
  return html`
    <${Section} title=${`${title} (${text ? `${found.length} of ` : ""}${attributes.length})`}
      isOpen=${isOpen || Boolean(text)}>
      <${AttributeTable} attributes=${found} ...${{ state, scope, column }} />
      ${dropped > 0 && html`<p class="muted">${formatCount(dropped, "attribute")} dropped by the SDK</p>`}
    <//>`;
}

/** Attributes with their types, and what can be done with each. */
export function AttributeTable({ attributes, state, scope, column }) {
  if (!attributes.length) return null;
  return html`
    <table class="trace-attributes"><tbody>
      ${[...attributes].sort((one, other) => (one.key < other.key ? -1 : 1)).map((attribute) => html`
        <tr key=${attribute.key}>
          <th scope="row" title=${attribute.type}>${breakableKey(attribute.key)}</th>
          <td><${AttributeValue} attribute=${attribute} />
            <span class="attribute-tools">
              <${CopyButton} text=${() => textOfValue(attribute)} title=${`Copy the value of ${attribute.key}`} />
              ${state && scope && isComparable(attribute) && html`
                <a class="tool" title="Traces with this value"
                  aria-label=${`Traces with this value of ${attribute.key}`}
                  href=${linkTo(state, { view: "traces", attr: [`${scope}.${attribute.key} = ${writeValue(attribute.type, attribute.value)}`] })}><${Icon} name="search" /></a>`}
              ${column && html`<${CopyButton} text=${() => writeAttributeSql(attribute, column)} label="SQL"
                title=${`Copy SQL that finds this value of ${attribute.key}`} />`}
            </span></td>
        </tr>`)}
    </tbody></table>`;
}

/** Return a key that may be broken behind its dots. */
function breakableKey(key) {
  return escapeText(key).split(/(?<=[._])/).map((part) => html`${part}<wbr />`);
}

function isComparable({ type }) {
  return ["string", "int", "double", "bool"].includes(type);
}

function AttributeValue({ attribute }) {
  const [isWhole, setWhole] = useState(false);
  const text = attribute.type === "map" || attribute.type === "array"
    ? JSON.stringify(JSON.parse(textOfValue(attribute)), null, 1).replace(/\n\s*/g, " ")
    : textOfValue(attribute);
  const shown = isWhole || text.length <= LONG_VALUE ? text : text.slice(0, LONG_VALUE) + "…";
  return html`
    <span class=${`value ${attribute.type}`}>${attribute.type === "empty" ? html`<em>empty</em>` : text === "" ? html`<em>empty text</em>` : escapeLines(shown)}</span>
    ${attribute.type !== "string" && html` <span class="type">${attribute.type}</span>`}
    ${text.length > LONG_VALUE && html` <button type="button" class="link" onClick=${() => setWhole(!isWhole)}>${
      isWhole ? "less" : `all ${text.length.toLocaleString("en-US")} characters`}</button>`}`;
}
