/** The page: its header, its routes, and the state that all views share. */

import { render } from "./vendor/htm_preact.js";
import { forgetCanvasColors, setServices } from "./colors.js";
import { Answer, EmptyState, ErrorNotice, html, Icon, useAnswer, useEffect, useMemo, useRef, useState } from "./components.js";
import { escapeText, formatBytes, setUtc as showUtc } from "./format.js";
import { boundKeys, listenToKeys, useKeys } from "./keys.js";
import { LocalSource } from "./local/source.js";
import { answerOtherTabs, askOtherTabs, RemoteSource, tokenStore } from "./source.js";
import { ALL, firstRange, isRelative, moveRange, resolveRange } from "./time_range.js";
import { TimeRangePicker } from "./time_range_picker.js";
import { changeState, formatState, linkTo, parseState, takeToken } from "./url_state.js";
import { CompareView } from "./views/compare.js";
import { LogsView } from "./views/logs.js";
import { MapView } from "./views/map.js";
import { MetricsView } from "./views/metrics.js";
import { OverviewView } from "./views/overview.js";
import { SqlView } from "./views/sql.js";
import { TraceView } from "./views/trace.js";
import { TracesView } from "./views/traces.js";

const VIEWS = {
  overview: { title: "Overview", component: OverviewView, key: "o" },
  traces: { title: "Traces", component: TracesView, key: "t" },
  trace: { title: "Trace", component: TraceView, tab: "traces", needsNoRange: true },
  compare: { title: "Compare traces", component: CompareView, tab: "traces", needsNoRange: true },
  logs: { title: "Logs", component: LogsView, key: "l" },
  metrics: { title: "Metrics", component: MetricsView, key: "m" },
  map: { title: "Map", component: MapView, key: "p" },
  sql: { title: "SQL", component: SqlView, key: "s", needsSql: true },
};
const LIVE_MILLIS = 1000;
const WAIT_MILLIS = 200;
const INFO_EVERY_MILLIS = 5000;

