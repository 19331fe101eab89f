/** The view Traces. */

import { EmptyState, html } from "../components.js";

export function TracesView() {
  return html`<${EmptyState} title="Traces" />`;
}
