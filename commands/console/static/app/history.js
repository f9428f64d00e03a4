// History of a device's fields: fetched, then continued by live points.
import { get, query } from './api.js';
import { pointTime } from './fleet.js';

const second = 1000;
const minute = 60 * second;

// Each range asks for some hundreds of values a series: more than a chart has pixels is waste.
export const ranges = [
  { word: '5 min', from: '-5m', ms: 5 * minute, everyMs: 0 },
  { word: '1 hour', from: '-1h', ms: 60 * minute, every: '5s', everyMs: 5 * second },
  { word: '24 hours', from: '-24h', ms: 24 * 60 * minute, every: '2m', everyMs: 2 * minute },
  { word: '7 days', from: '-168h', ms: 7 * 24 * 60 * minute, every: '15m', everyMs: 15 * minute },
];

export const mostLines = 6; // lines of one field (it has one for each combination of tags)
const mostPoints = 10_000; // of a line, in memory
const gapFactor = 3.5; // how much longer than usual a pause is before it counts as a gap
const shortestGapMs = 3 * second;

// splitKey finds measurement and field of a key of `last`. Both may hold dots, so what a point said is believed first.
export function splitKey(key, seen) {
  if (seen?.has(key)) return seen.get(key);
  const dot = key.indexOf('.');
  return dot < 0 ? { measurement: 'telemetry', field: key } : { measurement: key.slice(0, dot), field: key.slice(dot + 1) };
}

// fetchHistory answers Map key -> [Line] for the fields with these keys.
export async function fetchHistory(device, keys, range, { seen, isBool, signal }) {
  const groups = new Map(); // one call for each measurement and function
  for (const key of keys) {
    const { measurement, field } = splitKey(key, seen);
    const fn = range.everyMs ? (isBool(key) ? 'last' : 'mean') : '';
    const name = `${fn} ${measurement}`;
    if (!groups.has(name)) groups.set(name, { fn, measurement, fields: [] });
    groups.get(name).fields.push(field);
  }
  const lines = new Map(keys.map((key) => [key, []]));
  await Promise.all([...groups.values()].map(async ({ fn, measurement, fields }) => {
    const answer = await get(`/devices/${encodeURIComponent(device)}/telemetry${query({
      measurement, fields: fields.join(','), from: range.from, to: 'now', every: range.every, fn,
    })}`, { signal });
    for (const series of answer.series ?? []) {
      const key = `${series.measurement ?? measurement}.${series.field}`;
      const into = lines.get(key);
      if (into && into.length < mostLines) into.push(new Line(series.tags, series.times, series.values, range.everyMs));
    }
  }));
  return lines;
}

// Line is one line of a chart: times ascending, values numbers.
export class Line {
  constructor(tags, times = [], values = [], everyMs = 0) {
    this.tags = ownTags(tags);
    // Empty steps are no values; how long a pause is decides what is a gap.
    const kept = times.map((time, i) => [time, asNumber(values[i])]).filter(([, v]) => v !== null);
    this.times = kept.map(([time]) => time);
    this.values = kept.map(([, v]) => v);
    this.everyMs = everyMs;
    this.bucket = { from: 0, sum: 0, n: 0 };
  }

  get name() { return Object.entries(this.tags).map(([name, text]) => `${name}=${text}`).join(' '); }

  // add continues the line by a live value. Where history is averaged, so is what comes live.
  add(time, v, boolean) {
    const number = asNumber(v);
    if (number === null) return;
    const last = this.times.length - 1;
    if (!this.everyMs) {
      if (time > (this.times[last] ?? 0)) this.#push(time, number);
      return;
    }
    const from = time - (time % this.everyMs);
    if (this.bucket.from !== from) {
      if (from < this.bucket.from) return;
      this.bucket = { from, sum: 0, n: 0 };
    }
    this.bucket.sum += number;
    this.bucket.n++;
    const shown = boolean ? number : this.bucket.sum / this.bucket.n;
    if (this.times[last] === from) this.values[last] = shown;
    else if (from > (this.times[last] ?? 0)) this.#push(from, shown);
  }

  #push(time, number) {
    this.times.push(time);
    this.values.push(number);
    if (this.times.length > mostPoints) {
      this.times.shift();
      this.values.shift();
    }
  }

  // cut forgets what has left the chart.
  cut(before) {
    let n = 0;
    while (n < this.times.length && this.times[n] < before) n++;
    if (n > 0) {
      this.times.splice(0, n);
      this.values.splice(0, n);
    }
  }

  // withGaps is [times in seconds, values] with a null wherever the device was silent for longer than is usual for it, so
  // that no line is drawn through a time of which nothing is known. A switch keeps its position until it changes, so its
  // line is stepped: the old value once more, just before the new one.
  withGaps(stepped) {
    const limit = this.#gapLimit();
    const xs = [];
    const ys = [];
    for (let i = 0; i < this.times.length; i++) {
      if (i > 0 && this.times[i] - this.times[i - 1] > limit) {
        xs.push((this.times[i - 1] + this.times[i]) / 2 / second);
        ys.push(null);
      } else if (stepped && i > 0 && this.values[i] !== this.values[i - 1]) {
        xs.push((this.times[i] - 0.5) / second);
        ys.push(this.values[i - 1]);
      }
      xs.push(this.times[i] / second);
      ys.push(this.values[i]);
    }
    return [xs, ys];
  }

  #gapLimit() {
    const pauses = [];
    for (let i = 1; i < this.times.length; i++) pauses.push(this.times[i] - this.times[i - 1]);
    pauses.sort((a, b) => a - b);
    const usual = pauses[pauses.length >> 1] ?? 0;
    return Math.max(usual * gapFactor, this.everyMs * 1.5, shortestGapMs);
  }
}

// The hub's own tag says nothing on the device's own page.
function ownTags(tags = {}) {
  const { device, ...rest } = tags;
  return rest;
}

function asNumber(v) {
  if (typeof v === 'number') return v;
  if (typeof v === 'boolean') return v ? 1 : 0;
  return null;
}

// addPoint continues the lines of a device by one live point.
export function addPoint(lines, point, range) {
  const time = pointTime(point);
  const tags = ownTags(point.tags);
  for (const [field, v] of Object.entries(point.fields ?? {})) {
    const of = lines.get(`${point.measurement ?? 'telemetry'}.${field}`);
    if (!of || typeof v === 'string') continue;
    let line = of.find((candidate) => matches(tags, candidate.tags));
    if (!line && of.length < mostLines) of.push(line = new Line(tags, [], [], range.everyMs));
    line?.add(time, v, typeof v === 'boolean');
  }
}

// History also carries the labels of the device's record as tags, which live points may not: the tags of the point decide.
function matches(pointTags, lineTags) {
  return Object.entries(pointTags).every(([name, text]) => lineTags[name] === text);
}
