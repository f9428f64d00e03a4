// The commands of the whole fleet: who asked what of which device, and what became of it.
import { html, useCallback, useEffect, useRef, useState } from '../html.js';
import { get, hubNow, query } from '../api.js';
import { awaits, merge, states, stateWord, withState } from '../command.js';
import { plural } from '../format.js';
import { useFetched } from '../fetched.js';
import { on, onSubscribed } from '../live.js';
import { Link, location } from '../route.js';
import { useClock } from '../topic.js';
import { Absent, Fault, Fetched, Waiting } from '../parts/notice.js';
import { CommandCard } from '../parts/timeline.js';

const pageSize = 50;
const mostKept = 500;
const typingPauseMs = 250;
const decideMs = 10_000;

export function CommandsPage() {
  useClock(1000);
  const [filter, setFilter] = useState(() => Object.fromEntries(['device', 'state', 'actor'].map((name) => [name, location.search.get(name) ?? ''])));
  const list = useList(filter);
  const [open, setOpen] = useState(new Set());
  useEffect(() => location.note(filter), [filter]);
  const set = (part) => setFilter((before) => ({ ...before, ...part }));
  const toggle = (id) => {
    const next = new Set(open);
    if (!next.delete(id)) {
      next.add(id);
      list.fetchOne(id);
    }
    setOpen(next);
  };
  const now = hubNow();
  const rest = list.commands?.filter((command) => !awaits(command)); // those stand above
  return html`<div class="page">
    <header class="page-head"><h1>Commands</h1></header>
    <form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
      <label class="field grow"><span class="unseen">Device id</span><input type="search" data-search class="mono" value=${filter.device} placeholder="Device id" autocomplete="off" spellcheck=${false}
        onInput=${(event) => set({ device: event.target.value.trim() })} /><kbd aria-hidden="true">/</kbd></label>
      <label class="field"><span class="unseen">State</span><select value=${filter.state} onChange=${(event) => set({ state: event.target.value })}>
        <option value="" selected=${!filter.state}>any state</option>${states.map((state) => html`<option key=${state} value=${state} selected=${filter.state === state}>${stateWord(state)}</option>`)}</select></label>
      <label class="field grow"><span class="unseen">Asked by</span><input type="search" value=${filter.actor} placeholder="Asked by" autocomplete="off" spellcheck=${false}
        onInput=${(event) => set({ actor: event.target.value.trim() })} /></label>
    </form>
    ${list.problem?.missing ? html`<${Absent} what="a list of commands" />` : html`
      <${Fault} problem=${list.problem} retry=${list.reload} />
      <${Awaiting} now=${now} />
      ${!list.commands ? !list.problem && html`<${Waiting} what="commands" />` : html`
        ${!rest.length && html`<div class="absent"><p>No commands${filter.device || filter.state || filter.actor ? ' match' : ' so far'}.</p></div>`}
        <div class="commands wide">${rest.map((command) => html`<${CommandCard} key=${command.id} command=${command} now=${now} showDevice
          open=${open.has(command.id)} onToggle=${() => toggle(command.id)} />`)}</div>
        ${list.cursor && html`<button type="button" class="button" onClick=${list.more}>Older ones</button>`}`}`}
  </div>`;
}

// Awaiting puts first what somebody has to decide.
function Awaiting({ now }) {
  const fetched = useFetched(`/commands${query({ awaiting_approval: true, limit: pageSize })}`, decideMs);
  const waiting = fetched.answer?.commands ?? [];
  const [open, setOpen] = useState('');
  const known = useRef(waiting);
  known.current = waiting;
  useEffect(() => on('command', ({ command }) => {
    if (command && (awaits(command) || known.current.some((c) => c.id === command.id))) fetched.again();
  }), [fetched.again]);
  if (!waiting.length) return null;
  return html`<section class="part"><h2>${plural(waiting.length, 'command waits', 'commands wait')} for approval</h2>
    <div class="commands wide">${waiting.map((command) => html`<${CommandCard} key=${command.id} command=${command} now=${now} showDevice
      open=${open === command.id} onToggle=${() => setOpen(open === command.id ? '' : command.id)} onDone=${fetched.again} />`)}</div></section>`;
}

// useList is the filtered list: fetched by page, continued by live events.
function useList(filter) {
  const [state, setState] = useState({ commands: null, cursor: '', problem: null });
  const turn = useRef(0);
  const fetchPage = useCallback(async (cursor) => {
    const mine = cursor ? turn.current : ++turn.current;
    try {
      const answer = await get(`/commands${query({ ...filter, limit: pageSize, cursor })}`);
      if (mine !== turn.current) return;
      setState((before) => ({
        commands: [...(cursor ? before.commands : []), ...(answer.commands ?? [])].slice(0, mostKept), cursor: answer.cursor ?? '', problem: null,
      }));
    } catch (problem) {
      if (mine === turn.current) setState((before) => ({ ...before, problem }));
    }
  }, [filter]);
  const take = useCallback((command) => setState((before) => {
    if (!before.commands) return before;
    const known = before.commands.find((c) => c.id === command.id);
    const merged = withState(merge(known, command), hubNow());
    if (!fits(merged, filter)) return known ? { ...before, commands: before.commands.filter((c) => c !== known) } : before;
    const commands = known ? before.commands.map((c) => (c.id === command.id ? merged : c)) : [merged, ...before.commands].slice(0, mostKept);
    return { ...before, commands };
  }), [filter]);
  const fetchOne = useCallback(async (id) => {
    try {
      take(await get(`/commands/${encodeURIComponent(id)}`));
    } catch {
      // What the list says stays shown.
    }
  }, [take]);
  useEffect(() => {
    const timer = setTimeout(() => fetchPage(''), state.commands ? typingPauseMs : 0);
    const forget = [on('command', ({ command }) => { if (command) take(command); }), onSubscribed(() => fetchPage(''))];
    return () => {
      clearTimeout(timer);
      for (const stop of forget) stop();
    };
  }, [fetchPage, take]);
  return { ...state, more: () => fetchPage(state.cursor), reload: () => fetchPage(''), fetchOne };
}

function fits(command, { device, state, actor }) {
  return (!device || command.device === device) && (!state || command.state === state) && (!actor || command.actor === actor);
}

export function CommandPage({ id }) {
  useClock(1000);
  const path = `/commands/${encodeURIComponent(id)}`;
  const fetched = useFetched(path);
  useEffect(() => on('command', ({ command }) => { if (command?.id === id) fetched.again(); }), [id, fetched.again]);
  return html`<div class="page">
    <nav class="crumb" aria-label="Where this is"><${Link} to="commands">Commands<//><span aria-hidden="true">/</span><span class="mono" aria-current="page">${id}</span></nav>
    <h1 class="unseen">Command ${id}</h1>
    <${Fetched} fetched=${fetched} what="commands">${(command) => html`<div class="commands wide"><${CommandCard} command=${command} now=${hubNow()} open showDevice onToggle=${() => {}} /></div>`}<//>
  </div>`;
}
