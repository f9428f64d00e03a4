// What a screen reader is told of changes that happen elsewhere on the page.
import { html, useState, useEffect } from './html.js';

let tell = () => {};

export function announce(text) { tell(text); }

export function Announcer() {
  const [text, setText] = useState('');
  useEffect(() => {
    let timer = 0;
    tell = (next) => {
      // Emptied first, so that the same words said twice are read twice.
      setText('');
      clearTimeout(timer);
      timer = setTimeout(() => setText(next), 50);
    };
    return () => { clearTimeout(timer); tell = () => {}; };
  }, []);
  return html`<div class="unseen" role="status" aria-live="polite">${text}</div>`;
}
