// Jobs: one command to many devices, how far each has come, and what can be done about it.
import { html, useEffect, useState } from '../html.js';
import { get, hubNow, post, query } from '../api.js';
import { useAction } from '../action.js';
import { stateWord } from '../command.js';
import { useFetched } from '../fetched.js';
import { brief, count, dateAndTime, longSpan, moment } from '../format.js';
import { deviceStates, deviceTone, ended, jobTone, steps } from '../job.js';
import { commandPath, devicePath, jobPath, Link } from '../route.js';
import { session } from '../session.js';
import { useClock } from '../topic.js';
import { Fault, Fetched } from '../parts/notice.js';

const pageSize = 50;
const listMs = 5_000;
const detailMs = 2_000;

export function JobsPage() {
  useClock(5000);
  const fetched = useFetched(`/jobs${query({ limit: pageSize })}`, listMs);
  const older = useOlder(fetched.answer, 'jobs', '/jobs');
  const jobs = [...(fetched.answer?.jobs ?? []), ...older.items];
  return html`<div class="page">
    <header class="page-head"><h1>Jobs</h1></header>
    <p class="lead">One command to many devices at a pace. <code>fairlead jobs create</code> starts one.</p>
    <${Fetched} fetched=${fetched} what="jobs">${() => html`<${Jobs} jobs=${jobs} now=${hubNow()} />`}<//>
    <${Older} older=${older} />
  </div>`;
}

function Jobs({ jobs, now }) {
  if (!jobs.length) return html`<div class="absent"><p>No jobs so far.</p></div>`;
  return html`<div class="scrolls"><table class="jobs"><thead><tr><th scope="col">Job</th><th scope="col">State</th><th scope="col">Devices done</th><th scope="col">Started</th><th scope="col">By</th></tr></thead>
    <tbody>${jobs.map((job) => html`<tr key=${job.id} data-job=${job.id}><th scope="row"><${Link} to=${jobPath(job.id)} class="mono">${job.command.name}<//>${
      job.selector && html`<span class="row-note mono">${job.selector}</span>`}</th>
      <td><${JobState} job=${job} /></td><td class="num"><${Done} job=${job} /></td>
      <td class="num" title=${dateAndTime(job.created)}>${moment(job.created, now)}</td><td>${job.actor}</td></tr>`)}</tbody></table></div>`;
}

function JobState({ job }) {
  return html`<span class="state" data-tone=${jobTone(job)} title=${job.reason}>${stateWord(job.state)}</span>`;
}

function Done({ job }) {
  return html`${count(ended(job))} of ${count(job.total)}`;
}

export function JobPage({ id }) {
  useClock(1000);
  const path = `/jobs/${encodeURIComponent(id)}`;
  const [over, setOver] = useState(false);
  const fetched = useFetched(path, over ? 0 : detailMs);
  useEffect(() => setOver(Boolean(fetched.answer?.finished)), [fetched.answer?.finished]);
  return html`<div class="page">
    <nav class="crumb" aria-label="Where this is"><${Link} to="jobs">Jobs<//><span aria-hidden="true">/</span><span class="mono" aria-current="page">${id}</span></nav>
    <h1 class="unseen">Job ${id}</h1>
    <${Fetched} fetched=${fetched} what="jobs">${(job) => html`<${Job} job=${job} now=${hubNow()} again=${fetched.again} /><${Results} job=${job} path=${path} />`}<//>
  </div>`;
}

function Job({ job, now, again }) {
  const params = brief(job.command.params);
  const done = ended(job);
  const { rollout, abort_if: abort } = job;
  const facts = [
    ['Asked by', job.actor], ['Started', moment(job.created, now)], ['Selector', job.selector, 'mono'], ['Approved by', job.approved_by],
    ['Pace', rollout.per_minute ? `${count(rollout.per_minute)} a minute${rollout.growth > 1 ? `, growing ${rollout.growth}-fold` : ''}` : 'as fast as devices answer'],
    ['At once', count(job.concurrency)], ['Gives up', abort.failed_percent ? `at ${abort.failed_percent} % failed${abort.after ? ` of at least ${count(abort.after)}` : ''}` : 'never'],
    ['Ended', job.finished && moment(job.finished, now)],
  ].filter(([, text]) => text);
  return html`<section class="card job" data-state=${job.state}>
    <header class="card-head"><h2><span class="mono">${job.command.name}</span>${params && html` <span class="mono quiet">${params}</span>`}</h2><${JobState} job=${job} /></header>
    ${job.reason && html`<p class="card-fault">${job.reason}</p>`}
    <div class="progress wide"><progress max=${Math.max(job.total, 1)} value=${done} aria-label="Devices done">${done}</progress><span class="num"><${Done} job=${job} /> devices done${
      job.started < job.total ? `, ${count(job.total - job.started)} have not had their turn` : ''}</span></div>
    <dl class="facts-list">${facts.map(([name, text, kind]) => html`<div key=${name}><dt>${name}</dt><dd class=${kind ?? 'num'}>${text}</dd></div>`)}</dl>
    ${job.state !== 'running' && job.changed_by && html`<p class="quiet">${stateWord(job.state)} by ${job.changed_by} <span class="num">${longSpan(now - job.changed)}</span> ago</p>`}
    <${Steer} job=${job} again=${again} />
  </section>`;
}

