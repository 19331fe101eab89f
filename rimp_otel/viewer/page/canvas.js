/** Canvases that are as sharp as the screen and follow their size. */

import { useEffect, useRef } from "./vendor/htm_preact.js";

/**
 * Return a ref for a canvas that is drawn anew whenever its size, the theme or `key` changes.
 *
 * @param {function(CanvasRenderingContext2D, number, number)} draw with the size in CSS pixels
 * @param {any[]} key
 */
export function useCanvas(draw, key) {
  const ref = useRef(null);
  const latest = useRef(draw);
  latest.current = draw;
  const paint = () => {
    const canvas = ref.current;
    if (!canvas?.clientWidth) return;
    const ratio = devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    latest.current(context, canvas.clientWidth, canvas.clientHeight);
  };
  useEffect(() => {
    const observer = new ResizeObserver(paint);
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, []);
  useEffect(paint, [...key, document.documentElement.dataset.theme, matchMedia("(prefers-color-scheme: dark)").matches]);
  return ref;
}

/**
 * Follow a drag of the pointer over an element.
 *
 * @param {PointerEvent} event that starts it
 * @param {function({x: number, y: number}, {x: number, y: number})} onMove with start and end, in pixels from the
 *   element's corner
 * @param {function({x: number, y: number}, {x: number, y: number}|null)} onEnd with null as the end if it was a click
 */
export function followDrag(event, onMove, onEnd) {
  if (event.button !== 0) return;
  const element = event.currentTarget;
  const box = element.getBoundingClientRect();
  const pointOf = (moved) => ({
    x: Math.max(0, Math.min(box.width, moved.clientX - box.left)),
    y: Math.max(0, Math.min(box.height, moved.clientY - box.top)),
  });
  const start = pointOf(event);
  let end = null;
  element.setPointerCapture(event.pointerId);
  const move = (moved) => {
    const point = pointOf(moved);
    if (end || Math.hypot(point.x - start.x, point.y - start.y) > 4) {
      end = point;
      onMove(start, end);
    }
  };
  const stop = (stopped) => {
    element.removeEventListener("pointermove", move);
    element.removeEventListener("pointerup", stop);
    element.removeEventListener("pointercancel", stop);
    if (stopped.type === "pointerup") onEnd(start, end);
    else onEnd(start, null);
  };
  element.addEventListener("pointermove", move);
  element.addEventListener("pointerup", stop);
  element.addEventListener("pointercancel", stop);
}
