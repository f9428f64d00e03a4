// What is said instead of content: faults, things that are not there, waiting.
import { html } from '../html.js';

// Fault shows a problem document: what happened and what can be done.
export function Fault({ problem, retry, compact = false }) {
  if (!problem) return null;
  return html`<div class=${compact ? 'fault compact' : 'fault'} role="alert">
    <p class="fault-detail">${problem.detail || problem.title || problem.message}
      ${problem.path ? html` <code>${problem.path}</code>` : ''}</p>
    ${problem.hint && html`<p class="fault-hint">${problem.hint}</p>`}
    ${(problem.code || problem.status > 0) && html`<p class="fault-code mono">${[problem.status || '', problem.code].filter(Boolean).join(' ')}</p>`}
    ${retry && html`<button type="button" class="button" onClick=${retry}>Try again</button>`}
  </div>`;
}

// Absent says that this hub does not offer a page, which is no fault of the operator's.
export function Absent({ what }) {
  return html`<div class="absent"><p>This hub does not offer ${what}.</p>
    <p class="quiet">It may be an older version, or that part may be switched off in its configuration.</p></div>`;
}

export function Waiting({ what }) {
  return html`<p class="waiting" role="status">Loading ${what}…</p>`;
}

// Fetched draws what a useFetched has: its content, its fault, its absence, or that it is on its way.
export function Fetched({ fetched, what, children }) {
  const { answer, problem, again } = fetched;
  if (problem?.missing) return html`<${Absent} what=${what} />`;
  return html`${problem && html`<${Fault} problem=${problem} retry=${again} />`}
    ${answer ? children(answer) : !problem && html`<${Waiting} what=${what} />`}`;
}
