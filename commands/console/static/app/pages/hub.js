// The hub itself: its nodes, and who did what.
import { html, useState } from '../html.js';
import { get, hubNow, query } from '../api.js';
import { ago, count, dateAndTime, longSpan, moment } from '../format.js';
import { useFetched } from '../fetched.js';
import { Link } from '../route.js';
import { session } from '../session.js';
import { useClock } from '../topic.js';
import { Fault, Fetched } from '../parts/notice.js';

const refreshMs = 10_000;
const pageSize = 50;

export function HubPage() {
  useClock(5000);
  const nodes = useFetched('/nodes', refreshMs);
  const audit = useFetched(`/audit${query({ limit: pageSize })}`);
  return html`<div class="page">
    <header class="page-head"><h1>Hub</h1>${session.mayManage && html`<${Link} to="enrollments">Enrollments<//>`}</header>
    <section class="part"><h2>Nodes</h2><${Fetched} fetched=${nodes} what="a list of nodes">${(answer) => html`<${Nodes} nodes=${answer.nodes ?? []} />`}<//></section>
    <section class="part"><h2>Audit: who did what</h2>${audit.problem?.forbidden
      ? html`<p class="quiet">Only an admin may read the audit log.</p>`
      : html`<${Fetched} fetched=${audit} what="an audit log">${(answer) => html`<${Audit} key=${answer.cursor} first=${answer} />`}<//>`}</section>
  </div>`;
}

function Nodes({ nodes }) {
  const now = hubNow();
  return html`<div class="scrolls"><table><thead><tr><th scope="col">Node</th><th scope="col">Devices</th><th scope="col">Running</th><th scope="col">Seen</th><th scope="col">Version</th></tr></thead>
    <tbody>${nodes.map((node) => html`<tr key=${node.name}><th scope="row" class="mono">${node.name}${node.self && html` <span class="quiet">this one</span>`}</th><td class="num">${count(node.sessions ?? 0)}</td>
      <td class="num">${node.started ? longSpan(now - node.started) : ''}</td><td class="num">${ago(node.seen, now)}</td><td class="mono">${node.version ?? ''}</td></tr>`)}</tbody></table></div>`;
}

function Audit({ first }) {
  const [older, setOlder] = useState({ records: [], cursor: first.cursor, problem: null });
  const records = [...(first.records ?? []), ...older.records];
  const more = async () => {
    try {
      const answer = await get(`/audit${query({ limit: pageSize, cursor: older.cursor })}`);
      setOlder({ records: [...older.records, ...(answer.records ?? [])], cursor: answer.cursor, problem: null });
    } catch (problem) {
      setOlder({ ...older, problem });
    }
  };
  const now = hubNow();
  return html`<div class="scrolls"><table><thead><tr><th scope="col">When</th><th scope="col">Who</th><th scope="col">What</th><th scope="col">Outcome</th><th scope="col">From</th></tr></thead>
      <tbody>${records.map((record) => html`<tr key=${record.hash ?? record.time}><td class="num" title=${dateAndTime(record.time)}>${moment(record.time, now)}</td><td>${record.actor}</td>
        <td><span class="mono">${record.action}</span> ${record.target ?? ''}${record.detail && html`<span class="row-note">${record.detail}</span>`}</td>
        <td class=${record.outcome === 'ok' ? '' : 'warn'}>${record.outcome}</td><td class="mono quiet">${record.remote ?? ''}</td></tr>`)}</tbody></table></div>
    <${Fault} problem=${older.problem} compact />
    ${older.cursor && html`<button type="button" class="button" onClick=${more}>Older ones</button>`}
    <p class="quiet">Each record carries the hash of the one before. <code>fairlead audit verify</code> proves that none was changed or taken out.</p>`;
}
