/** The view SQL. */

import { EmptyState, html } from "../components.js";

export function SqlView() {
  return html`<${EmptyState} title="SQL" />`;
}
