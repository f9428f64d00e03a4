// Something that changes and is watched. Telling is gathered: however often a thing changes, whoever watches it draws at
// most once per interval, which is what keeps a busy fleet from stuttering.
import { useEffect, useState } from './html.js';

export class Topic {
  #watchers = new Set();
  #timer = 0;
  version = 0; // how often it has changed

  constructor(intervalMs = 0) {
    this.intervalMs = intervalMs;
  }

  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  // changed tells the watchers soon; now tells them at once.
  changed() {
    if (this.#timer) return;
    this.#timer = setTimeout(() => requestAnimationFrameOrNow(() => this.now()), this.intervalMs);
  }

  now() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.version++;
    for (const watcher of [...this.#watchers]) watcher();
  }
}

// A hidden page gets no animation frames, but must not let its data grow stale for ever either.
function requestAnimationFrameOrNow(then) {
  if (document.hidden) then();
  else requestAnimationFrame(then);
}

// useTopic draws the component again whenever the topic changes.
export function useTopic(topic) {
  const [, draw] = useState(0);
  const drawn = topic.version;
  useEffect(() => {
    const again = () => draw((n) => n + 1);
    // Effects run after the paint; what changed until then would never be seen.
    if (topic.version !== drawn) again();
    return topic.watch(again);
  }, [topic]);
}

// useClock draws the component again every so many milliseconds while the page can be seen.
export function useClock(everyMs) {
  const [, draw] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden) draw((n) => n + 1); }, everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
}
