// The fleet table.
import { html, Component, useEffect, useMemo, useRef, useState } from '../html.js';
import { hubNow } from '../api.js';
import { fleet, measured, mostDevices } from '../fleet.js';
import { ago, count, dateAndTime, fieldNamer, plural, value } from '../format.js';
import { values } from '../live.js';
import { devicePath, Link, location } from '../route.js';
import { withLabel } from '../selector.js';
import { sift } from '../sift.js';
import { useClock, useTopic } from '../topic.js';
import { Fault, Waiting } from '../parts/notice.js';
import { Flags, PresenceMark } from '../parts/presence.js';
import { Rows } from '../parts/rows.js';

const typingPauseMs = 250;
const settleMs = 150; // how long scrolling rests before the values of what is in view are asked for
const staleCheckMs = 10_000;
const shownValues = 4;

const statuses = [['', 'All', 'all'], ['online', 'Online', 'online'], ['offline', 'Offline', 'offline'], ['never', 'Never seen', 'never']];

export function FleetPage() {
  useTopic(fleet.changes);
  useClock(1000);
  const [filter, setFilter] = useFilter();
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden && fleet.stale) fleet.refreshSoon(); }, staleCheckMs);
    return () => { clearInterval(timer); values.want(null); };
  }, []);
  useAsked(filter);
  const rowHeight = useRowHeight();
  const recent = filter.sort === 'seen' ? Math.floor(Date.now() / 2000) : 0; // re-sorted now and then, not at every value
  const rows = useMemo(() => sift(fleet.devices.values(), filter), [fleet.devices, fleet.shape, filter, recent]);
  const onWindow = useValuesInView();
  const setPart = (part) => setFilter((before) => ({ ...before, ...part }));

  return html`<div class="page fleet">
    <header class="page-head">
      <h1>Fleet</h1>
      <${Statuses} counts=${fleet.counts()} chosen=${filter.status} choose=${(status) => setPart({ status })} />
      <${Filters} filter=${filter} setPart=${setPart} problem=${filter.selector ? fleet.problem : null} />
    </header>
    ${fleet.problem && !filter.selector && html`<${Fault} problem=${fleet.problem} retry=${() => fleet.refresh()} />`}
    ${!fleet.whole && html`<p class="remark">The first ${count(mostDevices)} devices are loaded. Narrow the selector or the search to see the others.</p>`}
    ${fleet.state === 'loading' && !fleet.devices.size ? html`<${Waiting} what="the fleet" />` : html`
      <p class="unseen" role="status">${plural(rows.length, 'device')} shown</p>
      <${Rows} items=${rows} rowHeight=${rowHeight} label="Devices" idOf=${(device) => device.id}
        onOpen=${(device) => location.go(devicePath(device.id))} onWindow=${onWindow}
        header=${html`<${Header} filter=${filter} setPart=${setPart} />`}>
        ${(device) => html`<${Row} device=${device} rev=${device.rev} seen=${ago(device.last_seen, hubNow())}
          onLabel=${(label) => setFilter((before) => ({ ...before, selector: withLabel(before.selector, label) }))} />`}
      <//>
      ${fleet.state === 'ready' && !rows.length && html`<${Nobody} filter=${filter} clear=${() => setFilter(() => noFilter)} />`}`}
  </div>`;
}

const noFilter = { q: '', selector: '', status: '', sort: 'id', descending: false };

// useFilter keeps the filter in the page's address, so that it can be kept, sent, and come back to.
function useFilter() {
  const [filter, setFilter] = useState(() => {
    const get = (name) => location.search.get(name) ?? '';
    return { q: get('q'), selector: get('selector'), status: get('status'), sort: get('sort') || 'id', descending: get('order') === 'down' };
  });
  useEffect(() => {
    const { q, selector, status, sort, descending } = filter;
    location.note({ q, selector, status, sort: sort === 'id' ? '' : sort, order: descending ? 'down' : '' });
  }, [filter]);
  return [filter, setFilter];
}

// useAsked has the hub apply the selector, whose grammar is its own; words and status are sifted here, unless the fleet
// is too large to be here whole.
function useAsked({ selector, q, status }) {
  const wide = fleet.whole;
  const asked = useMemo(() => (wide ? { selector } : { selector, q, status }), [wide, selector, wide ? '' : q, wide ? '' : status]);
  const first = useRef(true);
  useEffect(() => {
    const timer = setTimeout(() => fleet.ensure(asked), first.current ? 0 : typingPauseMs);
    first.current = false;
    return () => clearTimeout(timer);
  }, [asked]);
}