function App({ firstSource }) {
  const [source, setSource] = useState(firstSource);
  const [fragment, setFragment] = useFragment();
  const [now, setNow] = useState(Date.now());
  const [revision, setRevision] = useState(0);
  const [isPaused, setPaused] = useState(false);
  const [isHelpOpen, setHelpOpen] = useState(false);
  const [isUtc, setUtc] = usePreference("utc", false);
  const [theme, setTheme] = usePreference("theme", "system");
  showUtc(isUtc);
  useTheme(theme);

  const parsed = useMemo(() => parseState(fragment), [fragment]);
  // Seldom once there is something; before that, whenever something comes.
  const hasRecords = useRef(false);
  const due = hasRecords.current ? Math.floor(now / INFO_EVERY_MILLIS) : -revision;
  const info = useAnswer((options) => source.info(options), [sourceNumber(source), due]);
  hasRecords.current = Boolean(info.value?.last);
  const state = useMemo(
    () => ({ ...parsed, range: resolveRange(parsed.rangeText, now), revision }),
    [parsed, revision],
  );
  const refresh = () => {
    setNow(Date.now());
    setRevision((count) => count + 1);
  };
  const navigate = (changes, { replace = false } = {}) => {
    setNow(Date.now());
    // From what the address says now: it may have changed since the last drawing.
    setFragment(formatState(changeState(parseState(location.hash), changes)), replace);
  };
  const openFiles = async (files, onProgress) => {
    const opened = await LocalSource.fromFiles(files, onProgress);
    setSource(opened);
    navigate({ view: "overview", ...ALL });
  };

  const hasRange = Boolean(state.rangeText.from || state.rangeText.to);
  useEffect(() => {
    const { from, to } = parseState(location.hash).rangeText;
    if (info.value && !from && !to) navigate(source.isLocal ? ALL : firstRange(info.value, Date.now()), { replace: true });
  }, [info.value, hasRange]);
  // Before the first view is drawn, so that each service has one colour in all of them.
  useMemo(() => info.value && setServices(info.value.services), [info.value]);
  const isKnown = info.value !== undefined || info.error !== null || info.progress !== null;

  const isLive = !isPaused && !source.isLocal && isRelative(state.rangeText);
  const isConnected = useLive(source, isLive, refresh);
  const view = Object.hasOwn(VIEWS, state.view) ? VIEWS[state.view] : null;
  const recording = info.value?.path?.replace(/\/+$/, "").split("/").at(-1);
  useShellKeys({ state, navigate, refresh, setHelpOpen, setTheme, theme });
  useEffect(() => {
    document.title = [view ? view.title : "Not found", recording, "rimp"].filter(Boolean).join(" · ");
  }, [view, recording]);

  if (info.error?.status === 401) return html`<${TokenPanel} source=${source} retry=${info.retry} />`;
  const isNothingThere = info.value === undefined && (info.error?.status === 0 || info.error?.status === 404);
  return html`
    <a class="skip" href="#main" onClick=${focusMain}>Skip to the content</a>
    <header class="bar">
      <a class="brand" href=${linkTo(state, { view: "overview" })} title=${info.value?.path}>rimp</a>
      ${recording && html`<span class="recording-name cut" title=${info.value.path}>${escapeText(recording)}</span>`}
      <${Tabs} state=${state} info=${info.value} />
      <div class="bar-tools">
        <${TimeRangePicker} ...${{ state, navigate, isUtc, setUtc, info: info.value }} />
        <${LiveButton} ...${{ source, isLive, isConnected, isPaused }} toggle=${() => {
          if (isLive) setPaused(true);
          else {
            setPaused(false);
            if (isRelative(state.rangeText)) refresh();
            else navigate({ from: "now-15m", to: "now" });
          }
        }} />
        <button type="button" class="bare" title="Read again (r)" aria-label="Read again"
          onClick=${refresh}><${Icon} name="reload" /></button>
        <${OpenButton} />
        <button type="button" class="bare" title=${`Theme: ${theme} (d)`} aria-label=${`Theme: ${theme}`}
          onClick=${() => setTheme(nextTheme(theme))}><${Icon} name="theme" /></button>
        <button type="button" class="bare" title="Keys (?)" aria-label="Keys"
          onClick=${() => setHelpOpen(true)}><${Icon} name="help" /></button>
      </div>
    </header>
    <main id="main" tabindex="-1">
      ${isNothingThere
        ? html`<${NoServer} error=${info.error} retry=${info.retry} />`
        : html`
          ${info.error && html`<${ErrorNotice} error=${info.error} retry=${info.retry} />`}
          ${!view && html`<${EmptyState} title="There is no such view"><p><a href="#/overview">To the overview</a></p><//>`}
          ${view && isKnown && (hasRange || view.needsNoRange)
            ? html`<${view.component} key=${`${state.view} ${sourceNumber(source)}`}
                ...${{ source, state, navigate, info: info.value }} />`
            : view && html`<${Answer} answer=${{ ...info, error: null }}>${() => null}<//>`}`}
    </main>
    <${DropTarget} openFiles=${openFiles} />
    ${isHelpOpen && html`<${KeyHelp} close=${() => setHelpOpen(false)} />`}`;
}

function Tabs({ state, info }) {
  const shown = Object.entries(VIEWS).filter(([, view]) => view.key && !(view.needsSql && info && !info.has_sql));
  const current = VIEWS[state.view]?.tab ?? state.view;
  return html`
    <nav class="tabs" aria-label="Views">
      ${shown.map(([name, view]) => html`
        <a href=${linkTo(state, name === state.view ? {} : { view: name })} title=${`${view.title} (g ${view.key})`}
          aria-current=${name === current ? "page" : null}>${view.title}</a>`)}
    </nav>`;
}

function LiveButton({ source, isLive, isConnected, isPaused, toggle }) {
  if (source.isLocal) return null;
  const text = !isLive ? "Live" : isConnected ? "Live" : "Connecting";
  const title = isLive ? "New records appear as they are written; click to hold the view" : "Follow the recording";
  return html`
    <button type="button" class=${`live ${isLive && isConnected ? "on" : ""}`} aria-pressed=${isLive} title=${title}
      onClick=${toggle}><i aria-hidden="true"></i>${isPaused && !isLive ? "Paused" : text}</button>`;
}

