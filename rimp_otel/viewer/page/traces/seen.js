/** What the list of traces showed last, so that the way back from a trace leads there. */

export const tracesSeen = {
  /** The fragment of the list, with its filters; empty if it was not open yet. */
  fragment: "",
  /** The id of the trace that was opened from it. */
  opened: "",
};

/** Remember the fragment of the list that is shown. */
export function rememberTraces(fragment) {
  tracesSeen.fragment = fragment;
}
