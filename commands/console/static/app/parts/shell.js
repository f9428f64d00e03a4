// What is around every page: where one can go, whether what is shown is live, who is signed in.
import { html, useEffect, useState } from '../html.js';
import { Announcer, announce } from '../announce.js';
import { plural, timeOfDay } from '../format.js';
import { gaps, linkState, refusals, retryNow, values, watch } from '../live.js';
import { Link, location } from '../route.js';
import { session } from '../session.js';
import { theme } from '../theme.js';
import { useClock, useTopic } from '../topic.js';

const places = [['', 'Fleet', ['', 'devices']], ['commands', 'Commands', ['commands']], ['jobs', 'Jobs', ['jobs']], ['bridge', 'Bridge', ['bridge']], ['deadletters', 'Dead letters', ['deadletters']], ['hub', 'Hub', ['hub', 'enrollments']]];

export function Shell({ children }) {
  useTopic(location.changes);
  useSearchKey();
  const { state } = useLink();
  const here = location.path.split('/')[0];
  return html`<div class="shell" data-link=${state}>
    <a class="skip" href="#main" onClick=${skip}>Skip to the content</a>
    <header class="bar">
      <${Link} to="" class="brand" aria-label="Fairlead, to the fleet"><${Mark} /><span>Fairlead</span><//>
      <nav class="places" aria-label="Pages">${places.map(([to, word, under]) => html`<${Link} key=${to} to=${to} class="place"
        aria-current=${under.includes(here) ? 'page' : undefined}>${word}<//>`)}</nav>
      <div class="bar-end"><${LinkLight} /><${Account} /></div>
    </header>
    <main id="main" tabindex="-1"><${LinkBanner} /><${RefusalNote} /><${GapNote} />${children}</main>
    <${Announcer} />
  </div>`;
}

// A fragment in the address would be taken for a page of its own, so the jump is made by hand.
function skip(event) {
  event.preventDefault();
  document.getElementById('main').focus();
}

export function Mark() {
  return html`<svg class="brand-mark" viewBox="0 0 32 32" width="22" height="22" aria-hidden="true"><circle cx="16" cy="16" r="9" fill="none" stroke="currentColor" stroke-width="3" />
    <path d="M1 25.500C10 25.500 10 16 16 16s6-9.500 15-9.500" fill="none" stroke="currentColor" stroke-width="3" stroke-linecap="round" /></svg>`;
}

// useSearchKey lets "/" jump to the page's search, unless something is being typed.
function useSearchKey() {
  useEffect(() => {
    const onKey = (event) => {
      if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.target.closest?.('input, textarea, select, [contenteditable], dialog')) return;
      const search = document.querySelector('[data-search]');
      if (!search) return;
      event.preventDefault();
      search.focus();
      search.select();
    };
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  }, []);
}

function useLink() {
  useTopic(watch.changes);
  useTopic(values.changes);
  useTopic(gaps.changes);
  return linkState();
}

function LinkLight() {
  const { state } = useLink();
  const words = { up: 'Live', opening: 'Connecting', down: 'Not live', idle: 'Not live' };
  return html`<span class="light" data-state=${state}><i aria-hidden="true"></i>${words[state]}</span>`;
}

// LinkBanner says plainly that what is shown is not live, from when it is, and when the next try is.
function LinkBanner() {
  const link = useLink();
  const down = link.state === 'down';
  useClock(down ? 500 : 60_000);
  const [was, setWas] = useState(link.state);
  useEffect(() => {
    if (link.state === was) return;
    setWas(link.state);
    if (down) announce('The live link is down');
    else if (link.state === 'up' && was !== 'idle') announce('The live link is up');
  }, [link.state]);
  if (!down) return null;
  const left = Math.ceil((link.retryAt - Date.now()) / 1000);
  return html`<div class="banner" data-banner="link"><p><b>The live link is down.</b> What you see is as of <span class="num">${timeOfDay(link.since)}</span>; ${
    link.retryAt && left > 0 ? html`next try in <span class="num">${left} s</span>.` : 'trying now…'}</p>
    <button type="button" class="button small" onClick=${retryNow}>Try now</button></div>`;
}

function RefusalNote() {
  useTopic(refusals.changes);
  if (!refusals.message) return null;
  return html`<div class="banner" data-banner="refused" role="status"><p><b>The hub refused to show this live:</b> ${refusals.message}</p></div>`;
}

function GapNote() {
  useTopic(gaps.changes);
  const news = gaps.dropped - gaps.dismissed;
  if (news <= 0) return null;
  const dismiss = () => { gaps.dismissed = gaps.dropped; gaps.changes.now(); };
  return html`<div class="banner gentle" data-banner="gap" role="status"><p>This view could not keep up: ${plural(news, 'reading')} ${news === 1 ? 'was' : 'were'} left out of it. They are stored all the same.</p>
    <button type="button" class="button small" onClick=${dismiss}>Dismiss</button></div>`;
}

const themeWords = { auto: 'Theme: as the system', light: 'Theme: light', dark: 'Theme: dark' };

function Account() {
  useTopic(theme.changes);
  useTopic(session.changes);
  const [problem, setProblem] = useState(null);
  const signOut = () => session.signOut().catch(setProblem);
  return html`<div class="account">
    <button type="button" class="plain theme-toggle" onClick=${() => theme.next()} title=${themeWords[theme.chosen]} aria-label=${`${themeWords[theme.chosen]}. Change`}><${ThemeIcon} chosen=${theme.chosen} /></button>
    <span class="who"><b>${session.operator?.name}</b> <span class="quiet">${session.operator?.role}</span></span>
    <button type="button" class="plain" onClick=${signOut}>Sign out</button>
    ${problem && html`<span class="field-fault" role="alert">${problem.detail}</span>`}
  </div>`;
}

function ThemeIcon({ chosen }) {
  const shapes = {
    auto: html`<circle cx="10" cy="10" r="6.500" fill="none" stroke="currentColor" stroke-width="1.600" /><path d="M10 3.500a6.500 6.500 0 0 1 0 13z" fill="currentColor" />`,
    light: html`<circle cx="10" cy="10" r="3.500" fill="none" stroke="currentColor" stroke-width="1.600" /><path d="M10 1.500v3M10 15.500v3M1.500 10h3M15.500 10h3M4 4l2 2M14 14l2 2M16 4l-2 2M6 14l-2 2" stroke="currentColor" stroke-width="1.600" stroke-linecap="round" />`,
    dark: html`<path d="M16.500 12.200A7 7 0 0 1 7.800 3.500a7 7 0 1 0 8.700 8.700z" fill="none" stroke="currentColor" stroke-width="1.600" stroke-linejoin="round" />`,
  };
  return html`<svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">${shapes[chosen]}</svg>`;
}
