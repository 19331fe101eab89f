/** The view Map. */

import { EmptyState, html } from "../components.js";

export function MapView() {
  return html`<${EmptyState} title="Map" />`;
}
