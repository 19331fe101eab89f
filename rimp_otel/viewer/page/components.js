/** What the views are made of. */

import { html, useCallback, useEffect, useMemo, useRef, useState } from "./vendor/htm_preact.js";
import { serviceColor } from "./colors.js";
import { escapeText, formatNumber } from "./format.js";

const MOST_OPTIONS = 200;
const MOST_JOINED = 5; // steps of a sparkline

export { html, useCallback, useEffect, useMemo, useRef, useState };

/**
 * Ask a source, again whenever the key changes; the last value stays until the next one is there.
 *
 * @param {function({signal: AbortSignal, onProgress: function}): Promise} ask
 * @param {any[]} key what the question depends on
 * @returns {{value: any, error: Error|null, progress: object|null, isLoading: boolean, retry: function}}
 */
export function useAnswer(ask, key) {
  const [answer, setAnswer] = useState({ value: undefined, error: null, progress: null, isLoading: true });
  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    const abort = new AbortController();
    const change = (changes) => abort.signal.aborted || setAnswer((old) => ({ ...old, ...changes }));
    change({ isLoading: true, progress: null });
    ask({ signal: abort.signal, onProgress: (progress) => change({ progress }) }).then(
      (value) => change({ value, error: null, progress: null, isLoading: false }),
      (error) => change({ error, progress: null, isLoading: false }),
    );
    return () => abort.abort();
  }, [JSON.stringify(key), attempt]);
  return { ...answer, retry: useCallback(() => setAttempt((count) => count + 1), []) };
}

/** An answer's value by its one child, a function; before it, progress; if it failed, why. */
export function Answer({ answer, children }) {
  const { value, error, progress, isLoading } = answer;
  const render = Array.isArray(children) ? children[0] : children;
  return html`
    ${error && html`<${ErrorNotice} error=${error} retry=${answer.retry} />`}
    ${progress && html`<${Progress} progress=${progress} />`}
    ${value !== undefined
      ? html`<div class="answer" aria-busy=${isLoading}>${render(value)}</div>`
      : isLoading && !progress && html`<${Waiting} />`}`;
}

/** A sign of work, that appears only if it takes long enough to be seen. */
export function Waiting() {
  return html`<div class="waiting" role="status"><span class="spinner" aria-hidden="true"></span>Reading…</div>`;
}

/** How far the server is with what it must prepare first. */
export function Progress({ progress: { done = 0, total = 0, what = "Preparing" } }) {
  return html`
    <div class="notice" role="status">
      <label class="progress">Preparing: ${what}
        <progress max=${total || 1} value=${done}></progress>
        <span class="number">${formatNumber(done)} of ${formatNumber(total)}</span>
      </label>
      <p class="muted">This is made once; then each view answers at once.</p>
    </div>`;
}

/** Why a question failed, and a button that asks it again where that may help. */
export function ErrorNotice({ error, retry }) {
  return html`
    <div class="notice error" role="alert">
      <${Icon} name="warning" /><span>${escapeText(error.message)}</span>
      ${retry && error.status !== 400 && html`<button type="button" onClick=${retry}>Try again</button>`}
    </div>`;
}

/** Says that an answer is of a part of the time range: not all could be read in time. */
export function PartlyRead() {
  return html`<p class="partly-read warn-text small-text" role="status">Of the newest part of this time range: there was no time to read all of it. A
    shorter range has it all.</p>`;
}

/** What to say and do where there is nothing to show. */
export function EmptyState({ title, children }) {
  return html`<div class="empty"><h2>${title}</h2>${children}</div>`;
}

