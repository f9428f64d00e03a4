// What the states and the evidence of a command mean.
export const finalStates = new Set(['succeeded', 'failed', 'rejected', 'expired', 'timed_out', 'cancelled']);
export const isFinal = (command) => finalStates.has(command.state);

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

// merge takes what is newer: live events carry no events list, answers of the API do.
export function merge(known, next) {
  if (!known) return next;
  const events = (next.events?.length ?? 0) >= (known.events?.length ?? 0) ? next.events : known.events;
  const older = isFinal(known) && !isFinal(next);
  return older ? { ...next, ...known, events } : { ...known, ...next, events };
}

// withState notes a state that a live event told before the hub's own list of events is here.
export function withState(command, now) {
  const events = command.events ?? [];
  if (!command.state || events.some((event) => event.state === command.state)) return command;
  return { ...command, events: [...events, { time: now, state: command.state, pending: true }] };
}
