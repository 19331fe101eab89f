/** Filters that several views have. */

import { Answer, html, Icon, Menu, OptionList, useAnswer, useState } from "./components.js";
import { escapeText } from "./format.js";

const OPERATORS = {
  string: ["=", "!=", "=~", "!~", "exists"],
  int: ["=", "!=", ">", ">=", "<", "<=", "exists"],
  double: ["=", "!=", ">", ">=", "<", "<=", "exists"],
  bool: ["=", "!=", "exists"],
};

/** Return what stands in the button of a menu. */
export function buttonLabel(text) {
  return html`${text}<${Icon} name="down" />`;
}

/**
 * A menu that chooses a condition on an attribute: its key from those that there are, an operator, and a value from those
 * that there are.
 *
 * @param {object} props
 * @param {object} props.source
 * @param {"traces"|"logs"|"metrics"} props.signal
 * @param {{from: string|null, to: string|null}} props.range
 * @param {function(string)} props.onAdd called with `scope.key OP value`
 */
export function AttributeMenu({ source, signal, range, onAdd }) {
  return html`
    <${Menu} title="Attribute" label=${buttonLabel("Attribute")}>
      ${(close) => html`<${KeyPanel} ...${{ source, signal, range }}
        onChoose=${(comparison) => { onAdd(comparison); close(); }} />`}
    <//>`;
}

function KeyPanel({ source, signal, range, onChoose }) {
  const [attribute, setAttribute] = useState(null);
  const answer = useAnswer((options) => source.attributes({ signal, ...range }, options), [signal]);
  if (attribute) return html`<${ValuePanel} ...${{ source, signal, range, attribute, onChoose }}
    back=${() => setAttribute(null)} />`;
  return html`<${Answer} answer=${answer}>${({ keys }) => html`
    <${OptionList} label="Keys of attributes" options=${keys.map((key) => ({
      value: JSON.stringify([key.scope, key.key, key.type]), text: `${key.scope}.${key.key}`, count: key.count, attribute: key,
      label: html`<span class="muted">${key.scope}.</span>${escapeText(key.key)} <span class="type muted">${key.type}</span>`,
    }))} onChoose=${(_, option) => setAttribute(option.attribute)} />`}<//>`;
}

function ValuePanel({ source, signal, range, attribute, onChoose, back }) {
  const { scope, key, type } = attribute;
  const operators = OPERATORS[type] ?? ["exists"];
  const [operator, setOperator] = useState("=");
  const [prefix, setPrefix] = useState("");
  const answer = useAnswer(
    (options) => source.attributeValues({ signal, scope, key, prefix, limit: 100, ...range }, options),
    [scope, key, prefix],
  );
  const options = (answer.value?.values ?? []).map((value) => ({
    value: writeValue(value.type, value.value), text: String(value.value), count: value.count,
  }));
  const choose = (value, { text }) => {
    const written = options.some((option) => option.value === value) ? value : writeValue(type, text);
    onChoose(`${scope}.${key} ${operator} ${written}`);
  };
  return html`
    <div class="panel-head">
      <button type="button" class="bare" aria-label="Another attribute" onClick=${back}><${Icon} name="left" /></button>
      <strong class="cut">${escapeText(key)}</strong>
      <span class="buttons" role="group" aria-label="Operator">${operators.map((one) => html`
        <button type="button" class="small" aria-pressed=${one === operator}
          onClick=${() => (one === "exists" ? onChoose(`${scope}.${key} exists`) : setOperator(one))}>${one}</button>`)}</span>
    </div>
    ${answer.error && html`<p class="panel-body error-text">${answer.error.message}</p>`}
    <${OptionList} label=${operator.includes("~") ? "Regular expression" : "Values"} options=${options} isOpenEnded
      prefersTyped=${operator.includes("~")} onType=${setPrefix} onChoose=${choose} />`;
}

/** Return a value as the API's conditions have it: strings as JSON. */
export function writeValue(type, value) {
  return type === "string" ? JSON.stringify(String(value)) : String(value);
}