const ICONS = {
  warning: "M8 1.8 15 14H1zM8 6v4M8 12v.6",
  close: "M3.5 3.5l9 9M12.5 3.5l-9 9",
  copy: "M5.5 5.5h8v8h-8zM10.5 5.5v-3h-8v8h3",
  check: "M2.5 8.5l4 4 7-9",
  clock: "M8 1.5a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13M8 4.5V8l2.5 2",
  search: "M7 2a5 5 0 1 0 0 10A5 5 0 0 0 7 2M10.7 10.7 14.5 14.5",
  down: "M3.5 6l4.5 4.5L12.5 6",
  right: "M6 3.5 10.5 8 6 12.5",
  left: "M10 3.5 5.5 8l4.5 4.5",
  plus: "M8 3v10M3 8h10",
  minus: "M3 8h10",
  reload: "M13.5 8a5.5 5.5 0 1 1-1.6-3.9M13.5 1.5v3.2h-3.2",
  theme: "M8 1.5v13a6.5 6.5 0 0 0 0-13M8 1.5a6.5 6.5 0 1 0 0 13",
  help: "M5.5 6a2.5 2.5 0 1 1 3.6 2.2c-.8.4-1.1.8-1.1 1.8M8 12.4v.6",
  download: "M8 2v8M4.5 7 8 10.5 11.5 7M2.5 13.5h11",
  compare: "M5.5 2v12M10.5 2v12M2 5h3.5M2 9h3.5M10.5 6H14M10.5 11H14",
  folder: "M1.5 3.5h4.5l1.5 2h7v7.5h-13z",
  link: "M6.5 9.5l3-3M7 4.5l1.6-1.6a2.8 2.8 0 0 1 4 4L11 8.5M9 11.5l-1.6 1.6a2.8 2.8 0 0 1-4-4L5 7.5",
  broken: "M2 8h4M10 8h4M7 4.5 9 11.5",
  zoom: "M7 2a5 5 0 1 0 0 10A5 5 0 0 0 7 2M10.7 10.7 14.5 14.5M5 7h4M7 5v4",
};

/** A small picture; its text for screen readers, if it says more than the text beside it. */
export function Icon({ name, label }) {
  return html`
    <svg class="icon" viewBox="0 0 16 16" width="14" height="14" role=${label ? "img" : null}
      aria-label=${label} aria-hidden=${label ? null : "true"}><path d=${ICONS[name]} /></svg>`;
}

/** A service's name with its colour. */
export function ServiceName({ name }) {
  return html`<span class="service"><i style=${{ background: serviceColor(name) }}></i><span class="cut">${
    name ? escapeText(name) : html`<em>no service name</em>`
  }</span></span>`;
}

/** A filter that is set, with a button that takes it off. */
export function Chip({ label, value, onRemove }) {
  return html`
    <span class="chip"><span class="muted">${label}</span><span class="cut">${value}</span>
      <button type="button" class="bare" aria-label=${`Remove the filter ${label} ${value}`} onClick=${onRemove}>
        <${Icon} name="close" /></button></span>`;
}

