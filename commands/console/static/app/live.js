// The live link: a WebSocket that is always being had or being got back, and that says which.
import { get, hubNow } from './api.js';
import { Topic } from './topic.js';

const subprotocol = 'fairlead.live.v1';
const firstRetryMs = 500;
const longestRetryMs = 30_000;
const openWithinMs = 10_000;
const quietMs = 15_000; // after so long without a frame the hub is asked whether it is still there
const lingerMs = 1_000; // how long a link that nobody wants is kept for the next page
const steadyMs = 5_000; // a link that held so long has earned a fresh start of the back-off

class LiveLink {
  changes = new Topic();
  up = false;
  downSince = 0;
  retryAt = 0;

  #socket = null;
  #wanted = null; // what to subscribe to; null: nothing, and no socket
  #attempt = 0;
  #retryTimer = 0;
  #openTimer = 0;
  #quietTimer = 0;
  #lingerTimer = 0;
  #openedAt = 0;
  #again = false; // the link was lost before
  #heard = false; // the hub has taken the subscription of this link
  #lastFrame = 0;

  constructor({ onEvent, onTaken }) {
    this.onEvent = onEvent;
    this.onTaken = onTaken;
  }

  get wanted() { return this.#wanted !== null; }

  // want replaces the subscription. Asking for nothing closes the link, if nothing else is asked for soon.
  want(subscription) {
    const text = subscription && JSON.stringify({ subscribe: subscription });
    if (text === this.#wanted) return;
    this.#wanted = text;
    clearTimeout(this.#lingerTimer);
    if (!text) this.#lingerTimer = setTimeout(() => this.#stop(), lingerMs);
    else if (this.up) this.#socket.send(text);
    else if (!this.#socket && !this.#retryTimer) this.#open();
  }

  // retryNow is for the operator who does not want to wait, and for a network that came back.
  retryNow() {
    if (!this.#wanted || this.#socket) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#open();
  }

  // dropped is told when the browser knows that there is no network: waiting for TCP to notice takes minutes.
  dropped() { if (this.#socket) this.#lost(this.#socket); }

  #open() {
    this.retryAt = 0;
    const socket = new WebSocket(`${window.location.origin.replace(/^http/, 'ws')}/api/v1/live`, [subprotocol]);
    this.#socket = socket;
    this.#openTimer = setTimeout(() => this.#lost(socket), openWithinMs);
    socket.onopen = () => this.#opened(socket);
    socket.onmessage = (message) => this.#received(message.data);
    socket.onclose = () => this.#lost(socket);
    this.changes.changed();
  }

  #opened(socket) {
    if (socket !== this.#socket) return;
    clearTimeout(this.#openTimer);
    this.#again = this.downSince !== 0;
    this.#heard = false;
    this.up = true;
    this.downSince = 0;
    this.#openedAt = Date.now();
    this.#lastFrame = Date.now();
    this.#quietTimer = setInterval(() => this.#checkQuiet(socket), quietMs / 2);
    socket.send(this.#wanted);
    this.changes.now();
  }

  #received(data) {
    this.#lastFrame = Date.now();
    let event;
    try {
      event = JSON.parse(data);
    } catch {
      return; // not ours to repair; the hub sends JSON
    }
    if (!event || typeof event !== 'object') return;
    this.onEvent(event);
    if (event.event !== 'subscribed' || this.#heard) return;
    this.#heard = true;
    this.onTaken(this.#again);
  }

  // A socket can be dead without a close for as long as TCP likes, so silence is followed by a question.
  async #checkQuiet(socket) {
    if (Date.now() - this.#lastFrame < quietMs) return;
    try {
      await get('/session', { waitMs: 10_000 });
      this.#lastFrame = Date.now();
    } catch (problem) {
      if (problem.unreachable) this.#lost(socket, hubNow() - (Date.now() - this.#lastFrame)); // it was lost when it fell silent
    }
  }

  #lost(socket, since = hubNow()) {
    if (socket !== this.#socket) return;
    this.#release();
    if (!this.#wanted) return;
    if (this.#openedAt && Date.now() - this.#openedAt > steadyMs) this.#attempt = 0;
    this.#openedAt = 0;
    this.downSince ||= since;
    const ceiling = Math.min(longestRetryMs, firstRetryMs * 2 ** this.#attempt++);
    const waitMs = ceiling / 2 + Math.random() * ceiling / 2;
    this.retryAt = Date.now() + waitMs;
    this.#retryTimer = setTimeout(() => { this.#retryTimer = 0; this.#open(); }, waitMs);
    this.changes.now();
    // A refused upgrade has no status here; the session call says whether we are still signed in.
    get('/session').catch(() => {});
  }

  #stop() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = 0;
    this.#release();
    this.downSince = 0;
    this.retryAt = 0;
    this.#attempt = 0;
    this.changes.changed();
  }

  #release() {
    clearTimeout(this.#openTimer);
    clearInterval(this.#quietTimer);
    const socket = this.#socket;
    this.#socket = null;
    this.up = false;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }
}

const listeners = new Map(); // event name -> set of functions
const taken = new Set();

// refusals is what the hub said of a subscription that it could not take.
export const refusals = { changes: new Topic(), message: '' };

export const gaps = { changes: new Topic(200), dropped: 0, dismissed: 0 };

// on calls the function with each event of that name until the returned function is called.
export function on(name, told) {
  if (!listeners.has(name)) listeners.set(name, new Set());
  listeners.get(name).add(told);
  return () => listeners.get(name).delete(told);
}

// onSubscribed is called when the hub has taken the subscription of a new link: what was fetched before may be out of date,
// and no event will say so. It is told whether a link was there before and lost.
export function onSubscribed(told) {
  taken.add(told);
  return () => taken.delete(told);
}

function dispatch(event) {
  if (event.event === 'gap') {
    gaps.dropped += event.dropped ?? 0;
    gaps.changes.changed();
  } else if (event.event === 'error' || event.event === 'subscribed') {
    refusals.message = event.message ?? '';
    refusals.changes.now();
  }
  for (const told of listeners.get(event.event) ?? []) told(event);
}

const tell = (again) => { for (const told of taken) told(again); };

// Two links, because they want different devices: what few things happen to all of the fleet (who is on line, what
// became of a command), and the stream of values of the devices that are in view.
export const watch = new LiveLink({ onEvent: dispatch, onTaken: tell });
export const values = new LiveLink({ onEvent: dispatch, onTaken: (again) => { if (again) tell(again); } });
const links = [watch, values];

export const everything = { devices: ['*'], events: ['presence', 'command'] };

// linkState is what the operator is told: the worse of the two.
export function linkState() {
  const wanted = links.filter((link) => link.wanted);
  if (!wanted.length) return { state: 'idle' };
  if (wanted.every((link) => link.up)) return { state: 'up' };
  const down = wanted.filter((link) => link.downSince);
  if (!down.length) return { state: 'opening' };
  const retries = down.map((link) => link.retryAt).filter(Boolean);
  return {
    state: 'down',
    since: Math.min(...down.map((link) => link.downSince)),
    retryAt: retries.length ? Math.min(...retries) : 0,
  };
}

// knownUntil is the time up to which it is known who is on line: now, unless the link is down.
export function knownUntil() {
  const link = linkState();
  return link.state === 'down' ? link.since : hubNow();
}

export function retryNow() { for (const link of links) link.retryNow(); }

window.addEventListener('online', retryNow);
window.addEventListener('offline', () => { for (const link of links) link.dropped(); });
document.addEventListener('visibilitychange', () => { if (!document.hidden) retryNow(); });
