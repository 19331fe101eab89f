/** The first view: how each service does, what has changed, what was lost. */

import { Answer, CopyButton, EmptyState, html, Icon, ServiceName, Sparkline, useAnswer, useState } from "../components.js";
import { escapeText, formatCount, formatDuration, formatNumber, formatPercent, formatRate, formatShort, rateUnitOf } from "../format.js";
import { ALL } from "../time_range.js";
import { linkTo } from "../url_state.js";

const COLUMNS = [
  { name: "name", title: "Service", value: (service) => service.name },
  { name: "rate", title: "Requests", value: (service) => service.rate, isNumber: true },
  { name: "error_rate", title: "Errors", value: (service) => service.error_rate, isNumber: true },
  { name: "p50", title: "p50", value: (service) => service.p50 ?? -1, isNumber: true },
  { name: "p90", title: "p90", value: (service) => service.p90 ?? -1, isNumber: true },
  { name: "p99", title: "p99", value: (service) => service.p99 ?? -1, isNumber: true },
  { name: "spans", title: "Spans", value: (service) => service.spans, isNumber: true },
];
const FIRST_CHANGES = 12;

const CHANGES = {
  slower: { title: "Slower", level: "warn" },
  faster: { title: "Faster", level: "" },
  error_rate: { title: "Errors", level: "error" },
  new_failure: { title: "New failure", level: "error" },
  new_operation: { title: "New", level: "" },
  gone_operation: { title: "Gone", level: "" },
};

export function OverviewView({ source, state, navigate, info }) {
  const answer = useAnswer((options) => source.overview(state.range, options), [state.range, state.revision]);
  if (info && !info.last) return html`<${NothingRecorded} info=${info} />`;
  return html`<${Answer} answer=${answer}>${(overview) => html`
    <div class="overview">
      <h1 class="hidden">Overview</h1>
      ${overview.services.length
        ? html`<${Summary} ...${{ overview, state }} /><${Services} ...${{ overview, state, navigate }} />`
        : html`<${NoSpans} ...${{ overview, state, navigate, info }} />`}
      <div class="overview-below">
        <${Changes} ...${{ changes: overview.changes, state, isFirst: startsBefore(overview, info) }} />
        <${Losses} losses=${overview.losses} state=${state} />
      </div>
    </div>`}<//>`;
}

function Summary({ overview, state }) {
  const { services, logs } = overview;
  const sum = (pick) => services.reduce((total, service) => total + pick(service), 0);
  const requests = sum((service) => service.requests);
  const errors = sum((service) => service.errors);
  const addSeries = (name) => services.reduce((total, { series }) => series[name].map((value, at) => (value ?? 0) + (total[at] ?? 0)), []);
  const slowest = services.reduce((most, service) => ((service.p99 ?? 0) > (most?.p99 ?? -1) ? service : most), null);
  const logErrors = logs.error + logs.fatal;
  return html`
    <ul class="tiles">
      <${Tile} title="Requests" value=${formatRate(sum((service) => service.rate))}
        note=${formatCount(requests, "request")}
        href=${linkTo(state, { view: "traces" })} series=${addSeries("requests")} kind="requests" />
      <${Tile} title="Failed" value=${formatPercent(requests ? errors / requests : 0)}
        note=${formatCount(errors, "request")} isBad=${errors > 0}
        href=${linkTo(state, { view: "traces", status: "error" })} series=${addSeries("errors")} kind="errors" />
      <${Tile} title="Slowest p99" value=${formatDuration(slowest?.p99)}
        note=${slowest ? html`<${ServiceName} name=${slowest.name} />` : ""}
        href=${linkTo(state, { view: "traces", service: slowest?.name, sort: "longest" })}
          series=${slowest?.series.p99 ?? []} kind="p99" />
      <${Tile} title="Errors in logs" value=${formatShort(logErrors)} note=${formatCount(logs.warn, "warning")}
        isBad=${logErrors > 0}
        href=${linkTo(state, { view: "logs", min_severity: logErrors ? 17 : 13 })} />
    </ul>`;
}

