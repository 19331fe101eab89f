/** The text of SQL: its tokens, what can complete it, and where an error is. */

const TOKEN =
  /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|('(?:[^']|'')*(?:'|$))|("(?:[^"]|"")*(?:"|$))|(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|([A-Za-z_][\w$]*)|(\s+|[\s\S])/g;
const TOKEN_KINDS = ["comment", "string", "name", "number", "word", "other"];
const MOST_OPTIONS = 50;

const KEYWORDS = new Set(
  `SELECT FROM WHERE GROUP BY ORDER HAVING LIMIT OFFSET DISTINCT AS AND OR NOT IN IS NULL LIKE ILIKE BETWEEN CASE WHEN THEN ELSE END
  JOIN LEFT RIGHT FULL INNER CROSS ASOF ON USING UNION ALL EXCEPT INTERSECT WITH RECURSIVE ASC DESC NULLS INTERVAL CAST
  TRY_CAST EXISTS OVER PARTITION WINDOW QUALIFY PIVOT UNPIVOT DESCRIBE SUMMARIZE EXPLAIN TRUE FALSE`.split(/\s+/),
);

/** Words that are names as often: they are keywords in capitals. */
const CAPITAL_KEYWORDS = new Set(
  "ROWS RANGE FILTER SAMPLE VALUES SHOW TABLES TIMESTAMP TIMESTAMP_NS DATE HOUR MINUTE SECOND DAY".split(" "),
);

const FUNCTIONS = `abs any_value arg_max arg_min argMax argMin avg avgIf cardinality ceil coalesce concat contains count countIf count_if
  date_diff date_part date_trunc epoch epoch_ms epoch_ns first floor format greatest groupArray groupUniqArray hasToken histogram if
  ifnull JSONExtractString json_extract json_extract_string lag last lead least length list list_contains lower map_contains mapContains
  mapKeys map_keys mapValues map_values match max maxIf median min minIf mode multiIf now nullif quantile quantile_cont rank
  regexp_extract regexp_matches regexp_replace replace round row_number starts_with startsWith strftime strlen strpos string_agg
  string_split substring sum sumIf time_bucket toDate toDateTime toFloat64OrZero toInt64 toStartOfDay toStartOfFiveMinutes
  toStartOfHour toStartOfInterval toStartOfMinute toString toUnixTimestamp trim typeof uniq uniqExact unnest upper`.split(/\s+/);

/**
 * Return the tokens of a text: `{kind, text, start}`; kinds are keyword, function, comment, string, name, number, word and other.
 * @param {string} sql
 */
export function tokenize(sql) {
  const tokens = [];
  for (const found of sql.matchAll(TOKEN)) {
    const group = found.slice(1).findIndex((text) => text !== undefined);
    tokens.push({ kind: TOKEN_KINDS[group], text: found[0], start: found.index });
  }
  tokens.forEach((token, index) => {
    if (token.kind !== "word") return;
    const isKeyword = KEYWORDS.has(token.text.toUpperCase()) || CAPITAL_KEYWORDS.has(token.text);
    if (isKeyword) token.kind = "keyword";
    else if (tokens[index + 1]?.text === "(") token.kind = "function";
  });
  return tokens;
}

/**
 * Return what can stand at a position instead of the word that is begun there.
 *
 * @param {string} sql
 * @param {number} position of the caret
 * @param {{name: string, columns: {name: string, type: string}[]}[]} tables
 * @param {{scope: string, key: string}[]} attributes keys for `SpanAttributes['…']` and its kind
 * @returns {{from: number, options: {text: string, kind: string, note: string}[]}}
 */
export function completionsAt(sql, position, tables, attributes) {
  const before = sql.slice(0, position);
  const token = tokenize(before).at(-1);
  const inKey = /(\w+)\[\s*'([^']*)$/.exec(before);
  if (inKey) return completeKey(inKey[1], inKey[2], position, attributes);
  if (token?.kind === "comment" || token?.kind === "string") return { from: position, options: [] };
  const typed = /[A-Za-z_][\w$]*$/.exec(before)?.[0] ?? "";
  const isAfterSource = /\b(from|join|describe|summarize)\s+[\w$]*$/i.test(before);
  if (!typed && !isAfterSource) return { from: position, options: [] };
  const options = isAfterSource ? tables.map(tableOption) : wordOptions(sql, tables);
  const wanted = typed.toLowerCase();
  const found = options
    .map((option) => ({ ...option, rank: rankOf(option, wanted) }))
    .filter(({ rank }) => rank >= 0)
    .sort((a, b) => a.rank - b.rank || (a.text.toLowerCase() < b.text.toLowerCase() ? -1 : 1));
  // Of a word that is whole, nothing is left to complete.
  const isWhole = found.some(({ text }) => text.toLowerCase() === wanted);
  return { from: position - typed.length, options: isWhole ? [] : found.slice(0, MOST_OPTIONS) };
}

