/** All durations over time as cells: what lies behind the traces that were read. */

import { canvasColor } from "../colors.js";

const LEAST_RED = 1.5; // pixels

/**
 * @typedef {object} Cell
 * @property {bigint} from nanoseconds since the epoch
 * @property {bigint} to
 * @property {number} low duration in nanoseconds
 * @property {number} high
 * @property {number} count of spans
 * @property {number} errors how many of them failed
 */

/**
 * Return the cells that are not empty.
 *
 * @param {{from: string, step: number, bounds: number[], counts: number[][], errors: number[][]}} durations of the API
 * @param {{least: number, most: number}} limits of durations
 * @returns {Cell[]}
 */
export function readCells({ from, step, bounds, counts, errors }, { least, most }) {
  const start = BigInt(from);
  return counts.flatMap((row, at) => {
    const begin = start + BigInt(at) * BigInt(step);
    return row.flatMap((count, bound) => {
      const [low, high] = [bounds[bound], bounds[bound + 1]];
      if (!count || high <= least || low > most) return [];
      return [{ from: begin, to: begin + BigInt(step), low, high, count, errors: errors[at][bound] }];
    });
  });
}

/** Draw the cells: the more spans the darker, and red from below as far as they failed. */
export function drawCells(context, cells, rectangleOf) {
  const most = cells.reduce((found, cell) => Math.max(found, cell.count), 1);
  const accent = canvasColor("var(--accent)");
  const error = canvasColor("var(--error)");
  for (const cell of cells) {
    const { left, top, width, height } = rectangleOf(cell);
    const red = cell.errors ? Math.max(LEAST_RED, (height * cell.errors) / cell.count) : 0;
    context.globalAlpha = 0.12 + 0.58 * (Math.log1p(cell.count) / Math.log1p(most));
    context.fillStyle = accent;
    context.fillRect(left, top, width, height - red);
    context.fillStyle = error;
    context.fillRect(left, top + height - red, width, red);
  }
  context.globalAlpha = 1;
}
