/** The view Metrics. */

import { EmptyState, html } from "../components.js";

export function MetricsView() {
  return html`<${EmptyState} title="Metrics" />`;
}
