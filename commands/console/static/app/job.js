// What the states of a job and of its devices mean.
import { finalStates, states, tone } from './command.js';

const tones = { awaiting_approval: 'warn', running: 'busy', paused: 'still', completed: 'good', cancelled: 'still', aborted: 'bad' };
export const jobTone = (job) => tones[job.state] ?? 'still';

// deviceStates are those of a device in a job, in the order of a life.
export const deviceStates = ['pending', ...states, 'refused'];

export function deviceTone(state) {
  if (state === 'pending') return 'still';
  return state === 'refused' ? 'bad' : tone(state);
}

// ended counts the devices of which nothing more is to come.
export function ended(job) {
  return Object.entries(job.counts ?? {}).reduce((sum, [state, n]) => sum + (finalStates.has(state) || state === 'refused' ? n : 0), 0);
}

// steps are what can be done with a job now: the word on the button, the call, what is said of it.
export function steps(job, operator) {
  switch (job.state) {
    case 'awaiting_approval':
      return [...(job.actor === operator ? [] : [['Approve', 'approve', 'approved']]), ['Cancel', 'cancel', 'cancelled']];
    case 'running': return [['Pause', 'pause', 'paused'], ['Cancel', 'cancel', 'cancelled']];
    case 'paused': return [['Resume', 'resume', 'resumed'], ['Cancel', 'cancel', 'cancelled']];
    default: return [];
  }
}