/** Call back at most once a second while new records come, and not while answers are awaited. */
function useLive(source, isLive, refresh) {
  const [isConnected, setConnected] = useState(false);
  const latest = useRef(refresh);
  latest.current = refresh;
  useEffect(() => {
    if (!isLive) return undefined;
    let timer = null;
    const fire = () => {
      timer = null;
      if (source.waiting > 0 || document.hidden) schedule(WAIT_MILLIS);
      else latest.current();
    };
    const schedule = (millis) => {
      timer ??= setTimeout(fire, millis);
    };
    let last = 0;
    const stop = source.onChange(() => {
      schedule(Math.max(0, last + LIVE_MILLIS - Date.now()));
      last = Math.max(Date.now(), last);
    }, setConnected);
    return () => {
      stop();
      clearTimeout(timer);
      setConnected(false);
    };
  }, [source, isLive]);
  return isConnected;
}

function useShellKeys({ state, navigate, refresh, setHelpOpen, setTheme, theme }) {
  const move = (parts, scale) => () => {
    const range = moveRange(state.range, parts, scale, Date.now());
    if (range) navigate(range);
  };
  const views = Object.entries(VIEWS).filter(([, view]) => view.key);
  useKeys("Everywhere", {
    "?": ["Show the keys", () => setHelpOpen((isOpen) => !isOpen)],
    ...Object.fromEntries(
      views.map(([name, view]) => ["g " + view.key, [`Go to ${view.title}`, () => navigate({ view: name })]]),
    ),
    "[": ["Earlier", move(-0.5, 1)],
    "]": ["Later", move(0.5, 1)],
    "{": ["A shorter range", move(0, 0.5)],
    "}": ["A longer range", move(0, 2)],
    r: ["Read again", refresh],
    d: ["Next theme: system, light, dark", () => setTheme(nextTheme(theme))],
  });
}

function KeyHelp({ close }) {
  const dialog = useRef(null);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  return html`
    <dialog ref=${dialog} class="key-help" aria-labelledby="key-help-title" onClose=${close}
      onClick=${(event) => event.target === dialog.current && dialog.current.close()}>
      <header><h2 id="key-help-title">Keys</h2>
        <button type="button" class="bare" aria-label="Close"
          onClick=${() => dialog.current.close()}><${Icon} name="close" /></button></header>
      <div class="key-groups">
        ${boundKeys().map(({ title, bindings }) => html`
          <section><h3>${title}</h3><dl>
            ${Object.entries(bindings).map(([key, [text]]) => html`
              <div><dt>${key.split(" ").map((one) => html`<kbd>${one}</kbd>`)}</dt><dd>${text}</dd></div>`)}
          </dl></section>`)}
      </div>
    </dialog>`;
}

function TokenPanel({ source, retry }) {
  const [text, setText] = useState("");
  const [isRefused, setRefused] = useState(Boolean(source.token));
  const use = (token) => {
    source.token = token;
    tokenStore.set(token);
    setRefused(true);
    retry();
  };
  useEffect(() => {
    if (!source.token) askOtherTabs().then((token) => token && use(token));
  }, []);
  const submit = (event) => {
    event.preventDefault();
    use(takeToken(text.slice(Math.max(0, text.indexOf("#")))).token || text.trim());
  };
  return html`
    <main class="center">
      <form class="card" onSubmit=${submit}>
        <h1>${isRefused ? "This token is not accepted" : "This recording asks for a token"}</h1>
        <p>Open the link that <code>rimp ui</code> printed, or paste the link or its token here. Each start of
          <code> rimp ui</code> makes a new one.</p>
        <label>Link or token<input autofocus value=${text} onInput=${(event) => setText(event.target.value)}
          autocomplete="off" spellcheck="false" /></label>
        <button type="submit" class="primary" disabled=${!text.trim()}>Open the recording</button>
      </form>
    </main>`;
}

function NoServer({ error, retry }) {
  return html`
    <${EmptyState} title="No recording is open">
      <p>${error.message}</p>
      <p><button type="button" onClick=${retry}>Try again</button></p>
      <p>Or drop files of a recording here: <code>.jsonl</code> and <code>.jsonl.zst</code>. They are read by this
        page and go nowhere.</p>
    <//>`;
}

function chooseFiles(files) {
  if (files.length) document.dispatchEvent(new CustomEvent("open-files", { detail: files }));
}

function OpenButton() {
  const input = useRef(null);
  return html`
    <button type="button" class="bare" title="Open files of a recording" aria-label="Open files of a recording"
      onClick=${() => input.current.click()}><${Icon} name="folder" /></button>
    <input ref=${input} type="file" multiple hidden accept=".jsonl,.json,.zst,.gz" aria-label="Files of a recording"
      onChange=${(event) => chooseFiles([...event.target.files])} />`;
}

