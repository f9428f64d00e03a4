// The question before a dangerous command: the operator types the name of the device that will suffer it.
import { html, useEffect, useId, useRef, useState } from '../html.js';
import { brief } from '../format.js';

export function ConfirmDangerous({ device, command, params, onConfirm, onClose }) {
  const dialog = useRef(null);
  const [typed, setTyped] = useState('');
  const title = useId();
  const words = useId();
  useEffect(() => {
    const before = document.activeElement;
    dialog.current.showModal();
    return () => before?.focus?.();
  }, []);
  const matches = typed.trim() === device;
  const confirm = (event) => {
    event.preventDefault();
    if (matches) onConfirm();
  };
  const text = brief(params);
  return html`<dialog class="confirm" ref=${dialog} aria-labelledby=${title} aria-describedby=${words} onCancel=${onClose} onClose=${onClose}>
    <form onSubmit=${confirm}>
      <h2 id=${title}>Send <span class="mono">${command.name}</span> to <span class="mono">${device}</span>?</h2>
      <p id=${words}>The device announced this command as dangerous${text ? html`. Parameters: <span class="mono">${text}</span>` : ''}. Type the device’s id to go on.</p>
      <label class="field block"><span class="field-name">Device id</span>
        <input type="text" name="confirm" class="mono" value=${typed} autocomplete="off" autocapitalize="off" spellcheck=${false} autofocus
          onInput=${(event) => setTyped(event.target.value)} /></label>
      <div class="dialog-foot">
        <button type="button" class="button" onClick=${onClose}>Do not send</button>
        <button type="submit" class="button danger" disabled=${!matches}>Send ${command.title || command.name}</button>
      </div>
    </form>
  </dialog>`;
}
