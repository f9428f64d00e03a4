// The MQTT bridge: its connections, what they carry, and which topics nothing knows.
import { html, useState } from '../html.js';
import { hubNow } from '../api.js';
import { ago, count, dateAndTime, longSpan, plural } from '../format.js';
import { useFetched } from '../fetched.js';
import { useClock } from '../topic.js';
import { Fetched } from '../parts/notice.js';

const refreshMs = 3_000;
const shownTopics = 100;
const tones = { connected: 'good', connecting: 'busy', down: 'bad', stopped: 'still' };

export function BridgePage() {
  useClock(1000);
  const fetched = useFetched('/bridge', refreshMs);
  return html`<div class="page">
    <header class="page-head"><h1>Bridge</h1></header>
    <${Fetched} fetched=${fetched} what="the MQTT bridge">${({ connections = [] }) => html`
      ${!connections.length && html`<div class="absent"><p>No MQTT connections are configured.</p><p class="quiet">They are listed under <code>bridge.connections</code> in the hub’s configuration.</p></div>`}
      ${connections.map((connection) => html`<${Connection} key=${connection.name} connection=${connection} now=${hubNow()} />`)}`}<//>
  </div>`;
}

function Connection({ connection: c, now }) {
  const topics = c.topics ?? [];
  const unmapped = topics.filter((topic) => !topic.mapped).length;
  const counters = [['Received', c.received], ['Acknowledged', c.acked], ['Published', c.published], ['Dropped', c.dropped]];
  return html`<section class="card">
    <header class="card-head"><h2><span class="mono">${c.name}</span></h2><span class="state" data-tone=${tones[c.state] ?? 'still'}>${c.state}</span></header>
    <p class="quiet"><span class="mono breaks">${c.url}</span>${c.since && html` · ${c.state} for <span class="num" title=${dateAndTime(c.since)}>${longSpan(now - c.since)}</span>`}${
      c.profiles?.length > 0 && html` · ${plural(c.profiles.length, 'profile')}: ${c.profiles.join(', ')}`}</p>
    ${c.last_error && html`<p class="card-fault" data-past=${c.state === 'connected'}>${c.last_error}${c.error_time && html` <span class="num quiet">${ago(c.error_time, now)}</span>`}</p>`}
    <dl class="facts-list">${counters.map(([name, n]) => html`<div key=${name}><dt>${name}</dt><dd class="num">${count(n ?? 0)}</dd></div>`)}</dl>
    ${topics.length > 0 && html`<details class="nested"><summary>${plural(topics.length, 'topic')}${unmapped > 0 && html`, <b class="warn">${count(unmapped)} not mapped</b>`}</summary>
      <${Topics} topics=${topics} more=${c.more_topics ?? 0} now=${now} /></details>`}
  </section>`;
}

// Topics puts first what needs looking at: topics that no map and no profile knows.
function Topics({ topics, more, now }) {
  const [all, setAll] = useState(false);
  const sorted = [...topics].sort((a, b) => a.mapped - b.mapped || (b.last_time ?? 0) - (a.last_time ?? 0));
  const shown = all ? sorted : sorted.slice(0, shownTopics);
  return html`<div class="scrolls"><table class="topics"><thead><tr><th scope="col">Topic</th><th scope="col">Mapped</th><th scope="col">Messages</th><th scope="col">Last</th></tr></thead>
    <tbody>${shown.map((topic) => html`<tr key=${topic.topic}><th scope="row" class="mono">${topic.topic}${topic.last_error && html`<span class="row-fault">${topic.last_error}</span>`}</th>
      <td>${topic.mapped ? 'yes' : html`<b class="warn">no</b>`}</td><td class="num">${count(topic.messages)}</td><td class="num quiet" title=${dateAndTime(topic.last_time)}>${ago(topic.last_time, now)}</td></tr>`)}</tbody></table>
    ${shown.length < sorted.length && html`<button type="button" class="button small" onClick=${() => setAll(true)}>All ${count(sorted.length)} topics</button>`}
    ${more > 0 && html`<p class="quiet">${plural(more, 'message')} came on topics beyond those that are remembered.</p>`}</div>`;
}
