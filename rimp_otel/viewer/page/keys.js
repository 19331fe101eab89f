/** Keys: what a view binds, and the one listener that calls it. */

import { useLayoutEffect } from "./vendor/htm_preact.js";

/**
 * @typedef {Record<string, [string, function]>} Bindings
 *   from a key ("j", "Escape", "g t" for two keys in a row) to what it does in words, and its action
 */

/** Groups of bindings, the newest last: `{title, bindings}`. */
const groups = [];
const SEQUENCE_MILLIS = 1000;
let pending = { prefix: "", at: 0 };

/** Bind keys while the component is shown; `?` lists them under the title. */
export function useKeys(title, bindings) {
  const group = { title, bindings };
  // Before the picture is drawn: a key that comes sooner would find what was bound to the state before.
  useLayoutEffect(() => {
    groups.push(group);
    return () => groups.splice(groups.indexOf(group), 1);
  });
}

/** Return the groups that are bound now, joined by their titles. */
export function boundKeys() {
  const found = new Map();
  for (const { title, bindings } of groups) {
    found.set(title, { ...found.get(title), ...bindings });
  }
  return [...found].map(([title, bindings]) => ({ title, bindings }));
}

/** Call what is bound to the keys that are pressed outside of fields. */
export function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (isField(event.target) && event.key !== "Escape") return;
    // A focused button has Enter for itself, an open dialog has all keys.
    if (event.key === "Enter" && event.target.matches?.("button, a, summary")) return;
    if (document.querySelector("dialog[open]")) return;
    const isSequence = pending.prefix && event.timeStamp - pending.at < SEQUENCE_MILLIS;
    const key = isSequence ? `${pending.prefix} ${event.key}` : event.key;
    pending = { prefix: "", at: 0 };
    const action = findAction(key);
    if (action) {
      event.preventDefault();
      action(event);
    } else if (groups.some((group) => Object.keys(group.bindings).some((one) => one.startsWith(key + " ")))) {
      pending = { prefix: key, at: event.timeStamp };
    }
  });
}

function findAction(key) {
  for (let index = groups.length - 1; index >= 0; index--) {
    const bound = groups[index].bindings[key];
    if (bound) return bound[1];
  }
  return null;
}

function isField(element) {
  return element.matches?.("input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]");
}
