/** The whole trace in little, where a part of its time is chosen. */

import { canvasColor, serviceColor } from "../colors.js";
import { followDrag, useCanvas } from "../canvas.js";
import { html, useState } from "../components.js";
import { formatDuration } from "../format.js";
import { hasFailed } from "./model.js";

/**
 * @param {object} props
 * @param {import("./model.js").Trace} props.trace
 * @param {object[]} props.rows all rows of spans, from top to bottom
 * @param {{from: number, to: number}} props.zoom the part that is shown, in offsets
 * @param {function({from: number, to: number}|null)} props.setZoom null for the whole trace
 */
export function TraceMinimap({ trace, rows, zoom, setZoom }) {
  const [drag, setDrag] = useState(null);
  const canvas = useCanvas((context, width, height) => drawSpans(context, width, height, trace, rows), [trace, rows]);
  const length = trace.duration || 1;
  const isZoomed = zoom.from > 0 || zoom.to < trace.duration;
  const shown = drag ?? { from: zoom.from / length, to: zoom.to / length };
  const start = (event) => {
    const { width } = event.currentTarget.getBoundingClientRect();
    const partOf = (one, other) => ({ from: Math.min(one.x, other.x) / width, to: Math.max(one.x, other.x) / width });
    followDrag(
      event,
      (one, other) => setDrag(partOf(one, other)),
      (one, other) => {
        setDrag(null);
        if (!other) return;
        const part = partOf(one, other);
        setZoom({ from: Math.round(part.from * length), to: Math.round(part.to * length) });
      },
    );
  };
  return html`
    <div class="minimap" onPointerDown=${start} onDblClick=${() => setZoom(null)}
      title="Drag to zoom, double-click for the whole trace">
      <canvas ref=${canvas} role="img" aria-label=${`The whole trace, ${formatDuration(trace.duration)}`}></canvas>
      ${(drag || isZoomed) && html`
        <div class="shade" style=${{ left: 0, width: `${shown.from * 100}%` }}></div>
        <div class="shade" style=${{ left: `${shown.to * 100}%`, right: 0 }}></div>`}
    </div>`;
}

function drawSpans(context, width, height, trace, rows) {
  const length = trace.duration || 1;
  const step = (height - 4) / Math.max(rows.length, 1);
  const thickness = Math.max(1, Math.min(4, step * 0.75));
  const error = canvasColor("var(--error)");
  for (let index = 0; index < rows.length; index++) {
    const { node } = rows[index];
    context.fillStyle = hasFailed(node.span) ? error : canvasColor(serviceColor(node.span.service));
    const x = (node.offset / length) * width;
    context.fillRect(x, 2 + index * step, Math.max(1, (node.duration / length) * width), thickness);
  }
}
