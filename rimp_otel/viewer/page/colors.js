/** Colours of services, and colours of the theme for canvases. */

const COUNT = 12;
const indexes = new Map();
const resolved = new Map();

/** Give each service its colour, by its place in the sorted list; others follow as they are met. */
export function setServices(names) {
  for (const name of [...names].sort()) serviceIndex(name);
}

function serviceIndex(name) {
  if (!indexes.has(name)) indexes.set(name, indexes.size % COUNT);
  return indexes.get(name);
}

/** Return the service's colour for a style. */
export function serviceColor(name) {
  return `var(--service-${serviceIndex(name)})`;
}

/** Return a colour of the theme, such as `var(--error)`, as a canvas takes it. */
export function canvasColor(color) {
  if (!resolved.has(color)) {
    const probe = document.createElement("i");
    probe.style.color = color;
    document.body.append(probe);
    resolved.set(color, getComputedStyle(probe).color);
    probe.remove();
  }
  return resolved.get(color);
}

/** Forget the canvases' colours: the theme has changed. */
export function forgetCanvasColors() {
  resolved.clear();
}
