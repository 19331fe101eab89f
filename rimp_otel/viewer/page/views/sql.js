/** The view SQL: an editor with completion, and the rows of a query as a grid or a chart. */

import { CopyButton, EmptyState, ErrorNotice, html, Icon, Menu, Progress, saveFile, useAnswer, useEffect, useMemo, useRef,
  useState, Waiting } from "../components.js";
import { buttonLabel } from "../filters.js";
import { escapeLines, formatCount, formatDuration } from "../format.js";
import { useKeys } from "../keys.js";
import { chartOf, ResultChart, ResultGrid, toCsv, toJson } from "../sql_result.js";
import { completionsAt, positionOfError, tokenize } from "../sql_text.js";

const HISTORY_KEY = "rimp-sql-history";
const MOST_HISTORY = 50;
const ROW_LIMIT = 10_000;
/** Kinds that are offered before anything of them is typed: after FROM, and in the brackets of a map. */
const AT_ONCE = ["table", "attribute"];

/** The view. */
export function SqlView({ source, state, navigate, info }) {
  if (source.isLocal || (info && !info.has_sql)) {
    return html`
      <${EmptyState} title="SQL is not available here">
        ${source.isLocal
          ? html`<p>Files that are open in the page have no database. <code>rimp import</code> makes a recording of them; <code>rimp ui</code> shows it.</p>`
          : html`<p>It needs DuckDB: <code>pip install 'rimp-otel[sql]'</code>, then start the server again.</p>`}
      <//>`;
  }
  return html`<${Sql} ...${{ source, state, navigate }} />`;
}

function Sql({ source, state, navigate }) {
  const [text, setText] = useState(state.q ?? examplesFor(state.range)[0].sql);
  const [outcome, setOutcome] = useState({ isRunning: false });
  const [history, remember] = useHistory();
  const abort = useRef(null);
  const editor = useRef(null);
  const run = async (sql) => {
    const query = sql.trim().replace(/;\s*$/, "");
    if (!query) return;
    abort.current?.abort();
    const { signal } = (abort.current = new AbortController());
    navigate({ q: sql });
    setOutcome((old) => ({ result: old.result, isRunning: true }));
    const change = (next) => signal.aborted || setOutcome(next);
    const onProgress = (progress) => change((old) => ({ ...old, progress }));
    try {
      change({ result: await source.sql({ sql: query, limit: ROW_LIMIT }, { signal, onProgress }), isRunning: false });
      remember(sql);
    } catch (error) {
      change({ error, place: positionOfError(error.message, sql), isRunning: false });
    }
  };
  const stop = () => {
    abort.current?.abort();
    setOutcome(({ result }) => ({ result, isRunning: false }));
  };
  useEffect(() => {
    // What another page made a link of is run by a press only.
    if (state.q && history.includes(state.q)) run(state.q);
    return () => abort.current?.abort();
  }, []);
  useEffect(() => {
    if (state.q !== undefined && state.q !== text) setText(state.q);
  }, [state.q]);
  const show = (sql) => {
    setText(sql);
    editor.current?.querySelector("textarea").focus();
  };
  useKeys("SQL", { "/": ["To the editor", () => editor.current?.querySelector("textarea").focus()] });
  return html`
    <div class="sql">
      <div class="sql-editor" ref=${editor}>
        <${Editor} ...${{ source, state, text, setText }} place=${outcome.place} onRun=${() => run(text)} />
        <div class="toolbar">
          ${outcome.isRunning
            ? html`<button type="button" onClick=${stop}><${Icon} name="close" />Stop</button>`
            : html`<button type="button" class="primary" onClick=${() => run(text)}
              title="Run (Ctrl+Enter)">Run <kbd>Ctrl Enter</kbd></button>`}
          <${QueryMenu} label="Examples" queries=${examplesFor(state.range)} onChoose=${show} />
          <${QueryMenu} label="History" queries=${history.map((sql) => ({ title: sql.replace(/\s+/g, " ").slice(0, 90), sql }))}
            onChoose=${show} />
        </div>
      </div>
      <${Outcome} ...${outcome} ...${{ state, navigate }} />
    </div>`;
}