// Steer has the buttons of an admin; what is under way with a device goes on, whatever becomes of the job.
function Steer({ job, again }) {
  const { busy, problem, run } = useAction(again);
  if (!session.mayManage) return null;
  const path = `/jobs/${encodeURIComponent(job.id)}`;
  const possible = steps(job, session.operator.name);
  if (!possible.length && !problem) return null;
  return html`<div class="actions">${possible.map(([word, call, said]) => html`<button key=${call} type="button" class=${`button${call === 'approve' ? ' primary' : ''}`} disabled=${busy}
      onClick=${() => run(() => post(`${path}/${call}`), `Job ${job.command.name} ${said}`)}>${word}</button>`)}
    ${job.state === 'awaiting_approval' && job.actor === session.operator.name && html`<span class="quiet">A second operator has to agree; you asked for it.</span>`}
    <${Fault} problem=${problem} compact /></div>`;
}

// Results are the devices of a job, all or those in one state.
function Results({ job, path }) {
  const [state, setState] = useState('');
  const counts = deviceStates.filter((name) => job.counts?.[name]);
  const asked = `${path}/devices${query({ state, limit: pageSize })}`;
  const fetched = useFetched(asked, job.finished ? 0 : detailMs);
  const older = useOlder(fetched.answer, 'devices', `${path}/devices`, { state });
  const devices = [...(fetched.answer?.devices ?? []), ...older.items];
  return html`<section class="part"><h2>Devices</h2>
    <div class="segments" role="group" aria-label="State of the device">
      <button type="button" class="segment" aria-pressed=${!state} onClick=${() => setState('')}>all <span class="num">${count(job.total)}</span></button>
      ${counts.map((name) => html`<button key=${name} type="button" class="segment" aria-pressed=${state === name} onClick=${() => setState(name)}>${stateWord(name)} <span class="num">${count(job.counts[name])}</span></button>`)}</div>
    <${Fetched} fetched=${fetched} what="results">${() => html`<div class="scrolls"><table class="results"><thead><tr><th scope="col">Device</th><th scope="col">State</th><th scope="col">Why</th><th scope="col">Command</th></tr></thead>
      <tbody>${devices.map((d) => html`<tr key=${d.device}><th scope="row"><${Link} to=${devicePath(d.device)} class="mono">${d.device}<//></th>
        <td><span class="state" data-tone=${deviceTone(d.state)}>${stateWord(d.state)}</span></td><td class="mono">${d.code ?? ''}</td>
        <td>${d.command && html`<${Link} to=${commandPath(d.command)} class="mono quiet">${d.command}<//>`}</td></tr>`)}</tbody></table>
      ${!devices.length && html`<p class="quiet">None${state ? ` is ${stateWord(state)}` : ''}.</p>`}</div>`}<//>
    <${Older} older=${older} />
  </section>`;
}

// useOlder are the pages behind the first one; they go when the filter changes.
function useOlder(first, name, path, filter = {}) {
  const key = JSON.stringify(filter);
  const none = { key, items: [], cursor: null, problem: null };
  const [kept, setKept] = useState(none);
  const state = kept.key === key ? kept : none;
  const cursor = state.cursor ?? first?.cursor;
  const more = async () => {
    try {
      const answer = await get(`${path}${query({ ...filter, limit: pageSize, cursor })}`);
      setKept({ key, items: [...state.items, ...(answer[name] ?? [])], cursor: answer.cursor ?? '', problem: null });
    } catch (problem) {
      setKept({ ...state, problem });
    }
  };
  const shown = new Set((first?.[name] ?? []).map((item) => item.id ?? item.device)); // the first page is fetched again and again, and grows
  return { items: state.items.filter((item) => !shown.has(item.id ?? item.device)), cursor, problem: state.problem, more };
}

function Older({ older }) {
  return html`<${Fault} problem=${older.problem} compact />${older.cursor && html`<button type="button" class="button" onClick=${older.more}>More</button>`}`;
}
