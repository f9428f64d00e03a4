// One field over time: a strip of paper that runs on. uPlot draws it; several strips share one cursor.
import { html, useEffect, useLayoutEffect, useRef, useState } from '../html.js';
import { hubNow } from '../api.js';
import { moment, timeExact, value } from '../format.js';
import { theme } from '../theme.js';
import { useTopic } from '../topic.js';
import uPlot from '../../vendor/uplot/uplot.js';

const height = 132;
const cursor = uPlot.sync('device');
const quietMotion = matchMedia('(prefers-reduced-motion: reduce)');

// Chart draws lines (Line[]) over range; changes tells it that they grew; marks are commands to note on the paper.
export function Chart({ field, name, lines, range, changes, boolean, marks }) {
  useTopic(theme.changes);
  const paper = useRef(null);
  const plot = useRef(null);
  const notes = useRef(marks);
  notes.current = marks;
  const [under, setUnder] = useState(null); // the value under the cursor
  const dark = theme.dark;
  const shape = lines.map((line) => line.name).join('|');

  useLayoutEffect(() => {
    const made = new uPlot(options(paper.current, { lines, boolean, notes, setUnder }), data(lines, boolean), paper.current);
    plot.current = made;
    const observer = new ResizeObserver(() => {
      const width = paper.current.clientWidth;
      if (width > 0 && width !== made.width) made.setSize({ width, height });
    });
    observer.observe(paper.current);
    return () => {
      observer.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [lines, shape, dark, boolean]);

  useEffect(() => {
    const draw = () => {
      const now = hubNow();
      for (const line of lines) line.cut(now - range.ms - 2 * line.everyMs);
      plot.current?.batch(() => {
        plot.current.setData(data(lines, boolean), false);
        plot.current.setScale('x', { min: (now - range.ms) / 1000, max: now / 1000 });
      });
    };
    draw();
    const forget = changes.watch(draw);
    // The paper runs on also when nothing comes: silence has to be seen.
    const timer = setInterval(() => { if (!document.hidden) draw(); }, quietMotion.matches ? 5000 : Math.max(1000, range.ms / 1000));
    return () => { forget(); clearInterval(timer); };
  }, [lines, range, changes, shape, dark, boolean]);

  const latest = under ?? newest(lines);
  return html`<figure class="strip" data-field=${field}>
    <figcaption><span class="strip-name">${name}</span>
      ${latest && html`<span class="strip-value num">${boolean ? value(Boolean(latest.value)) : value(latest.value)}</span>`}
      ${under && html`<span class="strip-time num">${range.everyMs ? moment(under.time, hubNow()) : timeExact(under.time)}</span>`}
      ${lines.length > 1 && html`<span class="strip-legend">${lines.map((line, i) => html`<span key=${line.name} class="legend" data-line=${i}>${line.name || 'no tags'}</span>`)}</span>`}
    </figcaption>
    <div class="paper" ref=${paper} role="img" aria-label=${summary(name, lines, range)}></div>
    ${!lines.some((line) => line.times.length) && html`<p class="strip-empty">Nothing was stored in this time.</p>`}
  </figure>`;
}

// data aligns the lines on one time axis.
function data(lines, boolean) {
  const tables = lines.map((line) => line.withGaps(boolean));
  if (!tables.length) return [[], []];
  return tables.length === 1 ? tables[0] : uPlot.join(tables);
}

function newest(lines) {
  let found = null;
  for (const line of lines) {
    const time = line.times.at(-1);
    if (time && time > (found?.time ?? 0)) found = { time, value: line.values.at(-1) };
  }
  return found;
}

function summary(name, lines, range) {
  const all = lines.flatMap((line) => line.values).filter((v) => v !== null);
  if (!all.length) return `${name}, last ${range.word}: no values`;
  let least = Infinity;
  let most = -Infinity;
  for (const v of all) {
    least = Math.min(least, v);
    most = Math.max(most, v);
  }
  return `${name}, last ${range.word}: from ${value(least)} to ${value(most)}, now ${value(newest(lines).value)}`;
}

function options(element, { lines, boolean, notes, setUnder }) {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour('--ink-3'), font: `11px ${style.fontFamily}`,
    grid: { stroke: colour('--grid'), width: 1 }, ticks: { show: false },
  };
  return {
    width: Math.max(1, element.clientWidth),
    height,
    padding: [8, 4, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: cursor.key, setSeries: false }, drag: { x: false, y: false }, y: false, points: { size: 7, width: 1.5 } },
    scales: { x: { time: true }, y: boolean ? { range: [-0.15, 1.15] } : { range: calmRange } },
    axes: [
      { ...axis, size: 24, gap: 4, space: (u, index, min, max, wide) => (wide < 420 ? 46 : 72), values: clockTicks },
      { ...axis, size: 52, gap: 6, space: 30, ...(boolean ? { splits: () => [0, 1], values: () => ['off', 'on'] } : { values: (u, ticks) => ticks.map(tick) }) },
    ],
    series: [{}, ...lines.map((line, i) => ({
      stroke: colour(`--line-${i}`), width: 1.6, spanGaps: false,
      fill: lines.length === 1 ? colour('--line-fill') : undefined,
      points: { show: true, size: 4, fill: colour(`--line-${i}`), filter: lonely },
    }))],
    hooks: {
      setCursor: [(u) => setUnder(atCursor(u))],
      draw: [(u) => drawMarks(u, notes.current, colour('--mark'))],
    },
  };
}

