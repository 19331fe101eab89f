/** The view Compare. */

import { EmptyState, html } from "../components.js";

export function CompareView() {
  return html`<${EmptyState} title="Compare" />`;
}
