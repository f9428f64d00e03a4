// What the states and the evidence of a command mean.
export const finalStates = new Set(['succeeded', 'failed', 'rejected', 'expired', 'timed_out', 'cancelled']);
export const isFinal = (command) => finalStates.has(command.state);

// awaits: nothing is sent before a second operator agreed. Events of later states do not say that it is over.
export const awaits = (command) => Boolean(command.awaiting_approval) && command.state === 'queued' && !command.approved_by;

export const states = ['queued', 'sent', 'delivered', 'running', 'succeeded', 'failed', 'rejected', 'expired', 'timed_out', 'cancelled'];

const meanings = {
  queued: 'recorded; waits for the device',
  sent: 'written to the link; the device has not said anything yet',
  delivered: 'the device has it and will act',
  running: 'the device reports progress',
  succeeded: 'the device says it is done',
  failed: 'the device says it could not',
  rejected: 'refused: the name or the parameters do not fit',
  expired: 'its time ended before the device had it; it will not be done',
  timed_out: 'no answer in time; whether the device acted is not known',
  cancelled: 'called back before it was done',
};
export const meaning = (state) => meanings[state] ?? '';

// tone is the colour group of a state.
export function tone(state) {
  if (state === 'succeeded') return 'good';
  if (state === 'failed' || state === 'rejected') return 'bad';
  if (state === 'expired' || state === 'timed_out') return 'warn';
  if (state === 'cancelled') return 'still';
  return 'busy';
}

export const stateWord = (state) => String(state).replaceAll('_', ' ');

const evidences = {
  confirmed: 'Confirmed: a reply from the device names this very command.',
  observed: 'Observed: no reply names this command, but what the device now reports shows what was asked.',
  assumed: 'Assumed: the command was published and nothing can be seen of it. The device may or may not have acted.',
};
export const evidenceMeaning = (evidence) => evidences[evidence] ?? `Evidence: ${evidence}`;

// merge takes what is newer of two reports of a command: an answer of the API can arrive after the live event that
// overtook it. Live events carry no list of events, answers do.
export function merge(known, next) {
  if (!known) return next;
  const events = mergeEvents(known.events ?? [], next.events ?? []);
  return overtaken(known, next) ? { ...next, ...known, events } : { ...known, ...next, events };
}

const stage = (command) => (isFinal(command) ? states.length : states.indexOf(command.state));

// overtaken: next is older than what is known. A later attempt starts over, and a late answer follows a timeout.
function overtaken(known, next) {
  if ((next.attempt ?? 0) !== (known.attempt ?? 0)) return (next.attempt ?? 0) < (known.attempt ?? 0);
  if (isFinal(known) && isFinal(next)) return Boolean(known.late && !next.late);
  return stage(next) < stage(known);
}

// mergeEvents keeps the longer list of the hub's own events, and after it the states known only from live events.
function mergeEvents(a, b) {
  const own = [a, b].map((events) => events.filter((event) => !event.pending));
  const recorded = own[1].length >= own[0].length ? own[1] : own[0];
  const pending = [...a, ...b].filter((event) => event.pending);
  const told = new Set(recorded.map((event) => event.state));
  return [...recorded, ...pending.filter((event) => !told.has(event.state) && told.add(event.state))];
}

// withState notes a state that a live event told before the hub's own list of events is here.
export function withState(command, now) {
  const events = command.events ?? [];
  if (!command.state || events.some((event) => event.state === command.state)) return command;
  return { ...command, events: [...events, { time: now, state: command.state, pending: true }] };
}
