// Points that the database refused, with its reason.
import { html, useEffect, useState } from '../html.js';
import { get, hubNow, post, query } from '../api.js';
import { announce } from '../announce.js';
import { dateAndTime, moment, plural } from '../format.js';
import { useFetched } from '../fetched.js';
import { devicePath, Link } from '../route.js';
import { session } from '../session.js';
import { Fault, Fetched } from '../parts/notice.js';

const pageSize = 100;
const nothingOlder = { letters: [], cursor: null, problem: null };

export function DeadLettersPage() {
  const fetched = useFetched(`/deadletters${query({ limit: pageSize })}`);
  const [older, setOlder] = useState(nothingOlder);
  useEffect(() => setOlder(nothingOlder), [fetched.answer]);
  const letters = [...(fetched.answer?.deadletters ?? []), ...older.letters];
  const cursor = older.cursor ?? fetched.answer?.cursor;
  const more = async () => {
    try {
      const answer = await get(`/deadletters${query({ limit: pageSize, cursor })}`);
      setOlder({ letters: [...older.letters, ...(answer.deadletters ?? [])], cursor: answer.cursor ?? '', problem: null });
    } catch (problem) {
      setOlder({ ...older, problem });
    }
  };
  return html`<div class="page">
    <header class="page-head"><h1>Dead letters</h1><${Replay} again=${fetched.again} some=${letters.length > 0} /></header>
    <p class="lead">Points that InfluxDB refused, with its reason. They are kept, so that nothing that was acknowledged is lost silently.</p>
    <${Fetched} fetched=${fetched} what="dead letters">${() => html`<${Letters} letters=${letters} />`}<//>
    <${Fault} problem=${older.problem} compact />
    ${cursor && html`<button type="button" class="button" onClick=${more}>Older ones</button>`}
  </div>`;
}

function Letters({ letters }) {
  if (!letters.length) return html`<div class="absent"><p>None. Everything that was acknowledged is stored or on its way.</p></div>`;
  const now = hubNow();
  return html`<ul class="letters">${letters.map((letter) => html`<li key=${letter.id} class="letter">
    <p class="letter-reason">${letter.reason}</p>
    <pre class="mono">${letter.line}</pre>
    <p class="quiet"><time class="num" title=${dateAndTime(letter.time)}>${moment(letter.time, now)}</time>${letter.device && html` · <${Link} to=${devicePath(letter.device)} class="mono">${letter.device}<//>`}</p>
  </li>`)}</ul>`;
}

// Replay puts all of them back into the log, for when the cause has been mended.
function Replay({ again, some }) {
  const [state, setState] = useState({ busy: false, problem: null, replayed: null });
  if (!session.mayManage) return null;
  const replay = async () => {
    setState({ busy: true, problem: null, replayed: null });
    try {
      const { replayed } = await post('/deadletters/replay');
      setState({ busy: false, problem: null, replayed });
      announce(`${plural(replayed, 'point')} will be written again`);
      again();
    } catch (problem) {
      setState({ busy: false, problem, replayed: null });
    }
  };
  return html`<div class="head-action">${some && html`<button type="button" class="button" disabled=${state.busy} onClick=${replay}>Write them again</button>`}
    <${Fault} problem=${state.problem} compact />${state.replayed !== null && html`<p class="quiet">${plural(state.replayed, 'point')} put back into the log.</p>`}</div>`;
}
