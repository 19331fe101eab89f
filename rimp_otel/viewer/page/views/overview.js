/** The view Overview. */

import { EmptyState, html } from "../components.js";

export function OverviewView() {
  return html`<${EmptyState} title="Overview" />`;
}
