// Presence: a mark whose shape says it as well as its colour, and the words for it.
import { html } from '../html.js';
import { cause, longSpan, moment } from '../format.js';

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
