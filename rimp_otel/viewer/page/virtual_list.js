/** A list of which only the rows in sight are in the document. */

import { html, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm_preact.js";

const SPARE_ROWS = 8;
const MOST_PRINTED = 2000;

/**
 * A list with rows of one height, moved through with arrows, Page Up and Down, Home and End.
 *
 * @param {object} props
 * @param {number} props.count of rows
 * @param {number} props.rowHeight in pixels
 * @param {function(number): any} props.renderRow what stands in a row
 * @param {function(number): object} [props.rowProps] attributes of the row's element
 * @param {string} props.label of the list
 * @param {string} [props.role] "listbox" (rows are options), "grid" or "treegrid"
 * @param {number} [props.selected] index of the selected row, which is kept in sight; -1 for none
 * @param {function(number)} [props.onSelect] called when the selection moves
 * @param {function(number)} [props.onOpen] called by Enter, and by a double click
 * @param {boolean} [props.opensByClick] one click opens a row
 * @param {function(KeyboardEvent, number)} [props.onKey] called first; `preventDefault` keeps a key
 */
export function VirtualList(props) {
  const { count, rowHeight, renderRow, rowProps, label, role = "listbox", selected = -1 } = props;
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const isPrinting = usePrinting();

  useLayoutEffect(() => {
    const element = box.current;
    const measure = () => setView((old) => ({ ...old, height: element.clientHeight || old.height }));
    const observer = new ResizeObserver(measure);
    observer.observe(element);
    return () => observer.disconnect();
  }, []);

  useEffect(() => {
    if (selected >= 0) scrollIntoSight(box.current, selected, rowHeight);
  }, [selected, count]);

  const select = (index) => props.onSelect?.(Math.max(0, Math.min(count - 1, index)));
  const onKeyDown = (event) => {
    props.onKey?.(event, selected);
    if (event.defaultPrevented || event.target !== box.current || !count) return;
    const page = Math.max(1, Math.floor(view.height / rowHeight) - 1);
    const steps = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page };
    if (event.key in steps) select(selected < 0 ? 0 : selected + steps[event.key]);
    else if (event.key === "Home") select(0);
    else if (event.key === "End") select(count - 1);
    else if (event.key === "Enter" && selected >= 0 && props.onOpen) props.onOpen(selected);
    else return;
    event.preventDefault();
  };

  const inSight = Math.floor(view.top / rowHeight);
  const first = isPrinting ? 0 : Math.max(0, inSight - SPARE_ROWS);
  const last = Math.min(count, isPrinting ? MOST_PRINTED : inSight + Math.ceil(view.height / rowHeight) + 1 + SPARE_ROWS);
  const rowRole = role === "listbox" ? "option" : "row";
  const rows = [];
  for (let index = first; index < last; index++) {
    const { class: rowClass = "", ...own } = rowProps?.(index) ?? {};
    rows.push(html`
      <div
        key=${index}
        id=${`${props.id}-${index}`}
        role=${rowRole}
        aria-selected=${index === selected}
        aria-rowindex=${rowRole === "row" ? index + 1 : null}
        aria-posinset=${rowRole === "option" ? index + 1 : null}
        aria-setsize=${rowRole === "option" ? count : null}
        style=${{ position: "absolute", top: `${index * rowHeight}px`, height: `${rowHeight}px` }}
        onClick=${() => (props.opensByClick ? props.onOpen : select)(index)}
        onDblClick=${() => props.opensByClick || props.onOpen?.(index)}
        class=${`row ${rowClass}`}
        ...${own}
      >${renderRow(index)}</div>`);
  }
  return html`
    <div
      ref=${box}
      class="virtual-list"
      role=${role}
      aria-label=${label}
      aria-rowcount=${rowRole === "row" ? count : null}
      aria-activedescendant=${selected >= first && selected < last ? `${props.id}-${selected}` : null}
      tabindex="0"
      onKeyDown=${onKeyDown}
      onScroll=${(event) => setView({ top: event.target.scrollTop, height: event.target.clientHeight })}
    >
      <div class="virtual-rows" role="presentation"
        style=${{ height: `${(isPrinting ? last : count) * rowHeight}px` }}>${rows}</div>
    </div>`;
}

/** Return true while the page is being printed. */
function usePrinting() {
  const [isPrinting, setPrinting] = useState(false);
  useEffect(() => {
    const start = () => setPrinting(true);
    const stop = () => setPrinting(false);
    addEventListener("beforeprint", start);
    addEventListener("afterprint", stop);
    return () => {
      removeEventListener("beforeprint", start);
      removeEventListener("afterprint", stop);
    };
  }, []);
  return isPrinting;
}

function scrollIntoSight(element, index, rowHeight) {
  const top = index * rowHeight;
  if (top < element.scrollTop) element.scrollTop = top;
  else if (top + rowHeight > element.scrollTop + element.clientHeight) {
    element.scrollTop = top + rowHeight - element.clientHeight;
  }
}