function Tile({ title, value, note, href, series, kind, isBad }) {
  return html`
    <li><a class="tile" href=${href}>
      <span class="muted">${title}</span>
      <strong class=${`number ${isBad ? "error-text" : ""}`}>${value}</strong>
      <span class="muted number small-text cut">${note}</span>
      ${series?.length > 0 && html`<${Sparkline} values=${series} kind=${kind} width=${110} height=${40}
        label=${`${title} over time`} />`}
    </a></li>`;
}

function Services({ overview, state, navigate }) {
  const order = COLUMNS.find((column) => column.name === state.order) ?? COLUMNS[1];
  const compare = (one, other) => {
    const [left, right] = [order.value(one), order.value(other)];
    return order.isNumber ? right - left : left < right ? -1 : 1;
  };
  const services = [...overview.services].sort(compare);
  const unit = rateUnitOf(services.map((service) => service.rate));
  return html`
    <section class="table-scroll">
      <table class="services">
        <caption class="hidden">Services</caption>
        <thead><tr>${COLUMNS.map((column) => html`
          <th scope="col" class=${column.isNumber ? "number" : ""}
            aria-sort=${column === order ? (column.isNumber ? "descending" : "ascending") : null}>
            <button type="button" class=${column === order ? "sorted" : ""}
              onClick=${() => navigate({ order: column === COLUMNS[1] ? null : column.name }, { replace: true })}>${column.title}${
              column === order && html`<${Icon} name="down" />`}</button></th>
          ${column.name === "rate" && html`<th scope="col"
            class="trend"><span class="hidden">Requests over time</span></th>`}
          ${column.name === "error_rate" && html`<th scope="col"
            class="trend"><span class="hidden">Errors over time</span></th>`}
          ${column.name === "p99" && html`<th scope="col"
            class="trend"><span class="hidden">p99 over time</span></th>`}`)}
        </tr></thead>
        <tbody>${services.map((service) => html`<${ServiceRow} key=${service.name}
          ...${{ service, state, navigate, unit }} />`)}</tbody>
      </table>
    </section>`;
}

function ServiceRow({ service, state, navigate, unit }) {
  const href = linkTo(state, { view: "traces", service: service.name });
  const failed = linkTo(state, { view: "traces", service: service.name, status: "error" });
  const slow = linkTo(state, { view: "traces", service: service.name, sort: "longest", min_duration: service.p90 && Math.round(service.p90) });
  return html`
    <tr onClick=${(event) => event.target.closest("a") || navigate({ view: "traces", service: service.name })}>
      <th scope="row"><a href=${href}><${ServiceName} name=${service.name} /></a><span class="muted small-text number">${formatCount(service.operations, "operation")}</span></th>
      <td class="number" title=${formatCount(service.requests, "request")}>${formatRate(service.rate, unit)}</td>
      <td class="trend"><${Sparkline} values=${service.series.requests} label="Requests over time" /></td>
      <td class="number" title=${formatCount(service.errors, "failed request")}>${service.errors > 0
        ? html`<a class="error-text" href=${failed}>${formatPercent(service.error_rate)}</a>`
        : html`<span class="muted">0 %</span>`}</td>
      <td class="trend"><${Sparkline} values=${service.series.errors} kind="errors" label="Errors over time" /></td>
      <td class="number">${formatDuration(service.p50)}</td>
      <td class="number">${formatDuration(service.p90)}</td>
      <td class="number"><a href=${slow} title="The slowest traces">${formatDuration(service.p99)}</a></td>
      <td class="trend"><${Sparkline} values=${service.series.p99} kind="p99" label="p99 over time" /></td>
      <td class="number muted">${formatNumber(service.spans)}</td>
    </tr>`;
}

function startsBefore(overview, info) {
  return Boolean(info?.first) && BigInt(overview.from) <= BigInt(info.first);
}