function completeKey(column, typed, position, attributes) {
  const scope = { SpanAttributes: "span", LogAttributes: "log", ResourceAttributes: "resource", Attributes: "metric" }[column];
  const keys = [...new Set(attributes.filter((one) => one.scope === scope).map(({ key }) => key))];
  const options = keys
    .filter((key) => key.toLowerCase().includes(typed.toLowerCase()) && key !== typed)
    .map((key) => ({ text: key.replaceAll("'", "''"), kind: "attribute", note: scope }));
  return { from: position - typed.length, options: options.slice(0, MOST_OPTIONS) };
}

function tableOption({ name, columns }) {
  return { text: name, kind: "table", note: `${columns.length} columns` };
}

function wordOptions(sql, tables) {
  const words = new Set(tokenize(sql).filter(({ kind }) => kind === "word").map(({ text }) => text));
  const named = tables.filter(({ name }) => words.has(name));
  const columns = new Map();
  for (const { name, columns: own } of named.length ? named : tables) {
    for (const column of own) if (!columns.has(column.name)) columns.set(column.name, { ...column, table: name });
  }
  return [
    ...[...columns.values()].map(({ name, type, table }) => ({ text: name, kind: "column", note: `${shortType(type)} · ${table}` })),
    ...tables.map(tableOption),
    ...[...KEYWORDS, ...CAPITAL_KEYWORDS].map((text) => ({ text, kind: "keyword", note: "" })),
    ...FUNCTIONS.map((text) => ({ text: `${text}(`, kind: "function", note: "" })),
  ];
}

function shortType(type) {
  return type.length > 24 ? `${type.slice(0, 23)}…` : type;
}

const KIND_RANK = { column: 0, table: 1, keyword: 2, function: 3 };

function rankOf({ text, kind }, wanted) {
  const at = text.toLowerCase().indexOf(wanted);
  return at < 0 ? -1 : (at > 0 ? 10 : 0) + KIND_RANK[kind];
}

/**
 * Return where an error says that it is: `LINE 2: …` with a caret below, or a name that it quotes.
 *
 * @param {string} message of the database
 * @param {string} sql
 * @returns {{start: number, end: number, line: number, column: number}|null}
 */
export function positionOfError(message, sql) {
  const start = startOfCaret(message, sql) ?? startOfNear(message, sql);
  if (start === null || start < 0 || start > sql.length) return null;
  const token = tokenize(sql).find((one) => start < one.start + one.text.length);
  const end = token ? Math.max(token.start + token.text.length, start + 1) : start + 1;
  const lines = sql.slice(0, start).split("\n");
  return { start, end, line: lines.length, column: lines.at(-1).length + 1 };
}

function startOfCaret(message, sql) {
  const found = /^(LINE (\d+): )(.*)\n( *)\^/m.exec(message);
  if (!found) return null;
  const [, head, number, shown, blanks] = found;
  const lines = sql.split("\n");
  const line = lines[Number(number) - 1];
  if (line === undefined) return null;
  const lineStart = lines.slice(0, Number(number) - 1).join("\n").length + (Number(number) > 1 ? 1 : 0);
  // Of a long line a part is shown, between dots.
  const isCut = shown.startsWith("...");
  const part = shown.slice(isCut ? 3 : 0).replace(/\.\.\.$/, "");
  const partStart = isCut ? line.indexOf(part) : 0;
  if (partStart < 0) return null;
  return lineStart + partStart + blanks.length - head.length - (isCut ? 3 : 0);
}

/** Return where the first name stands that the message quotes. */
function startOfNear(message, sql) {
  const name = /(?:near|column|table|function|named?)\s+"([^"]+)"|\bwith name (\S+)/i.exec(message)?.slice(1).find(Boolean);
  if (!name) return null;
  const token = tokenize(sql).find(({ kind, text }) => kind !== "string" && text.toLowerCase() === name.toLowerCase());
  const start = token ? token.start : sql.indexOf(name);
  return start < 0 ? null : start;
}
