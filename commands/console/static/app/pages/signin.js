// Signing in: by a one-time link, or by pasting an operator token.
import { html, useEffect, useRef, useState } from '../html.js';
import { session } from '../session.js';
import { location } from '../route.js';
import { Fault } from '../parts/notice.js';
import { Mark } from '../parts/shell.js';

// The secret of a one-time link is in the fragment, which no server and no log ever sees. It leaves the address, and with
// it the history, before anything else happens.
function takeSecret() {
  const secret = location.path === 'signin' ? window.location.hash.slice(1) : '';
  if (secret) history.replaceState(null, '', window.location.pathname + window.location.search);
  return secret;
}
export const linkSecret = takeSecret();
let linkUsed = false;

export function SignInPage() {
  const [token, setToken] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const input = useRef(null);

  const signIn = async (proof) => {
    setBusy(true);
    setProblem(null);
    try {
      await session.signIn(proof);
      if (location.path === 'signin') location.go('', { replace: true });
    } catch (fault) {
      setProblem(fault);
      setBusy(false);
    }
  };
  useEffect(() => {
    if (linkSecret && !linkUsed) {
      linkUsed = true;
      signIn({ secret: linkSecret });
    } else {
      input.current?.focus();
    }
  }, []);
  const submit = (event) => {
    event.preventDefault();
    if (token.trim()) signIn({ token: token.trim() });
  };

  return html`<main class="signin" id="main">
    <form class="signin-card" onSubmit=${submit}>
      <p class="brand"><${Mark} /> Fairlead</p>
      <h1>Sign in</h1>
      ${session.reason && !problem && html`<p class="remark" role="status">You were signed out: ${session.reason.detail || 'the session ended'}.</p>`}
      <label class="field block"><span class="field-name">Operator token</span>
        <input ref=${input} type="password" name="token" class="mono" value=${token} autocomplete="current-password" spellcheck=${false}
          aria-invalid=${Boolean(problem)} onInput=${(event) => setToken(event.target.value)} /></label>
      <${Fault} problem=${problem} compact />
      <button type="submit" class="button primary wide" disabled=${busy || !token.trim()}>${busy ? 'Signing in…' : 'Sign in'}</button>
      <p class="quiet">A token comes from <code>fairlead operators add NAME</code>. The one-time link that the hub prints at its first start signs in by itself.</p>
    </form>
  </main>`;
}
