// What became of a command: each state, when, and on what evidence.
import { html, useState } from '../html.js';
import { remove } from '../api.js';
import { brief, delay, dateAndTime, json, moment, timeExact } from '../format.js';
import { awaits, isFinal, meaning, stateWord, tone } from '../command.js';
import { session } from '../session.js';
import { commandPath, devicePath, Link } from '../route.js';
import { Approval } from './approval.js';
import { EvidenceBadge, StateChip } from './evidence.js';
import { Fault } from './notice.js';

// CommandCard is one command, folded or with its time line.
export function CommandCard({ command, open, onToggle, now, showDevice = false, onDone }) {
  const params = brief(command.params);
  return html`<article class="command" data-command=${command.id} data-state=${command.state}>
    <div class="command-head">
      <button type="button" class="fold" aria-expanded=${open} onClick=${onToggle}><i aria-hidden="true"></i><b class="command-name mono">${command.name}</b>
        ${params && html`<span class="command-params mono">${params}</span>`}</button>
      <${EvidenceBadge} evidence=${command.evidence} />
      <${StateChip} command=${command} />
    </div>
    <p class="command-line">${showDevice && html`<${Link} to=${devicePath(command.device)} class="mono">${command.device}<//> · `}<span
      class="num" title=${dateAndTime(command.created)}>${moment(command.created, now)}</span>${command.actor && html` · by ${command.actor}`}${
      command.approved_by && html` · approved by ${command.approved_by}`}${command.attempt > 1 && html` · attempt ${command.attempt}`}</p>
    <${Approval} command=${command} onDone=${onDone} />
    <${Progress} command=${command} />
    ${open && html`<${Timeline} command=${command} now=${now} />`}
  </article>`;
}

function Progress({ command }) {
  const { progress } = command;
  if (!progress || isFinal(command)) return null;
  const percent = Math.min(100, Math.max(0, progress.percent ?? 0));
  return html`<div class="progress"><progress max="100" value=${percent} aria-label="Progress">${percent} %</progress>
    <span class="num">${Math.round(percent)} %</span>${progress.message && html`<span class="quiet">${progress.message}</span>`}</div>`;
}

export function Timeline({ command, now }) {
  const events = command.events ?? [];
  return html`<div class="timeline-box">
    <ol class="timeline" aria-label="What became of it">
      ${events.map((event, i) => html`<li key=${`${event.state}${i}`} class="event" data-tone=${tone(event.state)} data-state=${event.state}>
        <span class="event-state">${stateWord(event.state)}</span>
        <time class="event-time num" title=${dateAndTime(event.time)}>${timeExact(event.time)}</time>
        <span class="event-delay num">${i > 0 ? `+${delay(event.time - events[i - 1].time)}` : ''}</span>
        <span class="event-detail">${event.evidence && html`<${EvidenceBadge} evidence=${event.evidence} /> `}${event.detail || meaning(event.state)}${whereOf(event)}</span>
      </li>`)}
      ${!isFinal(command) && html`<li class="event waiting-event"><span class="event-state quiet">${waiting(command, now)}</span></li>`}
    </ol>
    <${Outcome} command=${command} />
    <div class="command-foot">
      <${Cancel} command=${command} />
      <${Link} to=${commandPath(command.id)} class="quiet mono">${command.id}<//>
    </div>
  </div>`;
}

function whereOf(event) {
  const parts = [event.node && `node ${event.node}`, event.session && `session ${event.session}`].filter(Boolean);
  return parts.length ? html`<span class="quiet event-where mono">${parts.join(' · ')}</span>` : '';
}

function waiting(command, now) {
  const left = command.expires - now;
  if (awaits(command)) return left > 0 ? `waiting for approval; expires in ${delay(left)}` : 'waiting for approval';
  if (command.state === 'queued') return left > 0 ? `waiting for the device; expires in ${delay(left)}` : 'waiting for the device';
  return 'waiting for the device’s answer';
}

function Outcome({ command }) {
  const result = json(command.result);
  return html`${command.error && html`<div class="outcome bad"><b class="mono">${command.error.code}</b> ${command.error.message}</div>`}
    ${result && html`<pre class="outcome mono">${JSON.stringify(command.result, null, 2)}</pre>`}`;
}

function Cancel({ command }) {
  const [problem, setProblem] = useState(null);
  const [asked, setAsked] = useState(false);
  if (isFinal(command) || awaits(command) || !session.mayCommand) return null;
  const cancel = async () => {
    setAsked(true);
    setProblem(null);
    try {
      await remove(`/commands/${encodeURIComponent(command.id)}`);
    } catch (fault) {
      setProblem(fault);
    }
    setAsked(false);
  };
  return html`<button type="button" class="button small" disabled=${asked} onClick=${cancel}>Cancel command</button>
    ${problem && html`<${Fault} problem=${problem} compact />`}`;
}
