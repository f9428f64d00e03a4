// What a button does: one request at a time, and its fault kept for beside it.
import { useState } from './html.js';
import { announce } from './announce.js';

// useAction answers {busy, problem, run}. run sends a request, says what was done, and hands the answer to done.
export function useAction(done) {
  const [state, setState] = useState({ busy: false, problem: null });
  const run = async (request, said) => {
    setState({ busy: true, problem: null });
    try {
      const answer = await request();
      setState({ busy: false, problem: null });
      announce(said);
      done?.(answer);
    } catch (problem) {
      setState({ busy: false, problem });
    }
  };
  return { ...state, run };
}
