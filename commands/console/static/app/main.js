// Where it starts: who is there, and which page.
import { html, render, useEffect } from './html.js';
import { fleet } from './fleet.js';
import { everything, values, watch } from './live.js';
import { Link, location } from './route.js';
import { session } from './session.js';
import { useTopic } from './topic.js';
import { BridgePage } from './pages/bridge.js';
import { CommandPage, CommandsPage } from './pages/commands.js';
import { DeadLettersPage } from './pages/deadletters.js';
import { DevicePage } from './pages/device.js';
import { EnrollmentsPage } from './pages/enrollments.js';
import { FleetPage } from './pages/fleet.js';
import { HubPage } from './pages/hub.js';
import { JobPage, JobsPage } from './pages/jobs.js';
import { linkSecret, SignInPage } from './pages/signin.js';
import { Fault } from './parts/notice.js';
import { Shell } from './parts/shell.js';

// routes answer a page for the parts of a path, or nothing.
const routes = {
  '': (id) => id === undefined && html`<${FleetPage} />`,
  devices: (id) => id && html`<${DevicePage} key=${id} id=${id} />`,
  commands: (id) => (id ? html`<${CommandPage} key=${id} id=${id} />` : html`<${CommandsPage} />`),
  jobs: (id) => (id ? html`<${JobPage} key=${id} id=${id} />` : html`<${JobsPage} />`),
  enrollments: () => html`<${EnrollmentsPage} />`,
  bridge: () => html`<${BridgePage} />`,
  deadletters: () => html`<${DeadLettersPage} />`,
  hub: () => html`<${HubPage} />`,
};
const titles = { '': 'Fleet', commands: 'Commands', jobs: 'Jobs', enrollments: 'Enrollments', bridge: 'Bridge', deadletters: 'Dead letters', hub: 'Hub' };

function Page() {
  useTopic(location.changes);
  const [place, id] = location.path.split('/').map(decode);
  useEffect(() => {
    const what = id ?? titles[place];
    document.title = what ? `${what} · Fairlead` : 'Fairlead';
  }, [place, id]);
  return routes[place]?.(id) || html`<div class="page"><div class="absent"><p>There is no such page.</p><p><${Link} to="">To the fleet<//></p></div></div>`;
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function Console() {
  useTopic(session.changes);
  useTopic(location.changes);
  const inside = session.state === 'in';
  useEffect(() => {
    if (inside) {
      watch.want(everything);
      if (location.path === 'signin') location.go('', { replace: true });
    } else {
      watch.want(null);
      values.want(null);
      fleet.forget();
    }
  }, [inside]);
  switch (session.state) {
    case 'asking': return null;
    case 'unreachable': return html`<main class="signin" id="main"><div class="signin-card"><h1>Fairlead</h1><${Fault} problem=${session.reason} retry=${() => session.resume()} /></div></main>`;
    case 'out': return html`<${SignInPage} />`;
    default: return html`<${Shell}><${Page} /><//>`;
  }
}

// A one-time link is for the operator it was made for, whoever was signed in before.
if (linkSecret) session.leave(null);
else session.resume();
render(html`<${Console} />`, document.getElementById('console'));
