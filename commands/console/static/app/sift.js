// Searching and sorting of loaded devices.
import { natural } from './format.js';

const statusOrder = { online: 0, offline: 1, never: 2 };

const orders = {
  id: (a, b) => natural.compare(a.id, b.id),
  model: (a, b) => natural.compare(a.model ?? '', b.model ?? '') || orders.id(a, b),
  status: (a, b) => (statusOrder[a.status] ?? 3) - (statusOrder[b.status] ?? 3) || orders.id(a, b),
  seen: (a, b) => (b.last_seen ?? 0) - (a.last_seen ?? 0) || orders.id(a, b),
};

// sift returns the devices of one status whose text holds every word of q, sorted.
export function sift(devices, { q, status, sort, descending }) {
  const words = q.toLowerCase().split(/\s+/).filter(Boolean);
  const kept = [];
  for (const device of devices) {
    if (status && device.status !== status) continue;
    if (words.length && !holds(device, words)) continue;
    kept.push(device);
  }
  const order = orders[sort] ?? orders.id;
  kept.sort(descending ? (a, b) => order(b, a) : order);
  return kept;
}

function holds(device, words) {
  const labels = Object.entries(device.labels ?? {}).map(([name, text]) => `${name}=${text}`).join(' ');
  const text = `${device.id} ${device.model ?? ''} ${device.firmware ?? ''} ${labels}`.toLowerCase();
  return words.every((word) => text.includes(word));
}
