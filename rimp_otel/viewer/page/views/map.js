/** The view Map: services and the calls between them, with rates and errors; and the same as tables. */

import { serviceColor } from "../colors.js";
import { Answer, EmptyState, html, Icon, ServiceName, useAnswer, useEffect, useMemo, useRef, useState } from "../components.js";
import { escapeText, formatDuration, formatNumber, formatPercent, formatRate } from "../format.js";
import { useKeys } from "../keys.js";
import { BOX, placeLabels, placeServices } from "../map_layout.js";
import { lengthOfRange } from "../time_range.js";
import { linkTo } from "../url_state.js";

const MARGIN = 16;
const SMALLEST_FIT = 0.55;
const ZOOM_STEP = 1.25;
const FEW_EDGES = 16;
const WARN_RATE = 0.01;
const ERROR_RATE = 0.05;
const NAME_FONT = "600 13px system-ui, sans-serif";
const LABEL_CHARACTER = 6.3;

/** The view. */
export function MapView({ source, state, navigate, info }) {
  const answer = useAnswer((options) => source.map(state.range, options), [state.rangeText, state.revision]);
  const isTable = state.as === "table";
  useKeys("Map", {
    x: [isTable ? "Show the map" : "Show tables", () => navigate({ as: isTable ? null : "table" })],
    ...(state.service ? { Escape: ["Deselect the service", () => navigate({ service: null })] } : {}),
  });
  return html`
    <div class="map-view">
      <${Answer} answer=${answer}>
        ${(map) =>
          map.services.length
            ? html`<${ServiceMap} ...${{ state, navigate, isTable, map }} seconds=${secondsOfRange(state.range, info)} />`
            : html`<${EmptyState} title="No services in this time range">
                <p>A service appears here with its first span. Choose a longer range at the top.</p><//>`}
      <//>
    </div>`;
}

function secondsOfRange(range, info) {
  const from = range.from ?? info?.first;
  const to = range.to ?? info?.last;
  const nanos = from && to ? lengthOfRange({ from, to }, Date.now()) : null;
  return nanos > 0 ? nanos / 1e9 : null;
}

function ServiceMap({ state, navigate, isTable, map, seconds }) {
  const [zoom, setZoom] = useState(null);
  const rate = (count) => (seconds ? formatRate(count / seconds) : formatNumber(count));
  const changeZoom = (factor) => setZoom((old) => Math.max(0.2, Math.min(3, (old ?? 1) * factor)));
  const selected = map.services.find(({ name }) => name === state.service);
  return html`
    <div class="toolbar">
      <div class="buttons" role="group" aria-label="What is shown">
        <button type="button" aria-pressed=${!isTable} onClick=${() => navigate({ as: null })}>Map</button>
        <button type="button" aria-pressed=${isTable} onClick=${() => navigate({ as: "table" })}>Table</button>
      </div>
      ${!isTable && html`
        <div class="buttons" role="group" aria-label="Size">
          <button type="button" aria-label="Smaller" onClick=${() => changeZoom(1 / ZOOM_STEP)}><${Icon} name="minus" /></button>
          <button type="button" onClick=${() => setZoom(null)}>Fit</button>
          <button type="button" aria-label="Larger" onClick=${() => changeZoom(ZOOM_STEP)}><${Icon} name="plus" /></button>
        </div>
        <p class="map-key muted small-text"><i class="ok"></i>fine <i class="warn"></i>${formatPercent(WARN_RATE)} errors or more
          <i class="error"></i>${formatPercent(ERROR_RATE)} or more</p>`}
    </div>
    <div class=${`split ${selected ? "open" : ""}`}>
      ${isTable
        ? html`<div class="map-tables grow"><${MapTables} ...${{ map, rate, state, navigate }} /></div>`
        : html`<${Drawing} ...${{ map, rate, state, navigate, zoom, setZoom }} />
            <div class="hidden"><${MapTables} ...${{ map, rate, state, navigate }} isHidden=${true} /></div>`}
      ${selected && html`<${ServiceDetail} ...${{ map, rate, state, navigate }} service=${selected} />`}
    </div>`;
}

// The drawing.

function Drawing({ map, rate, state, navigate, zoom, setZoom }) {
  const box = useRef(null);
  const [width, setWidth] = useState(1000);
  const edges = useMemo(() => map.edges.filter(({ from, to }) => from !== to), [map]);
  const names = useMemo(
    () => [...new Set([...map.services.map(({ name }) => name), ...edges.flatMap(({ from, to }) => [from, to])])],
    [map],
  );
  const layout = useMemo(() => placeServices(names, edges), [names, edges]);
  useEffect(() => {
    const observer = new ResizeObserver(([{ contentRect }]) => setWidth(contentRect.width));
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const size = { width: layout.width + 2 * MARGIN, height: layout.height + 2 * MARGIN };
  const scale = zoom ?? Math.max(SMALLEST_FIT, Math.min(1, width / size.width));
  const services = new Map(map.services.map((service) => [service.name, service]));
  const near = neighboursOf(edges, state.service);
  const most = edges.reduce((found, { calls }) => Math.max(found, calls), 1);
  const isNear = ({ from, to }) => !state.service || from === state.service || to === state.service;
  const hasLabel = (edge) => (state.service ? isNear(edge) : edges.length <= FEW_EDGES);
  const onWheel = (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    setZoom(Math.max(0.2, Math.min(3, scale * (event.deltaY < 0 ? ZOOM_STEP : 1 / ZOOM_STEP))));
  };
  return html`
    <div class="map-drawing grow" ref=${box} onWheel=${onWheel}
      onClick=${(event) => event.target.closest(".map-service") || navigate({ service: null })}>
      <svg viewBox=${`${-MARGIN} ${-MARGIN} ${size.width} ${size.height}`} width=${size.width * scale} height=${size.height * scale}
        role="group" aria-label="Map of services. The tables say the same.">
        <defs>${["ok", "warn", "error"].map((grade) => html`
          <marker id=${`arrow-${grade}`} viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"
            markerUnits="userSpaceOnUse" orient="auto"><path class=${`map-arrow ${grade}`} d="M0 0 8 4 0 8z" /></marker>`)}</defs>
        ${edges.map((edge) => html`<${Edge} key=${`${edge.from} ${edge.to}`} ...${{ edge, layout, most }}
          isFaint=${!isNear(edge)} />`)}
        ${names.map((name) => html`<${Service} key=${name} ...${{ name, rate }} place=${layout.places.get(name)}
          service=${services.get(name)}
          isSelected=${name === state.service} isFaint=${near !== null && !near.has(name)}
          onChoose=${() => navigate({ service: name === state.service ? null : name })} />`)}
        <${EdgeLabels} edges=${edges.filter(hasLabel)} ...${{ layout, rate }} />
      </svg>
    </div>`;
}

function neighboursOf(edges, service) {
  if (!service) return null;
  const near = edges.filter(({ from, to }) => from === service || to === service);
  return new Set([service, ...near.flatMap(({ from, to }) => [from, to])]);
}

function gradeOf(errors, count) {
  const part = count ? errors / count : 0;
  return part >= ERROR_RATE ? "error" : part >= WARN_RATE ? "warn" : "ok";
}

function pointsOf({ places, paths }, edge) {
  const [start, end] = [places.get(edge.from), places.get(edge.to)];
  const isForward = start.x < end.x;
  const side = { x: start.x + (isForward ? BOX.width : 0), y: start.y + BOX.height / 2 };
  const other = { x: end.x + (isForward ? -2 : BOX.width + 2), y: end.y + BOX.height / 2 };
  return [side, ...(paths.get(edge) ?? []), other];
}

function Edge({ edge, layout, most, isFaint }) {
  const points = pointsOf(layout, edge);
  const grade = gradeOf(edge.errors, edge.calls);
  const width = 1 + 3.5 * (Math.log1p(edge.calls) / Math.log1p(most));
  const text = `${edge.from} calls ${edge.to}: ${formatNumber(edge.calls)} calls, ${formatNumber(edge.errors)} errors, p99 ${formatDuration(edge.p99)}`;
  return html`
    <path class=${`map-edge ${grade} ${isFaint ? "faint" : ""}`} d=${curveThrough(points)} style=${{ strokeWidth: `${width}px` }}
      marker-end=${`url(#arrow-${grade})`}><title>${escapeText(text)}</title></path>`;
}

function curveThrough(points) {
  let path = `M${points[0].x} ${points[0].y}`;
  for (let at = 1; at < points.length; at++) {
    const [from, to] = [points[at - 1], points[at]];
    const bend = (to.x - from.x) / 2;
    path += `C${from.x + bend} ${from.y} ${to.x - bend} ${to.y} ${to.x} ${to.y}`;
  }
  return path;
}

function EdgeLabels({ edges, layout, rate }) {
  const labels = edges.map((edge) => {
    const grade = gradeOf(edge.errors, edge.calls);
    const text = `${rate(edge.calls)}${grade === "ok" ? "" : ` · ${formatPercent(edge.errors / edge.calls)}`}`;
    return { text, grade, points: pointsOf(layout, edge), width: text.length * LABEL_CHARACTER };
  });
  const places = placeLabels(labels, layout.places.values());
  return labels.map(
    ({ text, grade }, index) =>
      places[index] &&
      html`<text class=${`map-label ${grade}`} x=${places[index].x} y=${places[index].y + 4} text-anchor="middle">${text}</text>`,
  );
}

function Service({ name, service, place, rate, isSelected, isFaint, onChoose }) {
  const { requests = 0, errors = 0, p99 = null } = service ?? {};
  const grade = gradeOf(errors, requests);
  const shown = name || "no service name";
  const onKeyDown = (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    onChoose();
  };
  return html`
    <g class=${`map-service ${grade} ${isSelected ? "selected" : ""} ${isFaint ? "faint" : ""}`}
      transform=${`translate(${place.x} ${place.y})`}
      role="button" tabindex="0" aria-pressed=${isSelected} onClick=${onChoose} onKeyDown=${onKeyDown}
      aria-label=${`${shown}: ${rate(requests)}, ${formatPercent(requests ? errors / requests : 0)} errors, p99 ${formatDuration(p99)}`}>
      <title>${escapeText(shown)}</title>
      <rect width=${BOX.width} height=${BOX.height} rx="8" />
      <rect class="colour" width="5" height=${BOX.height - 16} x="8" y="8" rx="2.5" style=${{ fill: serviceColor(name) }} />
      <text class="name" x="20" y="21">${cutToWidth(escapeText(shown), BOX.width - 32)}</text>
      <text class="figures" x="20" y="40">${rate(requests)}${errors > 0 && html`<tspan dx="8" class="errors">${
        formatPercent(errors / requests)}</tspan>`}<tspan dx="8">${formatDuration(p99)}</tspan></text>
    </g>`;
}

let measuring = null;

/** Return the text with its end cut off where it is wider than so many pixels. */
function cutToWidth(text, width) {
  const context = (measuring ??= document.createElement("canvas").getContext("2d"));
  context.font = NAME_FONT;
  if (context.measureText(text).width <= width) return text;
  let kept = Math.min(text.length - 1, width);
  while (kept > 0 && context.measureText(`${text.slice(0, kept)}…`).width > width) kept -= 1;
  return `${text.slice(0, kept)}…`;
}

// The tables, and one service.

function MapTables({ map, rate, state, navigate, isHidden = false }) {
  const nameCell = (name) =>
    isHidden ? escapeText(name || "no service name") : html`<button type="button" class="row-button"
      onClick=${() => navigate({ service: name })}><${ServiceName} name=${name} /></button>`;
  return html`
    <table class="map-table"><caption>Services</caption>
      <thead><tr><th scope="col">Service</th><th scope="col" class="number">Requests</th><th scope="col" class="number">Rate</th>
        <th scope="col" class="number">Errors</th><th scope="col" class="number">p99</th></tr></thead>
      <tbody>${map.services.map(({ name, requests, errors, p99 }) => html`
        <tr class=${name === state.service ? "open" : ""}><th scope="row">${nameCell(name)}</th>
          <td class="number">${formatNumber(requests)}</td>
          <td class="number">${rate(requests)}</td>
            <td class=${`number ${gradeText(errors, requests)}`}>${formatPercent(requests ? errors / requests : 0)}</td>
          <td class="number">${formatDuration(p99)}</td></tr>`)}</tbody></table>
    <table class="map-table"><caption>Calls between services</caption>
      <thead><tr><th scope="col">From</th><th scope="col">To</th><th scope="col" class="number">Calls</th>
        <th scope="col" class="number">Rate</th>
        <th scope="col" class="number">Errors</th><th scope="col" class="number">p50</th>
          <th scope="col" class="number">p99</th></tr></thead>
      <tbody>${map.edges.map(({ from, to, calls, errors, p50, p99 }) => html`
        <tr><td>${isHidden ? escapeText(from) : html`<${ServiceName} name=${from} />`}</td>
          <td>${isHidden ? escapeText(to) : html`<${ServiceName} name=${to} />`}</td>
          <td class="number">${formatNumber(calls)}</td><td class="number">${rate(calls)}</td>
          <td class=${`number ${gradeText(errors, calls)}`}>${formatPercent(calls ? errors / calls : 0)}</td>
          <td class="number">${formatDuration(p50)}</td><td class="number">${formatDuration(p99)}</td></tr>`)}</tbody></table>`;
}

function gradeText(errors, count) {
  return { error: "error-text", warn: "warn-text", ok: "" }[gradeOf(errors, count)];
}

function ServiceDetail({ map, rate, state, navigate, service }) {
  const { name, requests, errors, p99 } = service;
  const incoming = map.edges.filter(({ to, from }) => to === name && from !== name);
  const outgoing = map.edges.filter(({ to, from }) => from === name && to !== name);
  return html`
    <aside class="detail narrow" aria-label="Service">
      <header><h2><${ServiceName} name=${name} /></h2>
        <button type="button" class="bare" aria-label="Close" title="Close (Escape)" onClick=${() => navigate({ service: null })}>
          <${Icon} name="close" /></button></header>
      <div class="detail-body">
        <dl class="figures-list">
          <div><dt>Requests</dt><dd>${formatNumber(requests)}</dd></div><div><dt>Rate</dt><dd>${rate(requests)}</dd></div>
          <div><dt>Errors</dt><dd class=${gradeText(errors, requests)}>${formatPercent(requests ? errors / requests : 0)}</dd></div>
          <div><dt>p99</dt><dd>${formatDuration(p99)}</dd></div>
        </dl>
        <p class="detail-actions">
          <a class="button small" href=${linkTo(state, { view: "traces", service: name })}>Traces</a>
          <a class="button small" href=${linkTo(state, { view: "traces", service: name, status: "error" })}>Failed traces</a>
          <a class="button small" href=${linkTo(state, { view: "logs", service: name })}>Logs</a>
        </p>
        <${Neighbours} title="Called by" edges=${incoming} end="from" ...${{ rate, navigate }} />
        <${Neighbours} title="Calls" edges=${outgoing} end="to" ...${{ rate, navigate }} />
      </div>
    </aside>`;
}

function Neighbours({ title, edges, end, rate, navigate }) {
  if (!edges.length) return null;
  return html`
    <section><h3>${title}</h3><table><tbody>
      ${edges.map((edge) => html`
        <tr><th scope="row"><button type="button" class="row-button" onClick=${() => navigate({ service: edge[end] })}>
          <${ServiceName} name=${edge[end]} /></button></th>
          <td class="number">${rate(edge.calls)}</td>
            <td class=${`number ${gradeText(edge.errors, edge.calls)}`}>${formatPercent(edge.calls ? edge.errors / edge.calls : 0)}</td>
          <td class="number">${formatDuration(edge.p99)}</td></tr>`)}
    </tbody></table></section>`;
}