/** Takes files that are dropped anywhere on the page, or chosen, and shows how far their reading is. */
function DropTarget({ openFiles }) {
  const [isOver, setOver] = useState(false);
  const [reading, setReading] = useState(null);
  const [error, setError] = useState(null);
  const latest = useRef(openFiles);
  latest.current = openFiles;
  useEffect(() => {
    const read = async (files) => {
      setError(null);
      setReading({ done: 0, total: 0 });
      try {
        await latest.current(files, setReading);
      } catch (problem) {
        setError(problem);
      }
      setReading(null);
    };
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    const onOver = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(true);
    };
    const onLeave = (event) => event.relatedTarget === null && setOver(false);
    const onDrop = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      setOver(false);
      read([...event.dataTransfer.files]);
    };
    const onChosen = (event) => read(event.detail);
    const listeners = { dragover: onOver, dragleave: onLeave, drop: onDrop, "open-files": onChosen };
    for (const [name, listener] of Object.entries(listeners)) document.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of Object.entries(listeners)) document.removeEventListener(name, listener);
    };
  }, []);
  if (reading) {
    return html`<div class="drop-target" role="status"><p>Reading: ${formatBytes(reading.done)}${
      reading.total ? ` of ${formatBytes(reading.total)}` : ""}</p></div>`;
  }
  if (error) {
    return html`<div class="drop-problem"><${ErrorNotice} error=${error} />
      <button type="button" onClick=${() => setError(null)}>Close</button></div>`;
  }
  return isOver && html`<div class="drop-target"><p>Drop <code>.jsonl</code> or <code>.jsonl.zst</code> files to look into them</p></div>`;
}

function useFragment() {
  const [fragment, setFragment] = useState(location.hash);
  useEffect(() => {
    const onChange = () => setFragment(location.hash);
    addEventListener("hashchange", onChange);
    addEventListener("popstate", onChange);
    return () => {
      removeEventListener("hashchange", onChange);
      removeEventListener("popstate", onChange);
    };
  }, []);
  const change = (next, isReplacing) => {
    if (next === location.hash) return;
    history[isReplacing ? "replaceState" : "pushState"](null, "", next);
    setFragment(next);
  };
  return [fragment, change];
}

function usePreference(name, initial) {
  const key = "rimp-" + name;
  const [value, setValue] = useState(() => {
    try {
      return JSON.parse(localStorage.getItem(key)) ?? initial;
    } catch {
      return initial;
    }
  });
  const change = (next) => {
    setValue(next);
    try {
      localStorage.setItem(key, JSON.stringify(next));
    } catch {
      // it holds as long as the page is open
    }
  };
  return [value, change];
}

function useTheme(theme) {
  const [, setSystem] = useState(0);
  if (document.documentElement.dataset.theme !== theme) {
    document.documentElement.dataset.theme = theme;
    forgetCanvasColors();
  }
  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const onChange = () => {
      forgetCanvasColors();
      setSystem((count) => count + 1);
    };
    query.addEventListener("change", onChange);
    return () => query.removeEventListener("change", onChange);
  }, []);
}

function nextTheme(theme) {
  const themes = ["system", "light", "dark"];
  return themes[(themes.indexOf(theme) + 1) % themes.length];
}

const numbers = new WeakMap();
let sources = 0;

/** Return a number for the source, so that keys can tell one from another. */
function sourceNumber(source) {
  if (!numbers.has(source)) numbers.set(source, ++sources);
  return numbers.get(source);
}

function focusMain(event) {
  event.preventDefault();
  document.getElementById("main").focus();
}

async function openSource() {
  const recording = document.getElementById("recording");
  if (recording) {
    if (!location.hash && recording.dataset.view) history.replaceState(null, "", recording.dataset.view);
    return LocalSource.fromElement(recording);
  }
  const { token, fragment } = takeToken(location.hash);
  if (fragment !== location.hash) {
    tokenStore.set(token);
    history.replaceState(null, "", location.pathname + location.search + fragment);
  }
  answerOtherTabs();
  return new RemoteSource();
}

listenToKeys();
openSource().then((firstSource) =>
  render(html`<${App} firstSource=${firstSource} />`, document.getElementById("app")),
);
