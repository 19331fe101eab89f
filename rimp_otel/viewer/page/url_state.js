/** The state of the page in its URL's fragment: `#/traces?from=now-1h&to=now&service=shop`. */

/** Parameters that may be repeated: arrays in the state. */
const REPEATED = ["attr", "by"];

/** The view that is shown where the URL names none. */
export const FIRST_VIEW = "overview";

/**
 * Return the state that a fragment says.
 *
 * @param {string} fragment such as `#/traces?service=shop`
 * @returns {{view: string, rangeText: {from: string, to: string}}} with a property for each parameter
 */
export function parseState(fragment) {
  const [path, query = ""] = splitOnce(fragment.replace(/^#?\/?/, ""), "?");
  const state = { view: path || FIRST_VIEW, rangeText: { from: "", to: "" }, attr: [], by: [] };
  for (const [name, value] of new URLSearchParams(query)) {
    if (name === "from" || name === "to") state.rangeText[name] = value;
    else if (REPEATED.includes(name)) state[name].push(value);
    else if (!(name in Object.prototype) && !RESERVED.has(name)) state[name] = value;
  }
  return state;
}

/** Return the fragment that `parseState` reads as this state. */
export function formatState(state) {
  const query = new URLSearchParams();
  for (const name of ["from", "to"]) {
    if (state.rangeText[name]) query.append(name, state.rangeText[name]);
  }
  for (const [name, value] of Object.entries(state)) {
    if (RESERVED.has(name)) continue;
    for (const one of Array.isArray(value) ? value : [value]) {
      if (!isAbsent(one)) query.append(name, String(one));
    }
  }
  const text = query.toString();
  return `#/${state.view}${text ? "?" + text : ""}`;
}

/**
 * Return the state with changes: null, undefined and "" remove a parameter; another view keeps
 * the range alone.
 */
export function changeState(state, changes) {
  const isOtherView = changes.view !== undefined && changes.view !== state.view;
  const base = isOtherView
    ? { view: changes.view, rangeText: state.rangeText, attr: [], by: [] }
    : { ...state };
  const { from, to, view: _view, ...parameters } = changes;
  if (from !== undefined || to !== undefined) {
    base.rangeText = { from: String(from ?? ""), to: String(to ?? "") };
  }
  for (const [name, value] of Object.entries(parameters)) {
    if (REPEATED.includes(name)) base[name] = value ?? [];
    else if (isAbsent(value)) delete base[name];
    else base[name] = String(value);
  }
  return base;
}

/** Return the href of a link that makes these changes. */
export function linkTo(state, changes) {
  return formatState(changeState(state, changes));
}

/**
 * Take the token out of a fragment such as `#token=abc` or `#token=abc&/traces`.
 *
 * @returns {{token: string, fragment: string}} the token (empty for none), and what is left
 */
export function takeToken(fragment) {
  const found = /^#token=([^&]*)&?(.*)$/.exec(fragment);
  return found
    ? { token: decodeURIComponent(found[1]), fragment: found[2] ? "#" + found[2] : "" }
    : { token: "", fragment };
}

const RESERVED = new Set(["view", "range", "rangeText", "revision"]);

function isAbsent(value) {
  return value === null || value === undefined || value === "";
}

function splitOnce(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}