function Outcome({ result, error, place, progress, isRunning, state, navigate }) {
  const chart = useMemo(() => (result ? chartOf(result) : null), [result]);
  if (error) {
    return html`<${ErrorNotice} error=${{ message: place ? `Line ${place.line}, column ${place.column}` : "The query failed" }} />
      <pre class="sql-error" role="alert">${escapeLines(error.message)}</pre>`;
  }
  if (progress && isRunning) return html`<${Progress} progress=${progress} />`;
  if (!result) return isRunning ? html`<${Waiting} />` : html`<p class="muted pad">Nothing has been run yet.</p>`;
  const isChart = state.as === "chart" && chart !== null;
  const seen = `${formatCount(result.rows.length, "row")}${result.is_truncated ? ", cut off there" : ""} in ${formatDuration(result.millis * 1e6)}`;
  return html`
    <div class="toolbar">
      <div class="buttons" role="group" aria-label="What is shown">
        <button type="button" aria-pressed=${!isChart} onClick=${() => navigate({ as: null })}>Rows</button>
        <button type="button" aria-pressed=${isChart} disabled=${!chart}
          title=${chart ? "" : "A chart needs a time or a name, and a number"}
          onClick=${() => navigate({ as: "chart" })}>Chart</button>
      </div>
      <span class="muted number" role="status">${isRunning ? "Running…" : seen}</span>
      <span class="grow"></span>
      <${CopyButton} text=${() => toCsv(result)} label="CSV" title="Copy as CSV" />
      <${CopyButton} text=${() => toJson(result)} label="JSON" title="Copy as JSON" />
      <button type="button" class="small" onClick=${() => saveFile("result.csv", toCsv(result), "text/csv")}><${Icon}
        name="download" />Save</button>
    </div>
    ${isChart
      ? html`<${ResultChart} ...${{ result, chart }} />`
      : result.rows.length
        ? html`<${ResultGrid} key=${result.columns.map(({ name }) => name).join()} ...${{ result, state }} />`
        : html`<${EmptyState} title="No rows" />`}`;
}

function QueryMenu({ label, queries, onChoose }) {
  return html`
    <${Menu} title=${label} label=${buttonLabel(label)}>
      ${(close) => html`
        <ul class="queries">
          ${queries.map(({ title, sql }) => html`
            <li><button type="button" class="bare" title=${sql} onClick=${() => { close(); onChoose(sql); }}><span
              class="cut">${title}</span></button></li>`)}
          ${!queries.length && html`<li class="muted pad">Nothing yet.</li>`}
        </ul>`}
    <//>`;
}

// The editor.

function Editor({ source, state, text, setText, place, onRun }) {
  const area = useRef(null);
  const colours = useRef(null);
  const [completion, setCompletion] = useState(null);
  const schema = useAnswer((options) => source.sqlSchema({}, options), []);
  const attributes = useAttributeKeys(source, state.range);
  const tables = schema.value?.tables ?? [];

  useEffect(() => {
    if (!place) return;
    area.current.focus();
    area.current.setSelectionRange(place.start, place.end);
  }, [place]);

  const suggest = (value, position, isAsked) => {
    const found = completionsAt(value, position, tables, attributes);
    const isWanted = isAsked || position > found.from || found.options.every(({ kind }) => AT_ONCE.includes(kind));
    setCompletion(found.options.length && isWanted ? { ...found, at: 0 } : null);
  };
  const accept = ({ text: option }) => {
    const { selectionStart } = area.current;
    // By the browser's own editing, so that undo takes it back.
    area.current.setSelectionRange(completion.from, selectionStart);
    document.execCommand("insertText", false, option);
    setCompletion(null);
    area.current.focus();
  };
  const onKeyDown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      setCompletion(null);
      onRun();
    } else if (event.key === " " && event.ctrlKey) suggest(text, area.current.selectionStart, true);
    else if (completion && onCompletionKey(event.key, completion, setCompletion, accept)) {
      event.stopPropagation();
    } else return;
    event.preventDefault();
  };
  return html`
    <div class="editor">
      <pre class="colours" aria-hidden="true" ref=${colours}>${colourTokens(text, place)}${"\n"}</pre>
      <textarea ref=${area} value=${text} rows=${Math.min(Math.max(text.split("\n").length, 5), 16)} spellcheck="false"
        autocomplete="off"
        autocapitalize="off" aria-label="SQL" role="combobox" aria-expanded=${Boolean(completion)} aria-autocomplete="list"
        aria-controls="sql-completions" aria-activedescendant=${completion ? `sql-completion-${completion.at}` : null}
        onKeyDown=${onKeyDown} onBlur=${() => setCompletion(null)}
        onScroll=${(event) => { colours.current.scrollTop = event.target.scrollTop; colours.current.scrollLeft = event.target.scrollLeft; }}
        onInput=${(event) => { setText(event.target.value); suggest(event.target.value, event.target.selectionStart, false); }}></textarea>
      ${completion && html`<${Completions} ...${{ completion, accept }} ...${placeOfCaret(text, completion.from)} />`}
    </div>
    <p class="muted small-text editor-help">
      <kbd>Ctrl Space</kbd> completes tables, columns, attributes and functions; <kbd>Tab</kbd> takes one.</p>`;
}

function onCompletionKey(key, completion, setCompletion, accept) {
  const { options, at } = completion;
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8 };
  if (key in steps) setCompletion({ ...completion, at: Math.max(0, Math.min(options.length - 1, at + steps[key])) });
  else if (key === "Tab" || key === "Enter") accept(options[at]);
  else if (key === "Escape") setCompletion(null);
  else return false;
  return true;
}

