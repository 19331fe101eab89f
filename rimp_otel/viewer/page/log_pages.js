/** Log records as a view pages through them: the newest first, older ones and new ones as they are asked for. */

import { useCallback, useEffect, useRef, useState } from "./components.js";
import { readLogs } from "./otlp.js";

const PAGE = 500;
const MOST_RECORDS = 50_000;
const EMPTY = { records: [], older: null, newer: null, added: 0, isComplete: true };

/**
 * Ask for log records, newest first.
 *
 * @param {object} source
 * @param {object} filter parameters of `source.logs`
 * @param {any[]} key what the filter is, besides a time range that moves with the clock
 * @param {number} revision grows when there may be new records
 * @returns {{records: import("./otlp.js").LogRecord[], added: number, isLoading: boolean, error: Error|null,
 *   progress: object|null, hasOlder: boolean, isComplete: boolean, loadOlder: function, retry: function}}
 *   `added`: how many records the last answer put before the others; `isComplete`: it could search as far as it had to
 */
export function useLogPages(source, filter, key, revision) {
  const [pages, setPages] = useState(EMPTY);
  const [work, setWork] = useState({ isLoading: true, error: null, progress: null });
  const [attempt, setAttempt] = useState(0);
  const shown = useRef({ key: null, abort: new AbortController() });
  const text = JSON.stringify([key, attempt]);

  const ask = async (parameters, join) => {
    const { signal } = shown.current.abort;
    setWork({ isLoading: true, error: null, progress: null });
    try {
      const options = { signal, onProgress: (progress) => signal.aborted || setWork((old) => ({ ...old, progress })) };
      const answer = await source.logs({ ...filter, ...parameters, limit: PAGE }, options);
      if (signal.aborted) return;
      const records = readLogs(answer.logs).sort(byTime).reverse();
      setPages((old) => join(old, records, answer));
      setWork({ isLoading: false, error: null, progress: null });
    } catch (error) {
      if (!signal.aborted) setWork({ isLoading: false, error, progress: null });
    }
  };

  useEffect(() => {
    const isSame = shown.current.key === text;
    if (isSame && pages.newer) {
      if (!work.isLoading) ask({ after: pages.newer }, addNewer);
      return;
    }
    shown.current.abort.abort();
    shown.current = { key: text, abort: new AbortController() };
    ask({}, replaceAll);
  }, [text, revision]);
  useEffect(() => () => shown.current.abort.abort(), []);

  const loadOlder = () => {
    if (pages.older && !work.isLoading) ask({ before: pages.older }, addOlder);
  };
  const retry = useCallback(() => setAttempt((count) => count + 1), []);
  return { ...pages, ...work, hasOlder: pages.older !== null, loadOlder, retry };
}

function byTime(a, b) {
  return a.time < b.time ? -1 : Number(a.time > b.time);
}

function replaceAll(_old, records, { older, newer, is_complete: isComplete }) {
  return { records, older, newer, added: 0, isComplete };
}

function addOlder(old, records, { older, is_complete: isComplete }) {
  return { ...old, records: [...old.records, ...records], older, added: 0, isComplete };
}

function addNewer(old, records, { newer }) {
  // What has been read of the far end can be read again.
  const kept = old.records.slice(0, MOST_RECORDS);
  return { ...old, records: [...records, ...kept], newer: newer ?? old.newer, added: records.length };
}