// useValuesInView subscribes to the values of the devices in view, once scrolling rests.
function useValuesInView() {
  const timer = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  return (devices) => {
    const ids = devices.map((device) => device.id).sort();
    clearTimeout(timer.current);
    timer.current = setTimeout(() => values.want(ids.length ? { devices: ids, events: ['telemetry'] } : null), settleMs);
  };
}

function useRowHeight() {
  const narrow = useMemo(() => matchMedia('(max-width: 720px)'), []);
  const [height, setHeight] = useState(narrow.matches ? 66 : 44);
  useEffect(() => {
    const change = () => setHeight(narrow.matches ? 66 : 44);
    narrow.addEventListener('change', change);
    return () => narrow.removeEventListener('change', change);
  }, [narrow]);
  return height;
}

function Statuses({ counts, chosen, choose }) {
  return html`<div class="segments" role="group" aria-label="Status">
    ${statuses.map(([status, word, key]) => html`<button key=${key} type="button" class="segment" aria-pressed=${chosen === status}
      onClick=${() => choose(status)}>${word} <span class="num">${count(counts[key] ?? 0)}</span></button>`)}
  </div>`;
}

function Filters({ filter, setPart, problem }) {
  return html`<form class="filters" role="search" onSubmit=${(event) => event.preventDefault()}>
    <label class="field grow"><span class="unseen">Search devices</span>
      <input type="search" data-search value=${filter.q} placeholder="Search" spellcheck=${false} autocomplete="off"
        enterkeyhint="search" onInput=${(event) => setPart({ q: event.target.value })} /><kbd aria-hidden="true">/</kbd></label>
    <label class="field grow"><span class="unseen">Label selector</span>
      <input type="text" class="mono" name="selector" value=${filter.selector} placeholder="Labels: site=plant-7" spellcheck=${false} autocomplete="off"
        autocapitalize="off" aria-invalid=${Boolean(problem)} aria-describedby="selector-problem"
        onInput=${(event) => setPart({ selector: event.target.value })} /></label>
    <div id="selector-problem" class="selector-problem">${problem && html`<${Fault} problem=${problem} compact />`}</div>
  </form>`;
}

function Header({ filter, setPart }) {
  const column = (sort, word, name) => {
    const chosen = filter.sort === sort;
    return html`<div class=${name} role="columnheader" aria-sort=${chosen ? (filter.descending ? 'descending' : 'ascending') : 'none'}>
      <button type="button" class="sorter" onClick=${() => setPart({ sort, descending: chosen && !filter.descending })}>${word}<i aria-hidden="true">${chosen ? (filter.descending ? '↓' : '↑') : ''}</i></button></div>`;
  };
  return html`${column('id', 'Device', 'c-id')}${column('model', 'Model', 'c-model')}
    <div class="c-labels" role="columnheader">Labels</div><div class="c-values" role="columnheader">Last values</div>
    ${column('seen', 'Seen', 'c-seen')}`;
}

// Row is drawn again only when its device changed or its age reads differently.
class Row extends Component {
  shouldComponentUpdate(next) {
    return next.device !== this.props.device || next.rev !== this.props.rev || next.seen !== this.props.seen;
  }

  render({ device, seen, onLabel }) {
    const keys = measured(device);
    const fieldName = fieldNamer(keys);
    return html`
      <div class="c-id" role="gridcell"><${PresenceMark} device=${device} /><${Link} to=${devicePath(device.id)} class="device-id mono" tabindex="-1">${device.id}<//><${Flags} device=${device} /></div>
      <div class="c-model" role="gridcell"><span>${device.model ?? ''}</span> <span class="quiet num">${device.firmware ?? ''}</span></div>
      <div class="c-labels" role="gridcell">${Object.entries(device.labels ?? {}).map((label) => html`<button key=${label[0]} type="button" class="label" tabindex="-1"
        title=${`Only ${label[0]}=${label[1]}`} onClick=${(event) => { event.stopPropagation(); onLabel(label); }}><i>${label[0]}</i>${label[1]}</button>`)}</div>
      <div class="c-values" role="gridcell">${keys.slice(0, shownValues).map((key) => html`<span key=${key} class="reading"
        title=${key}><i>${fieldName(key)}</i><b class="num">${value(device.last[key].value)}</b></span>`)}</div>
      <div class="c-seen num" role="gridcell" title=${dateAndTime(device.last_seen)}>${seen}</div>`;
  }
}

function Nobody({ filter, clear }) {
  const filtered = filter.q || filter.selector || filter.status;
  return html`<div class="absent nobody">${filtered
    ? html`<p>No device matches.</p><button type="button" class="button" onClick=${clear}>Clear the filters</button>`
    : html`<p>No devices yet.</p><p class="quiet">Add one with <code>fairlead devices add ID</code>, or start simulated ones with <code>fairlead sim</code>.</p>`}</div>`;
}
