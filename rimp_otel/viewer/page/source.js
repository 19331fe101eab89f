/** Where the views' data come from: a server's `/api/`, by `fetch`. */

/** An error with a reason to show, and the status of the answer (0: there was none). */
export class SourceError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const TOKEN_KEY = "rimp-token";
const ASK_AGAIN_MILLIS = 500;
const RECONNECT_MILLIS = [500, 1000, 2000, 5000];

/** The token of this tab's session. */
export const tokenStore = {
  get: () => withStorage((storage) => storage.getItem(TOKEN_KEY)) ?? "",
  set: (token) => withStorage((storage) => storage.setItem(TOKEN_KEY, token)),
};

function withStorage(use) {
  try {
    return use(sessionStorage);
  } catch {
    return null; // the browser keeps nothing for this page
  }
}

/**
 * A recording behind a server.
 *
 * Each question takes its parameters (null, undefined and "" are left out; arrays are repeated) and
 * options: `signal` to abort, `onProgress({done, total, what})` while the server prepares a copy.
 * It returns a promise of the answer's JSON, and fails with a SourceError.
 */
export class RemoteSource {
  /** What this source cannot do is hidden; a server can do everything. */
  isLocal = false;

  /** How many answers are awaited. */
  waiting = 0;

  /** @param {string} base of the API, with its slash */
  constructor(base = "api/", token = tokenStore.get()) {
    this.base = base;
    this.token = token;
  }

  info = (options) => this.#get("info", {}, options);
  overview = (parameters, options) => this.#get("overview", parameters, options);
  operations = (parameters, options) => this.#get("operations", parameters, options);
  findTraces = (parameters, options) => this.#get("traces", parameters, options);
  traceDurations = (parameters, options) => this.#get("traces/durations", parameters, options);
  attributes = (parameters, options) => this.#get("attributes", parameters, options);
  attributeValues = (parameters, options) => this.#get("attributes/values", parameters, options);
  logs = (parameters, options) => this.#get("logs", parameters, options);
  logHistogram = (parameters, options) => this.#get("logs/histogram", parameters, options);
  errors = (parameters, options) => this.#get("errors", parameters, options);
  metrics = (parameters, options) => this.#get("metrics", parameters, options);
  metricSeries = (parameters, options) => this.#get("metrics/series", parameters, options);
  map = (parameters, options) => this.#get("map", parameters, options);
  sqlSchema = (parameters, options) => this.#get("sql/schema", parameters, options);

  /** Return the trace: `{traces: TracesData, logs: LogsData}` in OTLP JSON. */
  trace(traceId, options) {
    return this.#get("traces/" + encodeURIComponent(traceId), {}, options);
  }

  /** Run a query; `{sql, limit}`. */
  sql(parameters, options = {}) {
    return this.#ask("sql", options, { method: "POST", body: JSON.stringify(parameters) });
  }

  /**
   * Call back with the numbers of new records as they come, until the returned function is called.
   *
   * @param {function({traces: number, logs: number, metrics: number})} onChange
   * @param {function(boolean)} onConnection told true when connected, false when that is lost
   */
  onChange(onChange, onConnection = () => {}) {
    const abort = new AbortController();
    this.#follow(onChange, onConnection, abort.signal);
    return () => abort.abort();
  }

  async #follow(onChange, onConnection, signal) {
    for (let failures = 0; !signal.aborted; failures++) {
      try {
        const response = await this.#fetch("live", { signal, headers: { Accept: "text/event-stream" } });
        if (!response.ok) throw await errorOf(response);
        failures = 0;
        onConnection(true);
        await readEvents(response.body, onChange);
      } catch (error) {
        if (signal.aborted || error.status === 401 || error.status === 403) return;
      }
      onConnection(false);
      const pause = RECONNECT_MILLIS[Math.min(failures, RECONNECT_MILLIS.length - 1)];
      await sleep(pause, signal).catch(() => {}); // aborted: the loop ends
    }
  }

  #get(path, parameters, options = {}) {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(parameters ?? {})) {
      for (const one of Array.isArray(value) ? value : [value]) {
        if (one !== null && one !== undefined && one !== "") query.append(name, String(one));
      }
    }
    const text = query.toString();
    return this.#ask(text ? `${path}?${text}` : path, options, {});
  }

  async #ask(path, { signal, onProgress }, init) {
    this.waiting += 1;
    try {
      for (;;) {
        const response = await this.#fetch(path, { ...init, signal });
        if (!response.ok) throw await errorOf(response);
        const answer = await response.json();
        if (response.status !== 202) return answer;
        onProgress?.(answer.preparing ?? {});
        await sleep(ASK_AGAIN_MILLIS, signal);
      }
    } finally {
      this.waiting -= 1;
    }
  }

  async #fetch(path, init) {
    const headers = { Accept: "application/json", ...init.headers };
    if (init.body) headers["Content-Type"] = "application/json";
    if (this.token) headers.Authorization = "Bearer " + this.token;
    try {
      return await fetch(this.base + path, { cache: "no-store", credentials: "omit", ...init, headers });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new SourceError("The server does not answer. Is `rimp ui` or `rimp serve` still running?", 0);
    }
  }
}

async function errorOf(response) {
  let text = "";
  try {
    text = (await response.json()).error;
  } catch {
    // no JSON: the status says it
  }
  return new SourceError(text || `The server answered ${response.status} ${response.statusText}.`, response.status);
}

/** Read server-sent events to the end of the body, and report those named `change`. */
async function readEvents(body, onChange) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/);
      if (!lines.includes("event: change")) continue;
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      onChange(JSON.parse(data.join("\n")));
    }
  }
}

function sleep(millis, signal) {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(new DOMException("The question was withdrawn.", "AbortError"));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, millis);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Share tokens between the tabs of one server: a tab that was opened by a link without a token asks
 * the others for theirs. The channel belongs to this origin alone.
 *
 * @returns {Promise<string>} of another tab's token; empty if none answers
 */
export function askOtherTabs(millis = 300) {
  const channel = new BroadcastChannel(TOKEN_KEY);
  return new Promise((resolve) => {
    const finish = (token) => {
      channel.close();
      resolve(token);
    };
    setTimeout(() => finish(""), millis);
    channel.onmessage = ({ data }) => data.token && finish(data.token);
    channel.postMessage({ isQuestion: true });
  });
}

/** Answer the tabs that ask for the token. */
export function answerOtherTabs() {
  const channel = new BroadcastChannel(TOKEN_KEY);
  channel.onmessage = ({ data }) => {
    const token = tokenStore.get();
    if (data.isQuestion && token) channel.postMessage({ token });
  };
}
