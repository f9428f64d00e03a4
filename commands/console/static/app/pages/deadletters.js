// Points that the database refused, with its reason.
import { html, useEffect, useState } from '../html.js';
import { get, hubNow, post, query } from '../api.js';
import { announce } from '../announce.js';
import { dateAndTime, moment } from '../format.js';
import { useFetched } from '../fetched.js';
import { devicePath, Link } from '../route.js';
import { session } from '../session.js';
import { Fault, Fetched } from '../parts/notice.js';
import { Facts } from '../parts/facts.js';

const pageSize = 100;

export function DeadLettersPage() {
  const fetched = useFetched(`/deadletters${query({ limit: pageSize })}`);
  const [older, setOlder] = useState({ letters: [], cursor: undefined, problem: null });
  useEffect(() => setOlder({ letters: [], cursor: undefined, problem: null }), [fetched.answer]);
  const cursor = older.cursor ?? fetched.answer?.cursor;
  const more = async () => {
    try {
      const answer = await get(`/deadletters${query({ limit: pageSize, cursor })}`);
      setOlder({ letters: [...older.letters, ...lettersOf(answer)], cursor: answer.cursor ?? '', problem: null });
    } catch (problem) {
      setOlder({ ...older, problem });
    }
  };
  return html`<div class="page">
    <header class="page-head"><h1>Dead letters</h1>${fetched.answer && html`<${Replay} again=${fetched.again} some=${lettersOf(fetched.answer).length > 0} />`}</header>
    <p class="lead">Points that InfluxDB refused, with its reason. They are kept here, so that nothing that was acknowledged is lost silently.</p>
    <${Fetched} fetched=${fetched} what="dead letters">${(answer) => html`<${Letters} letters=${[...lettersOf(answer), ...older.letters]} />`}<//>
    <${Fault} problem=${older.problem} compact />
    ${cursor && html`<button type="button" class="button" onClick=${more}>More</button>`}
  </div>`;
}

function lettersOf(answer) {
  return answer.deadletters ?? answer.dead_letters ?? answer.letters ?? [];
}

function Letters({ letters }) {
  if (!letters.length) return html`<div class="absent"><p>None. Everything that was acknowledged is stored or on its way.</p></div>`;
  return html`<ul class="letters">${letters.map((letter, i) => html`<${Letter} key=${letter.id ?? letter.seq ?? i} letter=${letter} />`)}</ul>`;
}

function Letter({ letter }) {
  const { time, reason, line, device, source, id, ...rest } = letter;
  return html`<li class="letter">
    <p class="letter-reason">${reason ?? 'no reason given'}</p>
    ${line && html`<pre class="mono">${line}</pre>`}
    <p class="quiet">${time && html`<time class="num" title=${dateAndTime(time)}>${moment(time, hubNow())}</time>`}${device && html` · <${Link} to=${devicePath(device)} class="mono">${device}<//>`}${source && html` · ${source}`}</p>
    <${Facts} of=${rest} />
  </li>`;
}

function Replay({ again, some }) {
  const [state, setState] = useState({ busy: false, problem: null, answer: null });
  if (session.operator?.role !== 'admin' || !some) return null;
  const replay = async () => {
    setState({ busy: true, problem: null, answer: null });
    try {
      const answer = await post('/deadletters/replay');
      setState({ busy: false, problem: null, answer: answer ?? {} });
      announce('Dead letters are written again');
      again();
    } catch (problem) {
      setState({ busy: false, problem, answer: null });
    }
  };
  return html`<div class="head-action"><button type="button" class="button" disabled=${state.busy} onClick=${replay}>Write them again</button>
    <${Fault} problem=${state.problem} compact />${state.answer && html`<${Facts} of=${state.answer} />`}</div>`;
}
