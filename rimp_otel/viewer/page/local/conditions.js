/**
 * Conditions on records in memory: `scope.key OP value`, as the page's filters have them.
 * @module
 */
import { parseDuration } from "../format.js";
import { plainAttribute, plainText, plainValue } from "./records.js";

const CONDITION = /^\s*(.+?)\s*(=~|!~|!=|>=|<=|=|>|<|\sexists\b)\s*(.*)$/s;
const SCOPES = ["resource", "span", "event", "link", "instrumentation", "log", "metric", "intrinsic"];

/**
 * Return a function that tells whether a record fulfils all conditions.
 * @param {string[]} texts such as `span.http.route = "/x"`; a key without a scope is looked for everywhere
 * @returns {function(object): boolean}
 * @throws {Error} one that cannot be understood
 */
export function makeMatcher(texts) {
  const conditions = texts.map(parseCondition);
  return (record) => conditions.every((condition) => isFulfilled(condition, record));
}

/** Return the parts of a condition: scope (empty for any), key, operator and value. */
function parseCondition(text) {
  const parts = CONDITION.exec(text);
  if (!parts) throw new Error(`"${text}" is no condition: write scope.key OP value, such as span.http.route = "/x"`);
  const [, path, operator, value] = parts;
  const name = path.startsWith(".") ? path.slice(1) : path;
  const scope = SCOPES.find((known) => name.startsWith(`${known}.`));
  return {
    scope: scope ?? "",
    key: scope ? name.slice(scope.length + 1) : name,
    operator: operator.trim(),
    value: parseValue(value),
  };
}

function parseValue(text) {
  try {
    const value = JSON.parse(text);
    return typeof value === "object" ? text : value;
  } catch {
    return text;
  }
}

function isFulfilled({ scope, key, operator, value }, record) {
  const found = [...valuesOf(record, scope, key)].filter((one) => one !== undefined);
  if (operator === "exists") return found.length > 0;
  return found.some((one) => compare(one, operator, value));
}

function* valuesOf(record, scope, key) {
  const { raw } = record;
  if (scope === "intrinsic" || scope === "") yield intrinsicOf(record, key);
  if (["span", "log", "metric", ""].includes(scope)) yield plainAttribute(raw.attributes, key);
  if (scope === "resource" || scope === "") yield plainAttribute(record.resource.attributes, key);
  if (scope === "instrumentation") {
    yield record.scope?.scope?.[key] ?? plainAttribute(record.scope?.scope?.attributes, key);
  }
  if (scope === "event") for (const event of raw.events ?? []) yield plainAttribute(event.attributes, key);
  if (scope === "link") for (const link of raw.links ?? []) yield plainAttribute(link.attributes, key);
}

function intrinsicOf({ raw, name, kind, status, duration, severity }, key) {
  const values = { name, kind, status, duration, statusMessage: raw.status?.message, severity };
  if (key === "body") return plainText(plainValue(raw.body));
  return Object.hasOwn(values, key) ? values[key] : undefined;
}

function compare(found, operator, wanted) {
  if (operator === "=~") return new RegExp(`^(?:${wanted})$`, "su").test(plainText(found));
  if (operator === "!~") return !compare(found, "=~", wanted);
  if (typeof found === "number" && typeof wanted === "string") wanted = parseDuration(wanted) ?? wanted;
  // Types are strict: the text "500" is not the number 500.
  if (typeof found !== typeof wanted) return false;
  switch (operator) {
    case "=":
      return found === wanted;
    case "!=":
      return found !== wanted;
    case ">":
      return found > wanted;
    case ">=":
      return found >= wanted;
    case "<":
      return found < wanted;
    default:
      return found <= wanted;
  }
}
