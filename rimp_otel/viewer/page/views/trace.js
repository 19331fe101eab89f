/** The view Trace. */

import { EmptyState, html } from "../components.js";

export function TraceView() {
  return html`<${EmptyState} title="Trace" />`;
}
