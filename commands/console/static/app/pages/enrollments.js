// Enrollments: secrets that devices make their own records with, and the devices that wait to be let in.
import { html } from '../html.js';
import { hubNow, post, query, remove } from '../api.js';
import { useAction } from '../action.js';
import { ago, count, dateAndTime, moment, plural } from '../format.js';
import { useFetched } from '../fetched.js';
import { devicePath, Link } from '../route.js';
import { session } from '../session.js';
import { useClock } from '../topic.js';
import { Fault, Fetched } from '../parts/notice.js';

const refreshMs = 5_000;
const most = 200;

export function EnrollmentsPage() {
  useClock(5000);
  const allowed = session.mayManage;
  const pending = useFetched(allowed ? `/enrollments/pending${query({ limit: most })}` : '', refreshMs);
  const made = useFetched(allowed ? '/enrollments' : '', refreshMs);
  const again = () => { pending.again(); made.again(); };
  return html`<div class="page">
    <nav class="crumb" aria-label="Where this is"><${Link} to="hub">Hub<//><span aria-hidden="true">/</span><span aria-current="page">Enrollments</span></nav>
    <header class="page-head"><h1>Enrollments</h1></header>
    <p class="lead">With the secret of an enrollment devices make their own records. <code>fairlead enrollments create</code> makes one and shows its secret once.</p>
    ${!allowed ? html`<div class="absent"><p>Only an admin may see enrollments.</p></div>` : html`
      <section class="part"><h2>Devices that wait for approval</h2><${Fetched} fetched=${pending} what="enrollments">${({ devices = [] }) => html`<${Pending} devices=${devices} again=${again} />`}<//></section>
      <section class="part"><h2>Enrollments</h2><${Fetched} fetched=${made} what="enrollments">${({ enrollments = [] }) => html`<${Enrollments} enrollments=${enrollments} />`}<//></section>`}
  </div>`;
}

function Pending({ devices, again }) {
  if (!devices.length) return html`<p class="quiet">None.</p>`;
  const now = hubNow();
  return html`<div class="scrolls"><table class="pending"><thead><tr><th scope="col">Device</th><th scope="col">Came</th><th scope="col">With</th><th scope="col">Keys</th><th scope="col">Let it in?</th></tr></thead>
    <tbody>${devices.map((device) => html`<tr key=${device.id} data-device=${device.id}><th scope="row"><${Link} to=${devicePath(device.id)} class="mono">${device.id}<//></th>
      <td class="num" title=${dateAndTime(device.created)}>${ago(device.created, now)}</td><td class="mono quiet">${device.enrollment}</td>
      <td class="mono">${(device.keys ?? []).map((key) => key.alg).join(', ')}</td><td><${Decide} device=${device} again=${again} /></td></tr>`)}</tbody></table>
    ${devices.length === most && html`<p class="quiet">These are the first ${count(most)}.</p>`}</div>`;
}

function Decide({ device, again }) {
  const { busy, problem, run } = useAction(again);
  const id = encodeURIComponent(device.id);
  return html`<div class="actions">
    <button type="button" class="button small primary" disabled=${busy} onClick=${() => run(() => post(`/enrollments/${encodeURIComponent(device.enrollment)}/devices/${id}/approve`), `${device.id} approved`)}>Approve</button>
    <button type="button" class="button small" disabled=${busy} onClick=${() => run(() => remove(`/devices/${id}`), `${device.id} turned away`)}>Turn away</button>
    <${Fault} problem=${problem} compact /></div>`;
}

function Enrollments({ enrollments }) {
  if (!enrollments.length) return html`<p class="quiet">None so far.</p>`;
  const now = hubNow();
  return html`<div class="scrolls"><table class="enrollments"><thead><tr><th scope="col">Enrollment</th><th scope="col">Devices</th><th scope="col">Names</th><th scope="col">Labels</th><th scope="col">Good until</th><th scope="col">By</th></tr></thead>
    <tbody>${enrollments.map((e) => html`<tr key=${e.id}><th scope="row" class="mono">${e.id}${e.approve && html`<span class="row-note">each waits for approval</span>`}</th>
      <td class="num">${count(e.used)} of ${plural(e.max_devices, 'device')}</td><td class="mono">${e.prefix ? `${e.prefix}…` : 'any'}</td>
      <td>${Object.entries(e.labels ?? {}).map(([name, text]) => html`<span key=${name} class="label"><i>${name}</i>${text}</span> `)}</td>
      <td class=${e.expired ? 'num warn' : 'num'} title=${dateAndTime(e.expires)}>${e.expired ? 'over since ' : ''}${moment(e.expires, now)}</td><td>${e.actor}</td></tr>`)}</tbody></table></div>`;
}
