// Presence: a mark whose shape says it as well as its colour, and the words for it.
import { html } from '../html.js';
import { cause, longSpan, moment, plural } from '../format.js';

const words = { online: 'online', offline: 'offline', never: 'never seen' };

export const statusWord = (device) => (device.disabled ? 'disabled' : words[device.status] ?? device.status ?? 'unknown');

export function PresenceMark({ device }) {
  const kind = device.disabled ? 'disabled' : device.status;
  return html`<span class="mark" data-status=${kind} role="img" aria-label=${statusWord(device)} title=${statusWord(device)}></span>`;
}

// PresenceLine is the whole sentence: on line or not, since when, over what, and why not.
export function PresenceLine({ device, now }) {
  if (device.disabled) return html`<p class="presence-line">Disabled: the hub refuses its connections.</p>`;
  if (device.status === 'never' || !device.status) return html`<p class="presence-line">Never connected so far.</p>`;
  const since = device.since
    ? html` for <b class="num">${longSpan(now - device.since)}</b>, since <span class="num">${moment(device.since, now)}</span>` : '';
  if (device.status === 'online') {
    return html`<p class="presence-line"><b class="good">Online</b>${since}${link(device)}</p>`;
  }
  const why = device.cause ? html`: ${cause(device.cause)}` : '';
  return html`<p class="presence-line"><b>Offline</b>${since}${why}</p>`;
}

function link(device) {
  if (!device.link) return '';
  const [kind, connection] = device.link.split(/:(.*)/s);
  const over = kind === 'mqtt' ? html` over MQTT${connection ? html`, connection <span class="mono">${connection}</span>` : ''}` : ' over WebSocket';
  return html`,${over}`;
}

// Flags are the troubles of a device in a word each, for a list.
export function Flags({ device }) {
  return html`${device.silent && html`<span class="flag" title="No telemetry for longer than expected">silent</span>`}${
    device.conflict && html`<span class="flag" title="Two devices use this identity">conflict</span>`}${
    device.pending && html`<span class="flag" title="Enrolled, waits for approval">waits</span>`}`;
}

// Troubles are what is wrong with a device although it may be on line, each with what to do.
export function Troubles({ device, now }) {
  return html`${device.pending && html`<p class="trouble" data-trouble="pending"><b class="warn">Waits for approval.</b> It enrolled itself and may not come on line before an admin lets it in.</p>`}
    ${device.silent && html`<p class="trouble" data-trouble="silent"><b class="warn">Silent.</b> ${device.silent_since ? html`No telemetry for <span class="num">${longSpan(now - device.silent_since)}</span>` : 'No telemetry'}${
      device.expect_every ? html`, though some is expected every <span class="num">${device.expect_every}</span>` : ''}.</p>`}
    ${device.conflict && html`<p class="trouble" data-trouble="conflict"><b class="warn">Identity conflict.</b> ${plural(device.flaps ?? 0, 'session')} replaced each other lately${
      device.rivals?.length ? html`, from <span class="mono">${device.rivals.join(' and ')}</span>` : ''}: two devices seem to use this identity. Find the copy, then revoke the tokens and give each its own.</p>`}`;
}
