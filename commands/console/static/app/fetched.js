// Fetching for a component: the answer, kept fresh, and never one that came too late.
import { useCallback, useEffect, useRef, useState } from './html.js';
import { get } from './api.js';
import { onSubscribed } from './live.js';

// useFetched gets path now, whenever it changes, when the live link is there, and every so many milliseconds.
export function useFetched(path, everyMs = 0) {
  const [state, setState] = useState({ path, answer: null, problem: null });
  const fetching = useRef(null);
  const again = useCallback(async () => {
    if (!path) return;
    fetching.current?.abort();
    const controller = new AbortController();
    fetching.current = controller;
    try {
      const answer = await get(path, { signal: controller.signal });
      setState({ path, answer, problem: null });
    } catch (problem) {
      if (controller.signal.aborted) return;
      setState((before) => ({ path, answer: before.path === path ? before.answer : null, problem }));
    }
  }, [path]);
  useEffect(() => {
    again();
    const forget = onSubscribed(again);
    const timer = everyMs ? setInterval(() => { if (!document.hidden) again(); }, everyMs) : 0;
    return () => {
      forget();
      clearInterval(timer);
      fetching.current?.abort();
    };
  }, [again, everyMs]);
  const current = state.path === path ? state : { answer: null, problem: null };
  return { answer: current.answer, problem: current.problem, again };
}
