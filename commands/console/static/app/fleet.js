// The fleet as this browser knows it: fetched page by page, then kept up by live events.
import { get, hubNow, query } from './api.js';
import { natural } from './format.js';
import { on, onSubscribed } from './live.js';
import { Topic } from './topic.js';

const pageSize = 1000;
export const mostDevices = 20_000; // beyond it the filters are asked of the hub instead
const drawEveryMs = 250;
const refreshSoonMs = 2_000;
const freshMs = 60_000; // presence and values in view come live; a list as old as this is fetched again
const freshLargeMs = 300_000; // ... and one of several pages
const presenceOf = ['status', 'cause', 'since', 'silent', 'silent_since', 'conflict', 'flaps'];

class Fleet {
  changes = new Topic(drawEveryMs);
  devices = new Map();
  state = 'empty'; // empty | loading | ready | failed
  problem = null;
  whole = true; // false: there are more than mostDevices
  shape = 0; // grows when the list could look different: members, presence, labels; not for mere values

  #asked = { selector: '' };
  #told = new Set(); // devices whose presence changed while an answer was on its way
  #loadedAt = 0;
  #loading = null;
  #refreshTimer = 0;

  // load fetches what matches; what is shown stays until the answer is there.
  async load(asked) {
    this.#asked = asked;
    this.#loading?.abort();
    const loading = new AbortController();
    this.#loading = loading;
    this.#told.clear();
    this.state = this.devices.size ? this.state : 'loading';
    this.changes.now();
    try {
      await this.#fetch(asked, loading.signal);
    } catch (problem) {
      if (loading.signal.aborted) return;
      this.problem = problem;
      this.state = 'failed';
      this.changes.now();
    }
  }

  // ensure loads, unless just that was loaded lately.
  ensure(asked) {
    const same = JSON.stringify(asked) === JSON.stringify(this.#asked);
    if (!same || this.state !== 'ready' || this.stale) this.load(asked);
  }

  get stale() { return Date.now() - this.#loadedAt > (this.devices.size > pageSize ? freshLargeMs : freshMs); }

  refresh() { return this.load(this.#asked); }

  // refreshSoon gathers many reasons to fetch again into one fetch.
  refreshSoon() {
    if (this.#refreshTimer || this.state === 'empty') return;
    this.#refreshTimer = setTimeout(() => { this.#refreshTimer = 0; this.refresh(); }, refreshSoonMs);
  }

  forget() {
    this.#loading?.abort();
    clearTimeout(this.#refreshTimer);
    this.#refreshTimer = 0;
    this.devices = new Map();
    this.state = 'empty';
    this.problem = null;
  }

  async #fetch(asked, signal) {
    const found = new Map();
    let cursor;
    do {
      const page = await get(`/devices${query({ ...asked, limit: pageSize, cursor })}`, { signal });
      for (const device of page.devices ?? []) found.set(device.id, this.#taken(device));
      cursor = page.cursor;
      // The first page of the first load is shown at once.
      if (cursor && this.state === 'loading') this.#show(found);
    } while (cursor && found.size < mostDevices);
    this.whole = !cursor;
    this.#show(found);
    this.problem = null;
    this.state = 'ready';
    this.#loadedAt = Date.now();
    this.changes.now();
  }

  #show(found) {
    this.devices = new Map(found);
    this.shape++;
    this.changes.changed();
  }

  // taken keeps what live events said after the hub wrote its answer.
  #taken(device) {
    const known = this.devices.get(device.id);
    device.rev = (known?.rev ?? 0) + 1;
    device.last ??= {};
    for (const [key, last] of Object.entries(known?.last ?? {})) {
      if (!(device.last[key]?.time > last.time)) device.last[key] = last;
    }
    if (known?.last_seen > (device.last_seen ?? 0)) device.last_seen = known.last_seen;
    if (this.#told.has(device.id) && known?.since > (device.since ?? 0)) for (const name of presenceOf) device[name] = known[name];
    return device;
  }

  presence(event) {
    const device = this.devices.get(event.device);
    if (!device) {
      // Somebody new, unless only a part of the fleet was asked for.
      if (this.whole && !this.#asked.selector) this.refreshSoon();
      return;
    }
    applyPresence(device, event);
    this.#told.add(event.device);
    this.shape++;
    this.changes.changed();
  }

  telemetry(event) {
    const device = this.devices.get(event.device);
    if (!device) return;
    applyPoints(device, event.points);
    this.changes.changed();
  }

  // counts by status, of all that is loaded.
  counts() {
    const counts = { all: this.devices.size, online: 0, offline: 0, never: 0 };
    for (const device of this.devices.values()) counts[device.status] = (counts[device.status] ?? 0) + 1;
    return counts;
  }
}

export function applyPresence(device, { status, cause, since, silent, silent_since: silentSince, conflict, flaps }) {
  Object.assign(device, { silent: Boolean(silent), silent_since: silentSince, conflict: Boolean(conflict), flaps });
  device.status = status;
  device.cause = cause;
  device.since = since ?? hubNow();
  if (status === 'online') device.last_seen = Math.max(device.last_seen ?? 0, device.since);
  device.rev = (device.rev ?? 0) + 1;
}

// pointTime is a point's time in Unix milliseconds.
export function pointTime(point) {
  if (typeof point.time === 'number') return point.time;
  return Date.parse(point.time) || hubNow();
}

export function applyPoints(device, points = []) {
  device.last ??= {};
  for (const point of points) {
    const time = pointTime(point);
    for (const [field, value] of Object.entries(point.fields ?? {})) {
      const key = `${point.measurement ?? 'telemetry'}.${field}`;
      if (!(device.last[key]?.time > time)) device.last[key] = { time, value };
    }
  }
  device.last_seen = hubNow();
  device.rev = (device.rev ?? 0) + 1;
}

// measured are the keys of what a device measured: the hub's own notes of commands stand in the time line.
export const measured = (device) => Object.keys(device.last ?? {}).filter((key) => !key.startsWith('command.')).sort(natural.compare);

export const fleet = new Fleet();

on('presence', (event) => fleet.presence(event));
on('telemetry', (event) => fleet.telemetry(event));
// At first a large fleet is left as it was fetched a moment ago: that was thousands of devices.
// After a break it is fetched at once: it is called live again, and shows what was.
onSubscribed((again) => {
  if (again && fleet.state !== 'empty') fleet.refresh();
  else if (fleet.devices.size <= pageSize) fleet.refreshSoon();
});
