// Dark, light, or as the system says.
import { Topic } from './topic.js';

const key = 'fairlead.theme';
const systemDark = matchMedia('(prefers-color-scheme: dark)');

export const theme = {
  changes: new Topic(),
  chosen: document.documentElement.dataset.theme ?? 'auto', // early.js has read it
  get dark() { return this.chosen === 'dark' || (this.chosen === 'auto' && systemDark.matches); },

  choose(to) {
    this.chosen = to;
    if (to === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = to;
    try {
      if (to === 'auto') localStorage.removeItem(key);
      else localStorage.setItem(key, to);
    } catch {
      // The choice then lasts as long as the page.
    }
    this.changes.now();
  },

  next() {
    const order = ['auto', 'light', 'dark'];
    this.choose(order[(order.indexOf(this.chosen) + 1) % order.length]);
  },
};

systemDark.addEventListener('change', () => theme.changes.now());
