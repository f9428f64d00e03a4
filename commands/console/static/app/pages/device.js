// One device: what it measures, whether it is there, what can be done with it and what was done.
import { html, useEffect, useMemo, useRef, useState } from '../html.js';
import { hubNow } from '../api.js';
import { announce } from '../announce.js';
import { applyPoints, applyPresence, fleet, measured } from '../fleet.js';
import { useFetched } from '../fetched.js';
import { ago, dateAndTime, fieldNamer, value } from '../format.js';
import { knownUntil, on, values } from '../live.js';
import { shownOrders, useOrders } from '../orders.js';
import { Link } from '../route.js';
import { labelTerm } from '../selector.js';
import { Topic, useClock, useTopic } from '../topic.js';
import { Charts, plottable } from '../parts/charts.js';
import { CommandForm } from '../parts/commandform.js';
import { Lease } from '../parts/lease.js';
import { Absent, Fault, Waiting } from '../parts/notice.js';
import { PresenceLine, PresenceMark, statusWord, Troubles } from '../parts/presence.js';
import { CommandCard } from '../parts/timeline.js';
import { Trace } from '../parts/trace.js';
import { Twin } from '../parts/twin.js';

const refreshMs = 60_000;

export function DevicePage({ id }) {
  const { device, problem, again, changes } = useDevice(id);
  useTopic(changes);
  useClock(1000);
  const orders = useOrders(id);
  if (!device) {
    return html`<div class="page"><${Crumb} id=${id} />
      ${problem ? html`<${Fault} problem=${problem} retry=${again} />` : html`<${Waiting} what="the device" />`}</div>`;
  }
  const now = hubNow();
  return html`<div class="page device">
    <${Crumb} id=${id} />
    <header class="device-head">
      <h1><${PresenceMark} device=${device} /><span class="mono">${id}</span></h1>
      <${PresenceLine} device=${device} now=${knownUntil()} />
      <${Troubles} device=${device} now=${now} />
      <${About} device=${device} now=${now} />
    </header>
    ${problem && html`<${Fault} problem=${problem} retry=${again} />`}
    <div class="device-body">
      <section class="device-main" aria-label="Measurements">
        <${Charts} device=${device} commands=${orders.commands} />
        <${Latest} device=${device} now=${now} />
        <${Twin} id=${id} />
        <${Trace} key=${id} id=${id} />
      </section>
      <section class="device-side" aria-label="Commands">
        <h2>Who may command</h2>
        <${Lease} key=${id} device=${device} now=${now} onDone=${again} />
        <h2>Send a command</h2>
        <${CommandForm} key=${id} device=${device} onSent=${orders.take} onRefused=${again} />
        <h2>Recent commands</h2>
        <${Orders} device=${id} orders=${orders} now=${now} />
      </section>
    </div>
  </div>`;
}

// useDevice fetches the device and keeps it up by live events; the fleet's copy is shown until the answer is there.
function useDevice(id) {
  const changes = useMemo(() => new Topic(200), [id]);
  const device = useRef(null);
  if (device.current?.id !== id) device.current = fleet.devices.get(id) ?? null;
  const { answer, problem, again } = useFetched(`/devices/${encodeURIComponent(id)}`, refreshMs);
  const fetched = useRef(null);
  if (answer && answer !== fetched.current) {
    fetched.current = answer;
    device.current = { ...answer, rivals: device.current?.rivals, last: { ...answer.last, ...newer(device.current?.last, answer.last) } };
  }
  useEffect(() => {
    values.want({ devices: [id], events: ['telemetry', 'state'] });
    const forget = [
      on('telemetry', (event) => {
        if (event.device !== id || !device.current) return;
        applyPoints(device.current, event.points);
        changes.changed();
      }),
      on('presence', (event) => {
        if (event.device !== id || !device.current) return;
        applyPresence(device.current, event);
        announce(`${id} is ${statusWord(device.current)}`);
        changes.now();
        again(); // session, node and announced commands may be others now
      }),
      on('identity_conflict', (event) => {
        if (event.device !== id || !device.current) return;
        Object.assign(device.current, { conflict: true, flaps: event.flaps, rivals: event.addresses });
        announce(`${id} is in conflict with another device of its identity`);
        changes.now();
      }),
    ];
    return () => {
      for (const stop of forget) stop();
      values.want(null);
    };
  }, [id, again]);
  return { device: device.current, problem, again, changes };
}

function newer(known = {}, answered = {}) {
  return Object.fromEntries(Object.entries(known).filter(([key, last]) => last.time > (answered[key]?.time ?? 0)));
}

function Crumb({ id }) {
  return html`<nav class="crumb" aria-label="Where this is"><${Link} to="">Fleet<//><span aria-hidden="true">/</span><span class="mono" aria-current="page">${id}</span></nav>`;
}

function About({ device, now }) {
  const facts = [
    ['Model', device.model], ['Firmware', device.firmware, 'num'], ['Last seen', device.last_seen && ago(device.last_seen, now), 'num', dateAndTime(device.last_seen)],
    ['Node', device.node, 'mono'], ['Session', device.session, 'mono'],
  ].filter(([, text]) => text);
  const labels = Object.entries(device.labels ?? {});
  return html`<dl class="facts">${facts.map(([name, text, kind, title]) => html`<div key=${name}><dt>${name}</dt><dd class=${kind} title=${title}>${text}</dd></div>`)}
    ${labels.length > 0 && html`<div><dt>Labels</dt><dd class="label-list">${labels.map(([name, text]) => html`<${Link} key=${name} class="label"
      to=${`?selector=${encodeURIComponent(labelTerm([name, text]))}`}><i>${name}</i>${text}<//>`)}</dd></div>`}</dl>`;
}

function Latest({ device, now }) {
  const keys = measured(device);
  if (!keys.length) return null;
  const fieldName = fieldNamer(keys);
  return html`<section class="latest"><h2>Latest values</h2>
    <table><thead><tr><th scope="col">Field</th><th scope="col">Value</th><th scope="col">Measured</th></tr></thead>
      <tbody>${keys.map((key) => html`<tr key=${key}><th scope="row" title=${key}>${fieldName(key)}</th>
        <td class=${plottable(device.last[key].value) ? 'num' : 'text'}>${value(device.last[key].value)}</td>
        <td class="num quiet" title=${dateAndTime(device.last[key].time)}>${ago(device.last[key].time, now)}</td></tr>`)}</tbody></table>
  </section>`;
}

function Orders({ device, orders, now }) {
  const { commands, problem, fetchAll, fetchOne } = orders;
  const [folded, setFolded] = useState(new Map()); // id -> open, where the operator said so
  if (problem?.missing) return html`<${Absent} what="a list of commands" />`;
  if (!commands) return problem ? html`<${Fault} problem=${problem} retry=${fetchAll} />` : html`<${Waiting} what="commands" />`;
  if (!commands.length) return html`<p class="quiet">Nothing was sent to this device so far.</p>`;
  return html`${problem && html`<${Fault} problem=${problem} retry=${fetchAll} />`}
    <div class="commands">${commands.map((command, i) => {
      const open = folded.get(command.id) ?? i === 0;
      const toggle = () => {
        setFolded(new Map(folded).set(command.id, !open));
        if (!open) fetchOne(command.id);
      };
      return html`<${CommandCard} key=${command.id} command=${command} now=${now} open=${open} onToggle=${toggle} />`;
    })}</div>
    ${commands.length === shownOrders && html`<p><${Link} to=${`commands?device=${encodeURIComponent(device)}`}>Older commands of this device<//></p>`}`;
}