function Completions({ completion: { options, at }, accept, line, column }) {
  const list = useRef(null);
  useEffect(() => list.current.children[at]?.scrollIntoView({ block: "nearest" }), [at]);
  return html`
    <ul class="completions" role="listbox" id="sql-completions" aria-label="Completions" ref=${list}
      style=${{ top: `calc(${line + 1} * var(--editor-line) + 10px)`, left: `min(calc(${column}ch + 10px), calc(100% - 330px))` }}>
      ${options.map((option, index) => html`
        <li key=${option.text} id=${`sql-completion-${index}`} role="option" aria-selected=${index === at}
          onMouseDown=${(event) => { event.preventDefault(); accept(option); }}>
          <span class="cut">${option.text}</span><span class="cut muted">${option.note || option.kind}</span></li>`)}
    </ul>`;
}

function placeOfCaret(text, position) {
  const lines = text.slice(0, position).split("\n");
  return { line: lines.length - 1, column: lines.at(-1).length };
}

function colourTokens(text, place) {
  return tokenize(text).map(({ kind, text: part, start }) => {
    const isWrong = place && start >= place.start && start < place.end;
    return kind === "other" && !isWrong ? part : html`<span class=${`${kind} ${isWrong ? "wrong" : ""}`}>${part}</span>`;
  });
}

/** Return the keys of attributes that are known by now, for completion. */
function useAttributeKeys(source, range) {
  const useKeysOf = (signal) => useAnswer((options) => source.attributes({ ...range, signal }, options), []).value?.keys ?? [];
  return [...useKeysOf("traces"), ...useKeysOf("logs"), ...useKeysOf("metrics")];
}

// Queries.

function useHistory() {
  const [history, setHistory] = useState(readHistory);
  const remember = (sql) => {
    const next = [sql, ...readHistory().filter((one) => one !== sql)].slice(0, MOST_HISTORY);
    setHistory(next);
    try {
      localStorage.setItem(HISTORY_KEY, JSON.stringify(next));
    } catch {
      // The browser keeps nothing for this page: the history ends with it.
    }
  };
  return [history, remember];
}

function readHistory() {
  try {
    const kept = JSON.parse(localStorage.getItem(HISTORY_KEY));
    return Array.isArray(kept) ? kept.filter((one) => typeof one === "string") : [];
  } catch {
    return [];
  }
}

/** Return example queries over the time range of the page. */
function examplesFor({ from, to }) {
  const within = (column) => {
    const edges = [from && `${column} >= ${timestamp(from)}`, to && `${column} < ${timestamp(to)}`].filter(Boolean);
    return edges.length ? `WHERE ${edges.join("\n  AND ")}` : "";
  };
  const write = (title, ...lines) => ({ title, sql: lines.filter(Boolean).join("\n") });
  return [
    write("Slowest operations", "SELECT ServiceName, SpanName, count() AS spans,", "  quantile(0.99)(Duration) / 1e6 AS p99_ms,",
      "  countIf(StatusCode = 'Error') AS errors", "FROM otel_traces", within("Timestamp"), "GROUP BY ALL ORDER BY p99_ms DESC LIMIT 50"),
    write("Requests each minute, by service", "SELECT toStartOfMinute(Timestamp) AS minute, ServiceName, count() AS requests", "FROM otel_traces",
      `${within("Timestamp") || "WHERE true"} AND SpanKind = 'Server'`, "GROUP BY ALL ORDER BY minute"),
    write("Errors by status message", "SELECT StatusMessage, count() AS spans, max(Timestamp) AS last", "FROM otel_traces",
      `${within("Timestamp") || "WHERE true"} AND StatusCode = 'Error'`, "GROUP BY ALL ORDER BY spans DESC LIMIT 100"),
    write("Newest warnings and errors", "SELECT Timestamp, ServiceName, SeverityText, Body, LogAttributes", "FROM otel_logs",
      `${within("Timestamp") || "WHERE true"} AND SeverityNumber >= 13`, "ORDER BY Timestamp DESC LIMIT 200"),
    write("Log records each minute, by level", "SELECT toStartOfMinute(Timestamp) AS minute, SeverityText, count() AS records", "FROM otel_logs",
      within("Timestamp"), "GROUP BY ALL ORDER BY minute"),
    write("Largest traces", "SELECT TraceId, count() AS spans, min(Timestamp) AS start, max(Duration) / 1e6 AS longest_ms", "FROM otel_traces",
      within("Timestamp"), "GROUP BY ALL ORDER BY spans DESC LIMIT 50"),
    write("Metrics and their points", "SELECT MetricName, ServiceName, count() AS points, max(Value) AS greatest", "FROM otel_metrics_sum",
      within("TimeUnix"), "GROUP BY ALL ORDER BY points DESC"),
  ];
}

function timestamp(nanos) {
  const millis = Number(BigInt(nanos) / 1_000_000n);
  return `TIMESTAMP '${new Date(millis).toISOString().replace("T", " ").replace("Z", "")}'`;
}
