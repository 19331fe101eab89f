/** Rows that a query returned: as a grid, as a chart, and as text to take away. */

import { Legend, TimeChart } from "./charts.js";
import { CopyButton, html, Icon, useMemo, useRef, useState } from "./components.js";
import { escapeLines, escapeText, formatNumber, formatShort } from "./format.js";
import { useKeys } from "./keys.js";
import { linkTo } from "./url_state.js";
import { VirtualList } from "./virtual_list.js";

const ROW_HEIGHT = 26;
const CHARACTER = 7.4;
const WIDTHS = { least: 64, most: 460, padding: 24 };
const MOST_TEXT = 500;
const MOST_MEASURED = 200;
const MOST_BARS = 40;
const MOST_LINES = 24;
const NESTED_TYPE = /^(STRUCT|MAP|UNION|JSON)|\[\d*\]$/;
const NUMBER_TYPE = /^(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DOUBLE|FLOAT|DECIMAL.*)$/;

/** Return a value of a row as text; empty for NULL. */
function textOfCell(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/** Return the rows as CSV, as RFC 4180 has it. A spreadsheet runs no text of it as a formula. */
export function toCsv({ columns, rows }) {
  const write = (value) => {
    const text = textOfCell(value);
    const safe = typeof value === "string" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
    return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  return [columns.map(({ name }) => name), ...rows].map((row) => row.map(write).join(",")).join("\r\n") + "\r\n";
}

/** Return the rows as a list of objects in JSON. */
export function toJson({ columns, rows }) {
  const objects = rows.map((row) => Object.fromEntries(columns.map(({ name }, index) => [name, row[index]])));
  return JSON.stringify(objects, null, 2);
}

/**
 * The rows as a grid: a click on a column sorts by it, the arrow keys move through the rows, and the selected one is shown
 * in full.
 *
 * @param {object} props
 * @param {{columns: {name: string, type: string}[], rows: any[][]}} props.result
 * @param {object} props.state for links to traces
 */
export function ResultGrid({ result, state }) {
  const { columns, rows } = result;
  const [order, setOrder] = useState(null);
  const [selected, setSelected] = useState(-1);
  const head = useRef(null);
  const widths = useMemo(() => columns.map((column, index) => widthOf(column, index, rows)), [result]);
  const sorted = useMemo(() => (order ? sortRows(rows, order, columns) : rows), [result, order]);
  const total = widths.reduce((sum, width) => sum + width, 0);
  const template = widths.map((width) => `${width}px`).join(" ");
  const toggle = (index) => setOrder(order?.index === index ? (order.isDown ? null : { index, isDown: true }) : { index, isDown: false });
  const cell = (value, index) => html`
    <span role="gridcell" class=${`cut ${isNumber(columns[index]) ? "right number" : ""} ${value === null ? "muted" : ""}`}
      title=${textOfCell(value).slice(0, 2000)}>${
      value === null ? "NULL" : shortText(value)}</span>`;
  const shown = sorted[selected];
  return html`<div class=${`split ${shown ? "open" : ""}`}>
    <div class="grid" onScrollCapture=${(event) => (head.current.scrollLeft = event.target.scrollLeft)}>
      <div class="grid-head" ref=${head} role="presentation">
        <div role="row" class="grid-row" style=${{ gridTemplateColumns: template, width: `${total}px` }}>
          ${columns.map(({ name, type }, index) => html`
            <button type="button" class=${`bare ${isNumber(columns[index]) ? "right" : ""}`} onClick=${() => toggle(index)}
              title=${`${name} ${type}: sort`}
              aria-label=${`Sort by ${name}${order?.index === index ? (order.isDown ? ", now descending" : ", now ascending") : ""}`}>
              <span class="cut">${escapeText(name)}</span>${order?.index === index ? (order.isDown ? " ↓" : " ↑") : ""}</button>`)}
        </div></div>
      <${VirtualList} id="sql-rows" role="grid"
        label=${`Result: ${rows.length} rows of ${columns.map(({ name }) => name).join(", ")}`}
        count=${sorted.length} rowHeight=${ROW_HEIGHT} selected=${selected} onSelect=${setSelected}
        rowProps=${(index) => ({ class: "sql-row", onClick: () => setSelected(index) })}
        renderRow=${(index) => html`<div class="grid-row" role="presentation"
          style=${{ gridTemplateColumns: template, width: `${total}px` }}>${sorted[index].map(cell)}</div>`} />
    </div>
    ${shown && html`<${RowDetail} ...${{ columns, state }} row=${shown} close=${() => setSelected(-1)} />`}</div>`;
}

function RowDetail({ columns, row, state, close }) {
  useKeys("SQL", { Escape: ["Close the row", close] });
  return html`
    <aside class="detail" aria-label="Row">
      <header><h2>Row</h2>
        <button type="button" class="bare" aria-label="Close" title="Close (Escape)" onClick=${close}><${Icon}
          name="close" /></button></header>
      <div class="detail-body"><table class="log-attributes"><tbody>
        ${columns.map(({ name, type }, index) => html`
          <tr><th scope="row"><span class="cut" title=${type}>${escapeText(name)}</span></th>
            <td><${FullValue} ...${{ name, type, state }} value=${row[index]} /></td>
            <td class="row-tools"><${CopyButton} text=${textOfCell(row[index])} title=${`Copy ${name}`} /></td></tr>`)}
      </tbody></table></div>
    </aside>`;
}

function FullValue({ name, type, value, state }) {
  if (value === null) return html`<em>NULL</em>`;
  if (/trace_?id/i.test(name) && /^[0-9a-f]{32}$/.test(value)) {
    return html`<a class="value" href=${linkTo(state, { view: "trace", id: value })}>${value}</a>`;
  }
  return html`<span class="value">${escapeLines(NESTED_TYPE.test(type) ? indent(value) : textOfCell(value))}</span>`;
}

function indent(value) {
  try {
    return JSON.stringify(typeof value === "string" ? JSON.parse(value) : value, null, 2);
  } catch {
    return textOfCell(value);
  }
}

function shortText(value) {
  const isFraction = typeof value === "number" && !Number.isInteger(value);
  return isFraction ? formatNumber(value) : escapeText(textOfCell(value).slice(0, MOST_TEXT));
}

function isNumber({ type }) {
  return NUMBER_TYPE.test(type);
}

function widthOf({ name }, index, rows) {
  const longest = rows.slice(0, MOST_MEASURED).reduce((most, row) => Math.max(most, row[index] === null ? 4 : shortText(row[index]).length), name.length + 2);
  return Math.round(Math.max(WIDTHS.least, Math.min(WIDTHS.most, longest * CHARACTER + WIDTHS.padding)));
}

function sortRows(rows, { index, isDown }, columns) {
  const isByNumber = isNumber(columns[index]);
  const keyOf = (row) => (row[index] === null ? null : isByNumber ? Number(row[index]) : textOfCell(row[index]));
  const keyed = rows.map((row) => ({ row, key: keyOf(row) }));
  keyed.sort((a, b) => {
    if (a.key === null || b.key === null) return Number(a.key === null) - Number(b.key === null);
    return (a.key < b.key ? -1 : Number(a.key > b.key)) * (isDown ? -1 : 1);
  });
  return keyed.map(({ row }) => row);
}

/**
 * Return what a chart of the rows can show: times with numbers, or names with a number; null for neither.
 * @param {{columns: {name: string, type: string}[], rows: any[][]}} result
 */
export function chartOf({ columns, rows }) {
  const indexes = [...columns.keys()];
  const numbers = indexes.filter((index) => isNumber(columns[index]));
  const time = indexes.find((index) => /^(TIMESTAMP|DATE)/.test(columns[index].type));
  const names = indexes.filter((index) => /^(VARCHAR|ENUM|BOOLEAN)/.test(columns[index].type));
  if (!numbers.length || !rows.length) return null;
  if (time !== undefined) return { kind: "lines", time, name: names[0], numbers };
  return names.length ? { kind: "bars", name: names[0], numbers } : null;
}

/** The rows as lines over time, or as bars. */
export function ResultChart({ result, chart }) {
  return chart.kind === "lines" ? html`<${Lines} ...${{ result, chart }} />` : html`<${Bars} ...${{ result, chart }} />`;
}

function Lines({ result, chart }) {
  const [hidden, setHidden] = useState([]);
  const { times, series } = useMemo(() => linesOf(result, chart), [result]);
  const shown = series.map((one) => ({ ...one, isHidden: hidden.includes(one.label) }));
  return html`
    <div class="charts"><${TimeChart} label="Chart of the result" times=${times} series=${shown} height=${300}
      format=${formatNumber} />
      <${Legend} series=${shown} format=${formatShort} onHide=${setHidden} /></div>`;
}

function linesOf({ columns, rows }, { time, name, numbers }) {
  const millis = rows.map((row) => parseTime(row[time]));
  const times = [...new Set(millis.filter((one) => !Number.isNaN(one)))].sort((a, b) => a - b);
  const places = new Map(times.map((one, index) => [one, index]));
  const lines = new Map();
  rows.forEach((row, index) => {
    for (const number of numbers) {
      const group = name === undefined ? "" : textOfCell(row[name]) || "NULL";
      const label = numbers.length > 1 || !group ? [group, columns[number].name].filter(Boolean).join(" · ") : group;
      if (!lines.has(label)) lines.set(label, new Array(times.length).fill(null));
      if (places.has(millis[index])) lines.get(label)[places.get(millis[index])] = row[number] === null ? null : Number(row[number]);
    }
  });
  const series = [...lines].slice(0, MOST_LINES).map(([label, values], index) => ({ label, values, color: `var(--service-${index % 12})` }));
  return { times: times.map((one) => one / 1000), series };
}

function parseTime(text) {
  // The database's times are in UTC, and say so nowhere.
  const iso = String(text ?? "").trim().replace(" ", "T");
  return Date.parse(/(Z|[+-]\d\d(:?\d\d)?)$/.test(iso) || !iso.includes("T") ? iso : `${iso}Z`);
}

function Bars({ result, chart }) {
  const { columns, rows } = result;
  const number = chart.numbers[0];
  const bars = rows.slice(0, MOST_BARS).map((row) => ({ name: textOfCell(row[chart.name]) || "NULL", value: Number(row[number] ?? 0) }));
  const most = bars.reduce((found, { value }) => Math.max(found, Math.abs(value)), 0) || 1;
  return html`
    <div class="charts"><table class="bars"><caption
      class="muted">${escapeText(columns[number].name)} by ${escapeText(columns[chart.name].name)}</caption><tbody>
      ${bars.map(({ name, value }) => html`
        <tr><th scope="row"><span class="cut">${escapeText(name)}</span></th>
          <td><i style=${{ width: `${(Math.abs(value) / most) * 100}%` }}></i></td>
            <td class="number">${formatNumber(value)}</td></tr>`)}
    </tbody></table>
    ${rows.length > MOST_BARS && html`<p class="muted">The first ${MOST_BARS} of ${rows.length} rows.</p>`}</div>`;
}
