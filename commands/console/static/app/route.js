// Addresses under /console/: the History API, and a link that uses it.
import { html } from './html.js';
import { Topic } from './topic.js';

export const root = '/console/';

export const location = {
  changes: new Topic(),
  path: '',
  search: new URLSearchParams(),

  read() {
    this.path = window.location.pathname.slice(root.length).replace(/\/$/, '');
    this.search = new URLSearchParams(window.location.search);
  },

  go(to, { replace = false } = {}) {
    history[replace ? 'replaceState' : 'pushState'](null, '', root + to);
    this.read();
    this.changes.now();
    if (!replace) document.getElementById('main')?.focus({ preventScroll: true });
  },

  // note keeps the filters of a page in its address without making a new entry for each key stroke.
  note(parameters) {
    const search = new URLSearchParams();
    for (const [name, value] of Object.entries(parameters)) if (value) search.set(name, value);
    const text = search.toString();
    history.replaceState(null, '', root + this.path + (text ? `?${text}` : ''));
    this.search = search;
  },
};

window.addEventListener('popstate', () => {
  location.read();
  location.changes.now();
});
location.read();

export const devicePath = (id) => `devices/${encodeURIComponent(id)}`;
export const jobPath = (id) => `jobs/${encodeURIComponent(id)}`;
export const commandPath = (id) => `commands/${encodeURIComponent(id)}`;

// Link is an ordinary anchor, so that it opens in a new tab as everywhere; a plain click stays in the page.
export function Link({ to, children, ...rest }) {
  const follow = (event) => {
    if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    location.go(to);
  };
  return html`<a href=${root + to} onClick=${follow} ...${rest}>${children}</a>`;
}
