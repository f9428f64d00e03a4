// Who alone may command a device, and for how long.
import { html } from '../html.js';
import { post, remove } from '../api.js';
import { useAction } from '../action.js';
import { delay, timeOfDay } from '../format.js';
import { session } from '../session.js';
import { Fault } from './notice.js';

const forHow = { ttl: '10m' };

export function Lease({ device, now, onDone }) {
  const { busy, problem, run } = useAction(onDone);
  const lease = device.lease?.until > now ? device.lease : null;
  const own = lease?.holder === session.operator?.name;
  const path = `/devices/${encodeURIComponent(device.id)}/lease`;
  const hold = (body, said) => run(() => post(path, { ...forHow, ...body }), said);
  const button = (word, act) => html`<button type="button" class="button small" disabled=${busy} onClick=${act}>${word}</button>`;
  return html`<div class="lease" data-held=${lease ? (own ? 'own' : 'other') : 'no'}>
    <p>${lease ? html`<b>${own ? 'You hold this device' : html`${lease.holder} holds this device`}</b> until <span class="num">${timeOfDay(lease.until)}</span>, for <span class="num">${delay(lease.until - now)}</span> more. ${
      own ? 'Commands of others are refused.' : 'Commands of others, yours too, are refused.'}` : html`<span class="quiet">Nobody holds this device: every operator may command it.</span>`}</p>
    ${session.mayCommand && html`<div class="actions">
      ${!lease && button('Hold for 10 min', () => hold({}, `You hold ${device.id}`))}
      ${own && button('10 min from now', () => hold({}, `You hold ${device.id} for 10 minutes more`))}
      ${own && button('Give back', () => run(() => remove(path), `${device.id} given back`))}
      ${lease && !own && session.mayManage && button('Take over', () => hold({ takeover: true }, `You took over ${device.id}`))}</div>`}
    <${Fault} problem=${problem} compact />
  </div>`;
}
