/** The view Metrics: a list, and one metric over time by its attributes, as lines or as a heat map. */

import { HeatMap, Legend, secondsOf, TimeChart, timesOfSteps } from "../charts.js";
import { serviceColor } from "../colors.js";
import { Answer, Chip, EmptyState, html, Menu, OptionList, PartlyRead, ServiceName, useAnswer, useMemo, useState } from "../components.js";
import { escapeText, formatClock, formatCount, formatDuration } from "../format.js";
import { AttributeMenu, buttonLabel } from "../filters.js";
import { useKeys } from "../keys.js";
import { describeUnit, makeFormatter } from "../units.js";
import { linkTo } from "../url_state.js";
import { VirtualList } from "../virtual_list.js";

const ROW_HEIGHT = 46;
const MOST_SERIES = 30;
const MOST_EXEMPLARS = 50;
const MOST_MARKERS = 40;
const COLORS = 12;
const SERVICE = "service.name";
const QUANTILES = [
  { label: "p50", color: "var(--service-1)" },
  { label: "p90", color: "var(--service-2)" },
  { label: "p99", color: "var(--error)" },
];
const TYPES = {
  gauge: "gauge",
  sum: "sum",
  histogram: "histogram",
  exponential_histogram: "exponential histogram",
  summary: "summary",
};

/** The view. */
export function MetricsView({ source, state, navigate, info }) {
  const answer = useAnswer((options) => source.metrics(state.range, options), [state.rangeText, state.revision]);
  useKeys("Metrics", { "/": ["Search", () => document.getElementById("metric-search")?.focus()] });
  return html`
    <div class="metrics">
      <${Answer} answer=${answer}>
        ${({ metrics, is_complete: isComplete }) =>
          metrics.length
            ? html`<${Metrics} ...${{ source, state, navigate, info, metrics, isComplete }} />`
            : html`<${EmptyState} title="No metrics in this time range">
                <p>Choose a longer range at the top. <code>rimp run -- python app.py</code> records a program's metrics.</p><//>`}
      <//>
    </div>`;
}

function Metrics({ source, state, navigate, info, metrics, isComplete }) {
  const [typed, setTyped] = useState("");
  const wanted = typed.trim().toLowerCase();
  const found = useMemo(
    () => metrics.filter(({ name, description }) => `${name} ${description}`.toLowerCase().includes(wanted)),
    [metrics, wanted],
  );
  const shown = metrics.find(({ name }) => name === state.metric) ?? (state.metric ? null : found[0]);
  const choose = (index) =>
    found[index] && navigate({ metric: found[index].name, by: [], attr: [], service: null, all: null }, { replace: true });
  return html`
    <div class="metric-list">
      <input type="search" id="metric-search" placeholder=${`Search ${formatCount(metrics.length, "metric")} ( / )`}
        aria-label="Search metrics"
        value=${typed} spellcheck="false" onInput=${(event) => setTyped(event.target.value)}
        onKeyDown=${(event) => event.key === "Enter" && choose(0)} />
      ${found.length
        ? html`<${VirtualList} id="metrics" label="Metrics" count=${found.length} rowHeight=${ROW_HEIGHT}
            selected=${found.indexOf(shown)} onSelect=${choose} onOpen=${choose}
            rowProps=${(index) => ({ class: "metric", onClick: () => choose(index), title: found[index].description })}
            renderRow=${(index) => html`<${MetricRow} metric=${found[index]} />`} />`
        : html`<p class="muted pad">No metric has this in its name or description.</p>`}
      ${isComplete === false && html`<${PartlyRead} />`}
    </div>
    <div class="metric-detail">
      ${shown
        ? html`<${Metric} key=${shown.name} ...${{ source, state, navigate, info }} metric=${shown} />`
        : html`<${EmptyState} title="This metric has no points in this time range"><p>
          <code>${escapeText(state.metric ?? "")}</code></p><//>`}
    </div>`;
}

function MetricRow({ metric }) {
  return html`
    <span class="cut">${escapeText(metric.name)}</span>
    <span class="cut muted small-text">${[TYPES[metric.type] ?? metric.type, metric.unit, `${metric.series} series`]
      .filter(Boolean)
      .map(escapeText)
      .join(" · ")}</span>`;
}

// One metric.

function Metric({ source, state, navigate, info, metric }) {
  const { range, rangeText, service, attr, revision } = state;
  const isGrouped = state.by.length > 0 || state.all === "1";
  const by = isGrouped ? state.by : [SERVICE];
  const answer = useAnswer(
    (options) => source.metricSeries({ ...range, name: metric.name, service, attr, by }, options),
    [rangeText, metric.name, service, attr, by, revision],
  );
  return html`
    <header class="metric-head">
      <h1 class="mono">${escapeText(metric.name)}</h1>
      <p class="muted">${escapeText(metric.description || "No description.")}</p>
      <p class="badges"><span class="badge">${TYPES[metric.type] ?? metric.type}</span>
        ${metric.unit && html`<span class="badge">unit ${escapeText(metric.unit)}</span>`}
        ${metric.temporality && html`<span class="badge">${String(metric.temporality).toLowerCase()}</span>`}
        ${metric.type === "sum" && html`<span class="badge">${metric.is_monotonic ? "counter" : "up and down"}</span>`}</p>
    </header>
    <${MetricFilters} ...${{ source, state, navigate, info, metric, by }} />
    <${Answer} answer=${answer}>
      ${(series) => html`<${MetricCharts} ...${{ state, navigate, metric, series, by }} />`}
    <//>`;
}

