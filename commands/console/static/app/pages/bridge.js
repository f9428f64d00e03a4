// The MQTT bridge: its connections and what they carry.
import { html } from '../html.js';
import { useFetched } from '../fetched.js';
import { Fetched } from '../parts/notice.js';
import { Facts, title } from '../parts/facts.js';

const refreshMs = 3_000;
const well = new Set(['connected', 'up', 'online', 'running']);

export function BridgePage() {
  const fetched = useFetched('/bridge', refreshMs);
  return html`<div class="page">
    <header class="page-head"><h1>Bridge</h1></header>
    <${Fetched} fetched=${fetched} what="the MQTT bridge">${(answer) => html`<${Bridge} answer=${answer} />`}<//>
  </div>`;
}

function Bridge({ answer }) {
  const { connections = [], ...rest } = answer;
  return html`
    ${!connections.length && html`<div class="absent"><p>No MQTT connections are configured.</p><p class="quiet">They are listed under <code>bridge.connections</code> in the hub’s configuration.</p></div>`}
    <div class="cards">${connections.map((connection, i) => html`<${Connection} key=${connection.name ?? i} connection=${connection} />`)}</div>
    ${Object.keys(rest).length > 0 && html`<section><h2>In all</h2><${Facts} of=${rest} /></section>`}`;
}

function Connection({ connection }) {
  const { name, id, url, broker, status, state, connected, ...rest } = connection;
  const word = status ?? state ?? (connected === undefined ? '' : connected ? 'connected' : 'not connected');
  return html`<section class="card">
    <header class="card-head"><h2 class="mono">${name ?? id ?? 'connection'}</h2>${word && html`<span class="state" data-tone=${well.has(word) ? 'good' : 'warn'}>${title(word)}</span>`}</header>
    ${(url ?? broker) && html`<p class="quiet mono">${url ?? (typeof broker === 'string' ? broker : JSON.stringify(broker))}</p>`}
    <${Facts} of=${rest} />
  </section>`;
}
