// The last frames of a device and what became of each, fetched when asked for.
import { html, useState } from '../html.js';
import { get, query } from '../api.js';
import { timeExact } from '../format.js';
import { Absent, Fault } from './notice.js';

const shown = 50;

export function Trace({ id }) {
  const [state, setState] = useState({ frames: null, problem: null });
  const fetchFrames = async () => {
    try {
      const answer = await get(`/devices/${encodeURIComponent(id)}/trace${query({ limit: shown })}`);
      setState({ frames: answer.frames ?? [], problem: null });
    } catch (problem) {
      setState({ frames: null, problem });
    }
  };
  return html`<details class="trace" onToggle=${(event) => { if (event.target.open) fetchFrames(); }}>
    <summary><h2>Frames</h2> <span class="quiet">what was said, and what became of it</span></summary>
    ${state.problem?.missing ? html`<${Absent} what="frames" />` : html`<${Fault} problem=${state.problem} compact />`}
    ${state.frames && html`<button type="button" class="button small" onClick=${fetchFrames}>Fetch again</button>
      ${!state.frames.length && html`<p class="quiet">None since the hub began to look.</p>`}
      <ol class="frames">${state.frames.map((frame, i) => html`<li key=${`${frame.time} ${i}`}>
        <p><b>${frame.direction === 'out' ? 'to device' : 'from device'}</b> <span class="mono">${frame.type ?? ''}</span> <span class="quiet num">${timeExact(frame.time)} · ${frame.bytes} B</span> <span class="fate">${frame.fate}</span></p>
        ${frame.frame && html`<pre class="mono">${frame.frame}</pre>`}</li>`)}</ol>`}
  </details>`;
}
