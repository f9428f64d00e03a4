// The operator API over fetch: JSON in and out, problem documents as errors, the hub's clock.
const base = '/api/v1';
const timeoutMs = 20_000;

let csrf = '';
let clockOffsetMs = 0;
const onSignedOut = new Set();

// Problem is an RFC 9457 document, or what stands for one when the hub did not answer at all (status 0).
export class Problem extends Error {
  constructor(document) {
    super(document.detail || document.title || 'Something went wrong');
    this.status = document.status ?? 0;
    this.title = document.title ?? '';
    this.detail = document.detail ?? '';
    this.code = document.code ?? '';
    this.hint = document.hint ?? '';
    this.path = document.path ?? '';
  }

  // missing: this hub does not have that part of the API, which is not the same as a device or command that is not there.
  get missing() { return this.status === 501 || (this.status === 404 && (this.code === 'not_found' || this.code === '')); }
  get forbidden() { return this.status === 403; }
  get unreachable() { return this.status === 0; }
}

export function setCSRF(token) { csrf = token ?? ''; }
export function whenSignedOut(told) { onSignedOut.add(told); }

// hubNow is the hub's time: an operator's clock that is off must not make a device look silent.
export function hubNow() { return Date.now() + clockOffsetMs; }

export const get = (path, options) => call('GET', path, undefined, options);
export const post = (path, body, options) => call('POST', path, body ?? {}, options);
export const remove = (path, options) => call('DELETE', path, undefined, options);

// query makes ?a=b of what is set.
export function query(parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== '') search.set(name, value);
  }
  const text = search.toString();
  return text ? `?${text}` : '';
}

async function call(method, path, body, { signal, headers = {}, quiet401 = false, waitMs = timeoutMs } = {}) {
  const sent = { Accept: 'application/json', ...headers };
  if (body !== undefined) sent['Content-Type'] = 'application/json';
  if (method !== 'GET') sent['X-CSRF-Token'] = csrf;
  let response;
  try {
    response = await fetch(base + path, {
      method,
      headers: sent,
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: 'same-origin',
      cache: 'no-store',
      signal: bounded(signal, waitMs),
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable(error);
  }
  learnClock(response.headers.get('Date'));
  if (!response.ok) throw await refusal(response, quiet401);
  if (response.status === 204) return undefined;
  try {
    return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ status: response.status, title: 'Unreadable answer', detail: 'The hub answered with something that is not JSON.' });
  }
}

function bounded(signal, waitMs) {
  const limit = AbortSignal.timeout(waitMs);
  return signal ? AbortSignal.any([signal, limit]) : limit;
}

function unreachable(error) {
  return new Problem({
    title: 'No answer',
    detail: error.name === 'TimeoutError' ? 'The hub did not answer in time.' : 'The hub could not be reached.',
    hint: 'Check that it runs and that this browser has a way to it.',
  });
}

async function refusal(response, quiet401) {
  let document = {};
  try {
    document = await response.json();
  } catch {
    // Not every refusal has a body.
  }
  const problem = new Problem({ title: response.statusText, ...document, status: response.status });
  if (response.status === 401 && !quiet401) for (const told of onSignedOut) told(problem);
  return problem;
}

// The Date header counts whole seconds, so only a difference that cannot be rounding or travel time is believed.
function learnClock(date) {
  const hub = Date.parse(date ?? '');
  if (Number.isNaN(hub)) return;
  const offset = hub + 500 - Date.now();
  clockOffsetMs = Math.abs(offset) > 2500 ? offset : 0;
}