function Changes({ changes, state, isFirst }) {
  const [isWhole, setWhole] = useState(false);
  const shown = isWhole ? changes : changes.slice(0, FIRST_CHANGES);
  return html`
    <section class="changes" aria-labelledby="changes-title">
      <h2 id="changes-title">New or changed <span class="muted">against the time range before</span></h2>
      ${changes.length === 0 && html`<p class="muted">${isFirst
        ? "Nothing is recorded before this time range that it could be compared with."
        : "Nothing is new, slower or failing more often than in the time range before."}</p>`}
      <ul>${shown.map((change) => html`
        <li><a href=${linkTo(state, { view: "traces", service: change.service, operation: change.operation, ...filtersOf(change) })}>
          <span class=${`badge ${CHANGES[change.kind]?.level ?? ""}`}>${CHANGES[change.kind]?.title ?? change.kind}</span>
          <span class="change-text"><${ServiceName} name=${change.service} /> <strong>${escapeText(change.operation ?? "")}</strong>${
              change.text && html` <span class="muted">${escapeText(change.text)}</span>`}</span>
          ${ratioOf(change) && html`<span class=${`number ${CHANGES[change.kind]?.level === "" ? "ok-text" : "warn-text"}`}>${ratioOf(change)}</span>`}
        </a></li>`)}</ul>
      ${changes.length > shown.length && html`<button type="button" class="small"
        onClick=${() => setWhole(true)}>All ${changes.length}</button>`}
    </section>`;
}

function filtersOf(change) {
  if (change.kind === "error_rate" || change.kind === "new_failure") return { status: "error" };
  return change.kind === "slower" ? { sort: "longest" } : {};
}

function ratioOf({ kind, before, after }) {
  if ((kind !== "slower" && kind !== "faster") || !before || !after) return "";
  return `${Number((after / before).toPrecision(2))}×`;
}

function Losses({ losses, state }) {
  const dropped = Object.entries(losses?.dropped ?? {}).filter(([, count]) => count > 0);
  const lines = [
    losses?.interrupted > 0 && html`<li><${Icon} name="broken" /><span><a
      href=${linkTo(state, { view: "traces", attr: ["span.rimp.interrupted exists"] })}><strong class="number">${formatCount(losses.interrupted, "span")}</strong> interrupted</a>: their process died while they were open.</span></li>`,
    ...dropped.map(([reason, count]) => html`<li><${Icon} name="warning" /><span><strong class="number">${formatCount(count, "record")}</strong> not stored: ${escapeText(reason.replaceAll("_", " "))}.</span></li>`),
    losses?.damaged > 0 && html`<li><${Icon} name="warning" /><span><strong class="number">${formatCount(losses.damaged, "damaged place")}</strong> in files: <code>rimp verify</code> lists them, <code>rimp repair</code> mends them.</span></li>`,
  ].filter(Boolean);
  return html`
    <section class="losses" aria-labelledby="losses-title">
      <h2 id="losses-title">What is missing</h2>
      ${lines.length ? html`<ul>${lines}</ul>` : html`<p class="muted"><${Icon} name="check" /> Nothing is known to be missing: no record was dropped, no span interrupted, no file damaged.</p>`}
    </section>`;
}

function NoSpans({ overview, state, navigate, info }) {
  const logs = overview.logs.warn + overview.logs.error + overview.logs.fatal;
  return html`
    <${EmptyState} title="No spans in this time range">
      ${logs > 0 && html`<p><a href=${linkTo(state, { view: "logs" })}>There are logs</a> in it.</p>`}
      ${info?.first && html`<p><button type="button"
        onClick=${() => navigate(ALL)}>Show all of the recording</button></p>`}
    <//>`;
}

function NothingRecorded({ info }) {
  const command = `rimp run --path ${info.path} -- python app.py`;
  return html`
    <${EmptyState} title="Nothing is recorded here yet">
      <p>This page shows what programs do as it happens. Record one into <code>${escapeText(info.path ?? "")}</code>, and it appears here by itself:</p>
      <pre>${escapeText(command)} <${CopyButton} text=${command} title="Copy the command" /></pre>
      <p>No program at hand? <code>rimp demo</code> records a small shop. Or drop files of a recording on this page.</p>
    <//>`;
}
