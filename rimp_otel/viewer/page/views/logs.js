/** The view Logs. */

import { EmptyState, html } from "../components.js";

export function LogsView() {
  return html`<${EmptyState} title="Logs" />`;
}
