// Who is signed in.
import { get, post, remove, setCSRF, whenSignedOut } from './api.js';
import { Topic } from './topic.js';

export const session = {
  changes: new Topic(),
  state: 'asking', // asking | in | out | unreachable
  operator: null, // {name, role}
  reason: null, // the problem that signed us out

  get mayCommand() { return this.operator?.role === 'operator' || this.operator?.role === 'admin'; },
  get mayManage() { return this.operator?.role === 'admin'; },

  async resume() {
    try {
      this.enter(await get('/session', { quiet401: true }));
    } catch (problem) {
      if (problem.status === 401 || problem.status === 403) this.leave(null);
      else this.become('unreachable', problem);
    }
  },

  // signIn takes {token} or {secret}.
  async signIn(proof) {
    const answer = await post('/session', proof, { quiet401: true });
    // The cookie is set by now; the CSRF token may come with it or has to be asked for.
    this.enter(answer?.csrf ? answer : await get('/session'));
  },

  async signOut() {
    await remove('/session');
    this.leave(null);
  },

  enter({ name, role, csrf }) {
    setCSRF(csrf);
    this.operator = { name, role };
    this.become('in', null);
  },

  leave(reason) {
    setCSRF('');
    this.operator = null;
    this.become('out', reason);
  },

  become(state, reason) {
    this.state = state;
    this.reason = reason;
    this.changes.now();
  },
};

whenSignedOut((problem) => {
  if (session.state === 'in') session.leave(problem);
});