function MetricFilters({ source, state, navigate, metric, by }) {
  const services = metric.services ?? [];
  return html`
    <div class="toolbar" role="group" aria-label="Filters and groups">
      <${Menu} title="Group by" isActive=${by.length > 0} label=${buttonLabel("Group by")}>
        ${(close) => html`<${GroupChoice} ...${{ source, state, metric, by }}
          onChoose=${(key) => {
            navigate(key ? { by: [...new Set([...by, key])], all: null } : { by: [], all: "1" });
            close();
          }} />`}
      <//>
      ${by.map((key) => {
        const left = by.filter((one) => one !== key);
        return html`<${Chip} label="by" value=${escapeText(key)}
          onRemove=${() => navigate({ by: left, all: left.length ? null : "1" })} />`;
      })}
      <${Menu} title="Service" isActive=${Boolean(state.service)} label=${buttonLabel("Service")}>
        ${(close) => html`<${OptionList} label="Service" selected=${state.service}
          options=${services.map((name) => ({ value: name, label: html`<${ServiceName} name=${name} />` }))}
          onChoose=${(service) => { navigate({ service }); close(); }} />`}
      <//>
      <${AttributeMenu} source=${source} signal="metrics" range=${{ ...state.range, name: metric.name }}
        onAdd=${(condition) => navigate({ attr: [...state.attr, condition] })} />
      ${state.service && html`<${Chip} label="service" value=${escapeText(state.service)}
        onRemove=${() => navigate({ service: null })} />`}
      ${state.attr.map((condition) => html`
        <${Chip} label="" value=${escapeText(condition)}
          onRemove=${() => navigate({ attr: state.attr.filter((one) => one !== condition) })} />`)}
    </div>`;
}

function GroupChoice({ source, state, metric, by, onChoose }) {
  const answer = useAnswer(
    (options) => source.attributes({ ...state.range, signal: "metrics", name: metric.name }, options),
    [metric.name],
  );
  return html`
    <${Answer} answer=${answer}>
      ${({ keys }) => {
        const names = [...new Set(keys.filter(({ scope }) => scope !== "instrumentation").map(({ key }) => key))];
        const options = names.filter((name) => !by.includes(name)).map((name) => ({ value: name }));
        return html`<${OptionList} label="Attribute" options=${[{ value: "", text: "Nothing: one line" }, ...options]}
          onChoose=${onChoose} />`;
      }}
    <//>`;
}

function MetricCharts({ state, navigate, metric, series, by }) {
  const [hidden, setHidden] = useState([]);
  const [hiddenQuantiles, setHiddenQuantiles] = useState([]);
  const isRate = series.heatmap !== null || (metric.type === "sum" && metric.is_monotonic) || metric.type === "summary";
  const isCount = metric.type !== "sum" && isRate;
  const unit = isCount ? "{value}" : metric.unit;
  const format = makeFormatter(unit, { isRate, isShare: /utilization|ratio|fraction/.test(metric.name) });
  const formatValue = makeFormatter(metric.unit);
  const lines = useMemo(() => linesOf(series.series, by), [series, by.join()]);
  const steps = Math.max(...series.series.map(({ values }) => values.length), series.heatmap?.counts.length ?? 0, 1);
  const times = useMemo(() => timesOfSteps(series, steps), [series.from, series.step, steps]);
  const onSelect = (range) => navigate(range);
  const markers = markersOf(series, metric, navigate, formatValue);
  const name = describeUnit(unit, isRate);
  const shown = lines.slice(0, MOST_SERIES).map((one) => ({ ...one, isHidden: hidden.includes(one.label) }));
  const quantiles = QUANTILES.map((one) => ({
    ...one,
    values: series.quantiles?.[one.label] ?? [],
    isHidden: hiddenQuantiles.includes(one.label),
  }));
  if (!lines.length) return html`<${EmptyState} title="No points fulfil all filters" />`;
  return html`
    <div class="charts">
      ${series.heatmap?.bounds.length > 0 && html`
        <section aria-label="Distribution"><h2>Distribution <span class="muted small-text">stronger: more values</span></h2>
          <${HeatMap} label=${`Distribution of ${metric.name} over time`} times=${times} step=${series.step / 1e9}
            bounds=${series.heatmap.bounds} counts=${series.heatmap.counts} series=${quantiles} format=${formatValue}
            markers=${markers} onSelect=${onSelect} syncKey="metrics" />
          <${Legend} series=${quantiles} format=${formatValue} onHide=${setHiddenQuantiles} /></section>`}
      <section aria-label=${isRate ? "Rate" : "Value"}>
        <h2>${isCount ? "Rate of values" : isRate ? "Rate" : "Value"} <span class="muted small-text">${escapeText(name)}${
          name ? ", " : ""}a point each ${formatDuration(series.step)}</span></h2>
        <${TimeChart} label=${`${metric.name} over time`} times=${times} step=${series.step / 1e9} series=${shown} format=${format}
          isFromZero=${metric.type !== "gauge"}
          markers=${series.heatmap ? [] : markers} height=${series.heatmap ? 180 : 300} onSelect=${onSelect} syncKey="metrics" />
        <${Legend} series=${shown} format=${format} onHide=${setHidden} />
        ${lines.length > MOST_SERIES && html`<p
          class="muted">The ${MOST_SERIES} largest of ${formatCount(lines.length, "line")} are shown: group by fewer attributes, or filter.</p>`}
      </section>
      ${series.exemplars.length > 0 && html`<${Exemplars} ...${{ state, exemplars: series.exemplars, formatValue }} />`}
    </div>`;
}

