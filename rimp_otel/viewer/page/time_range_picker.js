/** The control that chooses the range of time for all views. */

import { html, Icon, Menu, useState } from "./components.js";
import { formatTime } from "./format.js";
import { ALL, describeRange, moveRange, PRESETS, readTime } from "./time_range.js";

/**
 * @param {object} props
 * @param {object} props.state
 * @param {function} props.navigate
 * @param {boolean} props.isUtc
 * @param {object|undefined} props.info of the recording, for its first and last record
 */
export function TimeRangePicker({ state, navigate, isUtc, setUtc, info }) {
  const move = (parts, scale) => {
    const range = moveRange(state.range, parts, scale, Date.now());
    if (range) navigate(range);
  };
  const isBounded = state.range.from !== null;
  return html`
    <div class="time-range" role="group" aria-label="Time range">
      <button type="button" class="step" title="Earlier ( [ )" aria-label="Earlier" disabled=${!isBounded}
        onClick=${() => move(-0.5, 1)}><${Icon} name="left" /></button>
      <${Menu} title="Time range" align="right"
        label=${html`<${Icon} name="clock" /><span class="cut">${describeRange(state.rangeText)}</span><${Icon} name="down" />`}>
        ${(close) => html`<${RangePanel} ...${{ state, isUtc, setUtc, info }}
          choose=${(range) => { navigate(range); close(); }} />`}
      <//>
      <button type="button" class="step" title="Later ( ] )" aria-label="Later" disabled=${!isBounded}
        onClick=${() => move(0.5, 1)}><${Icon} name="right" /></button>
    </div>`;
}

function RangePanel({ state, isUtc, setUtc, info, choose }) {
  const { range, rangeText } = state;
  const [from, setFrom] = useState(writeTime(rangeText.from));
  const [to, setTo] = useState(writeTime(rangeText.to) || "now");
  const [problem, setProblem] = useState("");
  const submit = (event) => {
    event.preventDefault();
    const found = { from: readTime(from, isUtc), to: readTime(to, isUtc) };
    if (!found.from || !found.to) {
      const wrong = found.from ? to : from;
      setProblem(`“${wrong}” is no time. Write 2026-11-29 14:05, or now-2h.`);
    } else choose(found);
  };
  const isChosen = (preset) => preset.from === rangeText.from && (preset.to || "") === rangeText.to;
  return html`
    <div class="range-panel">
      <ul class="presets">
        ${[...PRESETS, ALL].map((preset) => html`
          <li><button type="button" class=${isChosen(preset) ? "active" : ""} aria-pressed=${isChosen(preset)}
            onClick=${() => choose(preset)}>${describeRange(preset)}</button></li>`)}
        ${info?.first && html`
          <li><button type="button" onClick=${() => choose(lastHourOf(info))}>Last hour recorded</button></li>`}
      </ul>
      <form onSubmit=${submit}>
        <label>From<input value=${from} onInput=${(event) => setFrom(event.target.value)} spellcheck="false" /></label>
        <label>To<input value=${to} onInput=${(event) => setTo(event.target.value)} spellcheck="false" /></label>
        ${problem && html`<p class="problem" role="alert">${problem}</p>`}
        <button type="submit" class="primary">Show this range</button>
        <label class="check"><input type="checkbox" checked=${isUtc}
          onChange=${(event) => setUtc(event.target.checked)} />
          Times in UTC</label>
        ${info?.first && html`
          <p class="muted small-text">Recorded from<br />${formatTime(info.first, 0)}<br />to ${formatTime(info.last, 0)}</p>`}
      </form>
    </div>`;

  function writeTime(text) {
    if (/^\d+$/.test(text)) return formatTime(text, 3).replace(/\.000$/, "");
    return text === "all" && range.from === null ? "" : text;
  }
}

function lastHourOf(info) {
  const second = 1_000_000_000n;
  const to = (BigInt(info.last) / second + 1n) * second;
  return { from: (to - 3600n * second).toString(), to: to.toString() };
}
