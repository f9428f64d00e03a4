// How numbers, times and names are written.
const second = 1000;
const minute = 60 * second;
const hour = 60 * minute;
const day = 24 * hour;

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const dayAndClock = new Intl.DateTimeFormat(undefined, {
  day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23',
});
const full = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'long' });
const whole = new Intl.NumberFormat(undefined);

// natural orders names as people count: pump-9 before pump-10.
export const natural = new Intl.Collator(undefined, { numeric: true, sensitivity: 'base' });

// ago says how long past a time is, in its largest unit.
export function ago(time, now) {
  if (!time) return 'never';
  const past = now - time;
  if (past < 2 * second) return 'now';
  return `${span(past)} ago`;
}

// span writes a duration in one unit, as a glance needs it.
export function span(ms) {
  if (ms < minute) return `${Math.round(ms / second)} s`;
  if (ms < hour) return `${Math.floor(ms / minute)} min`;
  if (ms < 2 * day) return `${Math.floor(ms / hour)} h`;
  return `${Math.floor(ms / day)} d`;
}

// longSpan writes a duration in two units.
export function longSpan(ms) {
  if (ms < minute) return `${Math.max(0, Math.round(ms / second))} s`;
  if (ms < hour) return `${Math.floor(ms / minute)} min ${Math.floor((ms % minute) / second)} s`;
  if (ms < day) return `${Math.floor(ms / hour)} h ${Math.floor((ms % hour) / minute)} min`;
  return `${Math.floor(ms / day)} d ${Math.floor((ms % day) / hour)} h`;
}

// delay writes the time between two events of a command.
export function delay(ms) {
  if (ms < second) return `${Math.round(ms)} ms`;
  if (ms < minute) return `${(ms / second).toFixed(ms < 10 * second ? 1 : 0)} s`;
  return longSpan(ms);
}

export function timeOfDay(time) { return clock.format(time); }
export function timeExact(time) { return `${clock.format(time)}.${String(Math.floor(time) % 1000).padStart(3, '0')}`; }
export function dateAndTime(time) { return time ? full.format(time) : ''; }

// moment is a clock time today, and a date with it on other days.
export function moment(time, now) {
  return now - time < day && new Date(time).getDate() === new Date(now).getDate() ? clock.format(time) : dayAndClock.format(time);
}

export function count(n) { return whole.format(n); }
export function plural(n, one, many = `${one}s`) { return `${whole.format(n)} ${n === 1 ? one : many}`; }

// value writes a measured value: enough digits to see it move, never a tail of noise.
export function value(v) {
  if (typeof v === 'boolean') return v ? 'on' : 'off';
  if (typeof v !== 'number') return String(v ?? '');
  if (Number.isSafeInteger(v)) return v.toLocaleString(undefined, { maximumFractionDigits: 0 });
  const size = Math.abs(v);
  if (size !== 0 && (size >= 1e9 || size < 1e-4)) return v.toExponential(3);
  const digits = size >= 1000 ? 1 : size >= 1 ? 2 : 4;
  return v.toLocaleString(undefined, { minimumFractionDigits: Math.min(digits, 2), maximumFractionDigits: digits });
}

// json writes parameters and results on one line.
export function json(v) {
  if (v === undefined || v === null) return '';
  const text = JSON.stringify(v);
  return text === '{}' ? '' : text;
}

// brief writes parameters as a person would: seconds 10, mode "eco".
export function brief(params) {
  if (!params || typeof params !== 'object' || Array.isArray(params)) return json(params);
  return Object.entries(params).map(([name, v]) => `${name} ${typeof v === 'object' ? JSON.stringify(v) : v}`).join(', ');
}

// fieldNamer names the fields of one device: "env.temp" is "temp" where all its fields are of one measurement.
export function fieldNamer(keys) {
  const measurements = new Set(keys.map((key) => key.slice(0, key.indexOf('.') + 1)));
  if (measurements.size !== 1) return (key) => key.replace(/^telemetry\./, '');
  const [prefix] = measurements;
  return (key) => key.slice(prefix.length);
}

const causes = {
  timeout: 'no answer to the heartbeat', replaced: 'a newer session took over', closed: 'the device closed the link',
  draining: 'the node was drained', token_expired: 'its token expired', revoked: 'its token was revoked', disabled: 'it was disabled',
  lost: 'the link broke', slow: 'it read too slowly', protocol_error: 'it broke the protocol', over_quota: 'it sent more than it may',
  node_restarted: 'the hub stopped while it was on line, and it is not back',
};
export function cause(text) { return causes[text] ?? String(text).replaceAll('_', ' '); }