/** Return the lines, the largest first, with a label and a colour each. */
function linesOf(series, by) {
  const isByService = by.length === 1 && by[0] === SERVICE;
  const lines = series.map(({ labels, values }) => ({
    label: labelOf(labels, by),
    values,
    service: labels[SERVICE] ?? "",
    most: values.reduce((most, value) => Math.max(most, value ?? -Infinity), -Infinity),
  }));
  lines.sort((a, b) => (a.label < b.label ? -1 : 1));
  lines.forEach((line, index) => {
    line.color = isByService ? serviceColor(line.service) : `var(--service-${index % COLORS})`;
  });
  return lines.length > MOST_SERIES ? lines.sort((a, b) => b.most - a.most) : lines;
}

function labelOf(labels, by) {
  if (!by.length) return "all";
  if (by.length === 1) return String(labels[by[0]] ?? "") || `no ${by[0]}`;
  return by.map((key) => String(labels[key] ?? "") || "–").join(" · ");
}

function markersOf({ exemplars, heatmap }, metric, navigate, formatValue) {
  const hasValue = heatmap !== null || metric.type === "gauge";
  return largestOfEach(exemplars.filter((exemplar) => exemplar.trace_id)).map(({ time, value, trace_id: id, span_id: span }) => ({
    time: secondsOf(time),
    value: hasValue ? value : null,
    label: `${formatValue(value)}: open the trace ${id.slice(0, 8)}`,
    onOpen: () => navigate({ view: "trace", id, span }),
  }));
}

/** Return the largest exemplar of each part of the time, so that they leave the chart to be seen. */
function largestOfEach(exemplars) {
  const times = exemplars.map(({ time }) => secondsOf(time));
  const first = Math.min(...times);
  const length = (Math.max(...times) - first) / MOST_MARKERS || 1;
  const largest = new Map();
  exemplars.forEach((exemplar, index) => {
    const part = Math.floor((times[index] - first) / length);
    if (!(largest.get(part)?.value >= exemplar.value)) largest.set(part, exemplar);
  });
  return [...largest.values()];
}

function Exemplars({ state, exemplars, formatValue }) {
  const newest = exemplars.slice(-MOST_EXEMPLARS).reverse();
  return html`
    <section aria-label="Exemplars">
      <h2>Exemplars <span class="muted small-text">measurements with their trace, the newest first</span></h2>
      <div class="table-scroll"><table class="exemplars">
        <thead><tr><th scope="col">Time</th><th scope="col" class="number">Value</th><th scope="col">Trace</th>
          <th scope="col">Attributes</th></tr></thead>
        <tbody>${newest.map(({ time, value, trace_id: id, span_id: span, attributes }) => html`
          <tr><td class="time">${formatClock(time, 3)}</td><td class="number">${formatValue(value)}</td>
            <td class="mono">${id ? html`<a
              href=${linkTo(state, { view: "trace", id, span })}>${id.slice(0, 16)}</a>` : html`<em>outside of any</em>`}</td>
            <td class="muted">${Object.entries(attributes ?? {}).map(([key, one]) => html`<span>${escapeText(key)}=${escapeText(String(one))} </span>`)}</td></tr>`)}</tbody>
      </table></div>
    </section>`;
}
