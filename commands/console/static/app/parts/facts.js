// Facts whose names the console does not know beforehand, as a list: counters, settings, whatever a newer hub adds.
import { html } from '../html.js';
import { hubNow } from '../api.js';
import { ago, count, dateAndTime, value } from '../format.js';

const earliestTime = Date.UTC(2015, 0); // in milliseconds; a counter does not look like a time of these years
const timeName = /(^|_)(time|at|since|seen|created|updated|last|until|expires)$/;

// title makes words of a key: "points_in" is "points in".
export const title = (key) => String(key).replaceAll('_', ' ');

export function Facts({ of }) {
  const entries = Object.entries(of ?? {}).filter(([, v]) => v !== undefined && v !== null && v !== '');
  if (!entries.length) return null;
  const simple = entries.filter(([, v]) => typeof v !== 'object');
  const nested = entries.filter(([, v]) => typeof v === 'object');
  return html`${simple.length > 0 && html`<dl class="facts-list">${simple.map(([key, v]) => html`<div key=${key}><dt>${title(key)}</dt><dd class="num"><${Fact} name=${key} of=${v} /></dd></div>`)}</dl>`}
    ${nested.map(([key, v]) => html`<details key=${key} class="nested"><summary>${title(key)} <span class="quiet num">${size(v)}</span></summary><${Nested} of=${v} /></details>`)}`;
}

function Fact({ name, of }) {
  if (typeof of === 'number' && timeName.test(name) && of > earliestTime) return html`<time title=${dateAndTime(of)}>${ago(of, hubNow())}</time>`;
  if (typeof of === 'number') return Number.isInteger(of) ? count(of) : value(of);
  if (typeof of === 'boolean') return of ? 'yes' : 'no';
  return html`<span class="breaks">${of}</span>`;
}

function Nested({ of }) {
  if (!Array.isArray(of)) return html`<${Facts} of=${of} />`;
  return html`<ul class="plain-list">${of.map((item, i) => html`<li key=${i}>${item && typeof item === 'object' ? html`<${Facts} of=${item} />` : html`<span class="mono breaks">${String(item)}</span>`}</li>`)}</ul>`;
}

function size(v) {
  const n = Array.isArray(v) ? v.length : Object.keys(v).length;
  return count(n);
}