// A flat signal must look flat: the scale is never narrower than a hundredth of the value.
function calmRange(u, least, most) {
  if (least === null || most === null) return [0, 1];
  const middle = (least + most) / 2;
  const half = Math.max((most - least) / 2, Math.abs(middle) * 0.005, 1e-6) * 1.15;
  return [middle - half, middle + half];
}

const compact = new Intl.NumberFormat(undefined, { notation: 'compact', maximumSignificantDigits: 4 });

// tick writes a value of an axis in little room, but never so short that it reads like the next one: calmRange keeps them
// so far apart that four digits tell them.
export function tick(v) {
  if (v === null) return '';
  const size = Math.abs(v);
  if (size >= 1e15 || (size < 1e-3 && size > 0)) return Number(v.toPrecision(4)).toExponential();
  if (size >= 1e6) return compact.format(v);
  return String(Number(v.toPrecision(5)));
}

const hourAndMinute = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const minuteAndSecond = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayOnly = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric' });

function clockTicks(u, splits, axisIndex, space, step) {
  return splits.map((split) => {
    const time = split * 1000;
    if (step >= 86_400) return dayOnly.format(time);
    if (new Date(time).getHours() === 0 && new Date(time).getMinutes() === 0 && step >= 3600) return dayOnly.format(time);
    return (step < 60 ? minuteAndSecond : hourAndMinute).format(time);
  });
}

// lonely picks the points that no line touches: between two gaps they would not be seen at all.
function lonely(u, seriesIndex) {
  const ys = u.data[seriesIndex];
  const found = [];
  for (let i = 0; i < ys.length; i++) {
    if (ys[i] != null && ys[i - 1] == null && ys[i + 1] == null) found.push(i);
  }
  return found;
}

function atCursor(u) {
  const index = u.cursor.idx;
  if (index === null || index === undefined || u.cursor.left < 0) return null;
  for (let s = 1; s < u.data.length; s++) {
    if (u.data[s][index] != null) return { time: u.data[0][index] * 1000, value: u.data[s][index] };
  }
  return null;
}

// drawMarks notes each command as a thin upright line: what was done beside what it did.
function drawMarks(u, marks, colour) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.fillStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  for (const { time } of marks) {
    const x = Math.round(u.valToPos(time / 1000, 'x', true)) + 0.5;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    const size = 3.5 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x - size, bbox.top);
    ctx.lineTo(x + size, bbox.top);
    ctx.lineTo(x, bbox.top + size * 1.4);
    ctx.fill();
  }
  ctx.restore();
}
