// What a device should be set to beside what it says it is set to, with the difference marked.
import { html, useEffect } from '../html.js';
import { useFetched } from '../fetched.js';
import { on } from '../live.js';
import { Fault } from './notice.js';

export function Twin({ id }) {
  const { answer, problem, again } = useFetched(`/devices/${encodeURIComponent(id)}/state`);
  useEffect(() => on('state', (event) => { if (event.device === id) again(); }), [id, again]);
  const desired = flat(answer?.desired);
  const reported = flat(answer?.reported);
  const keys = [...new Set([...desired.keys(), ...reported.keys()])].sort();
  if (problem && !problem.missing && !answer) return html`<section class="twin"><h2>State</h2><${Fault} problem=${problem} retry=${again} compact /></section>`;
  if (!keys.length) return null; // most devices have none, and then there is nothing to say
  const different = (key) => desired.has(key) && desired.get(key) !== reported.get(key);
  return html`<section class="twin"><h2>State</h2>
    <table><thead><tr><th scope="col">Setting</th><th scope="col">Desired</th><th scope="col">Reported</th></tr></thead>
      <tbody>${keys.map((key) => html`<tr key=${key} class=${different(key) ? 'differs' : ''}><th scope="row">${key}</th>
        <td class="mono">${desired.get(key) ?? ''}</td><td class="mono">${reported.get(key) ?? ''}${different(key) && html`<span class="differs-word">differs</span>`}</td></tr>`)}</tbody></table>
  </section>`;
}

// flat writes nested settings as a.b: "value".
function flat(document, prefix = '', into = new Map()) {
  for (const [name, v] of Object.entries(document ?? {})) {
    if (v && typeof v === 'object' && !Array.isArray(v)) flat(v, `${prefix}${name}.`, into);
    else into.set(prefix + name, JSON.stringify(v));
  }
  return into;
}
