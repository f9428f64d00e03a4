// A command that waits until a second operator agrees.
import { html } from '../html.js';
import { post, remove } from '../api.js';
import { useAction } from '../action.js';
import { awaits } from '../command.js';
import { session } from '../session.js';
import { Fault } from './notice.js';

export function Approval({ command, onDone }) {
  const { busy, problem, run } = useAction(onDone);
  if (!awaits(command)) return null;
  const own = command.actor === session.operator?.name;
  const path = `/commands/${encodeURIComponent(command.id)}`;
  return html`<div class="approval"><p><b class="warn">Waits for approval.</b> ${own ? 'A second operator has to agree; you asked for it.'
    : session.mayCommand ? `Nothing is sent before you, or another operator than ${command.actor}, agree.` : 'Nothing is sent before a second operator agrees.'}</p>
    ${session.mayCommand && html`<div class="actions">
      ${!own && html`<button type="button" class="button small primary" disabled=${busy} onClick=${() => run(() => post(`${path}/approve`), `Command ${command.name} approved`)}>Approve</button>`}
      <button type="button" class="button small" disabled=${busy} onClick=${() => run(() => remove(path), `Command ${command.name} ${own ? 'taken back' : 'denied'}`)}>${own ? 'Take it back' : 'Deny'}</button></div>`}
    <${Fault} problem=${problem} compact /></div>`;
}