/** A button that copies a text, or the text that a function returns. */
export function CopyButton({ text, label, title }) {
  const [isDone, setDone] = useState(false);
  const copy = async () => {
    await copyText(typeof text === "function" ? text() : text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`
    <button type="button" class=${label ? "small" : "bare"} onClick=${copy} title=${title ?? "Copy"}
      aria-label=${label ? null : (title ?? "Copy")}>
      <${Icon} name=${isDone ? "check" : "copy"} />${label}
      <span class="hidden" role="status">${isDone ? "Copied" : ""}</span></button>`;
}

async function copyText(text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  // Pages that are not served from this machine or by HTTPS have no clipboard but this.
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Give a text to the browser as a file to save. */
export function saveFile(name, text, type = "application/json") {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A line without axes; more than a few null values in a row are a gap. */
export function Sparkline({ values, kind = "requests", label, width = 96, height = 22 }) {
  const all = values ?? [];
  const most = all.reduce((found, value) => Math.max(found, value ?? 0), 0);
  const x = (index) => ((index * width) / Math.max(all.length - 1, 1)).toFixed(1);
  const y = (value) => (height - 1.5 - (most ? value / most : 0) * (height - 3)).toFixed(1);
  const pieces = [];
  all.forEach((value, index) => {
    if (value === null) return;
    if (!pieces.length || index - pieces.at(-1).at(-1) > MOST_JOINED) pieces.push([]);
    pieces.at(-1).push(index);
  });
  const lineOf = (piece) => "M" + piece.map((index) => `${x(index)},${y(all[index])}`).join("L") + (piece.length === 1 ? "h1.5" : "");
  const areaOf = (piece) => `${lineOf(piece)}L${x(piece.at(-1))},${height}L${x(piece[0])},${height}Z`;
  return html`
    <svg class=${`sparkline ${most ? kind : "flat"}`} viewBox=${`0 0 ${width} ${height}`} width=${width} height=${height}
      role="img" aria-label=${label} preserveAspectRatio="none">
      ${most > 0 && html`<path class="area" d=${pieces.map(areaOf).join("")} />`}
      <path class="line" d=${pieces.map(lineOf).join("")} />
    </svg>`;
}

/**
 * A button that opens a panel below it; Escape and a click elsewhere close it.
 *
 * @param {object} props
 * @param {any} props.label what stands in the button
 * @param {string} props.title of the panel
 * @param {function(function): any} props.children called with what closes the panel
 */
export function Menu({ label, title, isActive, align = "left", children }) {
  const [isOpen, setOpen] = useState(false);
  const box = useRef(null);
  const render = Array.isArray(children) ? children[0] : children;
  const close = () => {
    setOpen(false);
    box.current?.querySelector("button").focus();
  };
  useEffect(() => {
    if (!isOpen) return undefined;
    box.current.querySelector(".panel")?.querySelector("input, button, [tabindex]")?.focus();
    const onPress = (event) => box.current.contains(event.target) || setOpen(false);
    document.addEventListener("pointerdown", onPress);
    return () => document.removeEventListener("pointerdown", onPress);
  }, [isOpen]);
  const onKeyDown = (event) => {
    if (event.key !== "Escape" || !isOpen) return;
    event.preventDefault();
    event.stopPropagation();
    close();
  };
  const onFocusOut = (event) => {
    if (event.relatedTarget && !box.current.contains(event.relatedTarget)) setOpen(false);
  };
  return html`
    <div class="menu" ref=${box} onKeyDown=${onKeyDown} onFocusOut=${onFocusOut}>
      <button type="button" class=${isActive ? "active" : ""} aria-expanded=${isOpen} aria-haspopup="dialog"
        title=${title} onClick=${() => setOpen(!isOpen)}>${label}</button>
      ${isOpen && html`<div class=${`panel ${align === "right" ? "at-right" : ""}`} role="dialog" aria-label=${title}>${render(close)}</div>`}
    </div>`;
}

/**
 * Options to choose one of, with a field that narrows them.
 *
 * @param {object} props
 * @param {{value: string, text?: string, label?: any, count?: number}[]} props.options
 * @param {boolean} [props.isOpenEnded] whatever is typed can be chosen, too
 * @param {boolean} [props.prefersTyped] what is typed comes first
 * @param {function(string)} [props.onType]
 */
export function OptionList({ options, selected, onChoose, label, isOpenEnded, prefersTyped, onType }) {
  const [typed, setTyped] = useState("");
  const [at, setAt] = useState(0);
  const found = useMemo(() => narrowOptions(options, typed, isOpenEnded, prefersTyped), [options, typed, prefersTyped]);
  const current = Math.min(at, found.length - 1);
  const field = useRef(null);
  const list = useRef(null);
  useEffect(() => field.current.focus(), []);
  useEffect(() => {
    list.current?.children[current]?.scrollIntoView?.({ block: "nearest" });
  }, [current]);
  const onKeyDown = (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 };
    if (event.key in steps) setAt(Math.max(0, Math.min(found.length - 1, current + steps[event.key])));
    else if (event.key === "Enter" && found[current]) onChoose(found[current].value, found[current]);
    else return;
    event.preventDefault();
  };
  return html`
    <div class="options">
      <input ref=${field} type="search" role="combobox" aria-expanded="true" aria-controls="option-list"
        aria-activedescendant=${found.length ? `option-${current}` : null} aria-label=${label}
        placeholder=${label} value=${typed} onKeyDown=${onKeyDown}
        onInput=${(event) => { setTyped(event.target.value); setAt(0); onType?.(event.target.value); }} />
      <ul role="listbox" id="option-list" aria-label=${label} ref=${list}>
        ${found.map((option, index) => html`
          <li key=${option.value} id=${`option-${index}`} role="option" aria-selected=${option.value === selected}
            class=${index === current ? "current" : ""} onClick=${() => onChoose(option.value, option)}>
            <span class="cut">${option.label ?? escapeText(option.text ?? option.value)}</span>
            ${option.count !== undefined && html`<span class="number muted">${formatNumber(option.count)}</span>`}
          </li>`)}
        ${!found.length && html`<li class="muted" aria-disabled="true">Nothing of this name in this time range.</li>`}
      </ul>
    </div>`;
}

function narrowOptions(options, typed, isOpenEnded, prefersTyped) {
  const text = typed.trim();
  const wanted = text.toLowerCase();
  const found = options.filter((option) => (option.text ?? option.value).toLowerCase().includes(wanted)).slice(0, MOST_OPTIONS);
  if (!isOpenEnded || !text || options.some((option) => (option.text ?? option.value) === text)) return found;
  const own = { value: text, text, label: html`${escapeText(text)} <span class="muted">as typed</span>` };
  return prefersTyped ? [own, ...found] : [...found, own];
}
