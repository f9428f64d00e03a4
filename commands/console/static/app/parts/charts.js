// The strips of a device page: which fields, how far back, and the history behind them.
import { html, useEffect, useMemo, useRef, useState } from '../html.js';
import { addPoint, fetchHistory, ranges } from '../history.js';
import { measured } from '../fleet.js';
import { fieldNamer, natural } from '../format.js';
import { on, onSubscribed } from '../live.js';
import { Topic } from '../topic.js';
import { Chart } from './chart.js';
import { Absent, Fault } from './notice.js';

const shownAtFirst = 4;
const mostStrips = 12;
const drawEveryMs = 200;

export const plottable = (v) => typeof v === 'number' || typeof v === 'boolean';

export function Charts({ device, commands }) {
  const [range, setRange] = useState(ranges[0]);
  const keys = measured(device).filter((key) => plottable(device.last[key].value));
  const [picked, setPicked] = useState(null); // null: the first few
  const chosen = (picked ?? keys.slice(0, shownAtFirst)).filter((key) => keys.includes(key));
  const { lines, problem, again, grown } = useLines(device, chosen, range);
  const fieldName = fieldNamer(measured(device));
  const marks = useMemo(() => (commands ?? []).map((command) => ({ time: command.created, name: command.name })), [commands]);
  const pick = (key) => setPicked(chosen.includes(key) ? chosen.filter((k) => k !== key) : [...chosen, key].sort(natural.compare).slice(-mostStrips));

  if (!keys.length) return html`<div class="absent"><p>Nothing to draw yet: no number or switch has come from this device.</p></div>`;
  return html`<section class="charts">
    <div class="charts-head"><h2>Measured</h2>
      <div class="segments" role="group" aria-label="How far back">${ranges.map((r) => html`<button key=${r.word} type="button" class="segment"
        aria-pressed=${r === range} onClick=${() => setRange(r)}>${r.word}</button>`)}</div></div>
    ${keys.length > 1 && html`<div class="choices" role="group" aria-label="Fields">${keys.map((key) => html`<button key=${key} type="button" class="choice" title=${key}
      aria-pressed=${chosen.includes(key)} onClick=${() => pick(key)}>${fieldName(key)}</button>`)}</div>`}
    ${problem && (problem.missing ? html`<${Absent} what="history; what is drawn begins now" />` : html`<${Fault} problem=${problem} retry=${again} compact />`)}
    <div class="strips">${chosen.map((key) => html`<${Chart} key=${key} field=${key} name=${fieldName(key)} lines=${lines.get(key) ?? none} range=${range} changes=${grown}
      boolean=${typeof device.last[key].value === 'boolean'} marks=${marks} />`)}</div>
    ${!chosen.length && html`<p class="quiet">Pick a field to draw it.</p>`}
  </section>`;
}

const none = [];

// useLines fetches the history of the chosen fields and continues it by what comes live.
function useLines(device, chosen, range) {
  const [lines, setLines] = useState(new Map());
  const [problem, setProblem] = useState(null);
  const [turn, setTurn] = useState(0);
  const grown = useMemo(() => new Topic(drawEveryMs), []);
  const seen = useRef(new Map()); // key -> {measurement, field}, as points named them
  const current = useRef(lines);
  const waiting = useRef(null); // points that came while history was on its way
  const names = chosen.join(' ');

  useEffect(() => {
    if (!chosen.length) return undefined;
    const fetching = new AbortController();
    waiting.current = [];
    const isBool = (key) => typeof device.last[key]?.value === 'boolean';
    fetchHistory(device.id, chosen, range, { seen: seen.current, isBool, signal: fetching.signal })
      .then((found) => { setProblem(null); return found; })
      .catch((fault) => {
        if (fetching.signal.aborted) return null;
        setProblem(fault);
        return new Map(chosen.map((key) => [key, []])); // live points are drawn all the same
      })
      .then((found) => {
        if (!found) return;
        for (const point of waiting.current ?? []) addPoint(found, point, range);
        waiting.current = null;
        current.current = found;
        setLines(found);
      });
    return () => { fetching.abort(); waiting.current = null; };
  }, [device.id, names, range, turn]);

  useEffect(() => {
    const again = () => setTurn((n) => n + 1);
    const forget = [onSubscribed((back) => { if (back) again(); }), on('telemetry', (event) => {
      if (event.device !== device.id) return;
      for (const point of event.points ?? []) {
        const measurement = point.measurement ?? 'telemetry';
        for (const field of Object.keys(point.fields ?? {})) seen.current.set(`${measurement}.${field}`, { measurement, field });
        waiting.current?.push(point);
        addPoint(current.current, point, range);
      }
      grown.changed();
    })];
    return () => { for (const stop of forget) stop(); };
  }, [device.id, range]);

  return { lines, problem, again: () => setTurn((n) => n + 1), grown };
}
