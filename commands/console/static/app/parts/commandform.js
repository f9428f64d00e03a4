// Sending a command: a form made from what the device announced.
import { html, useEffect, useId, useMemo, useRef, useState } from '../html.js';
import { post } from '../api.js';
import { announce } from '../announce.js';
import { boundsOf, fieldsOf, paramsOf, startOf } from '../schema.js';
import { session } from '../session.js';
import { ConfirmDangerous } from './confirm.js';
import { Fault } from './notice.js';

const lives = [['1h', 'for 1 hour'], ['1m', 'for 1 minute'], ['24h', 'for 24 hours'], ['720h', 'for 30 days'], ['0s', 'only if online now']];

// CommandForm calls onSent with each command that the hub took, and onRefused when it took none.
export function CommandForm({ device, onSent, onRefused }) {
  const commands = device.commands ?? [];
  const [chosen, setChosen] = useState(commands[0]?.name ?? '');
  const command = commands.find((c) => c.name === chosen);
  useEffect(() => { if (!command && commands.length) setChosen(commands[0].name); }, [command, commands.length]);
  if (!session.mayCommand) return html`<p class="quiet">Your role (${session.operator?.role ?? 'unknown'}) may look but not command.</p>`;
  if (!commands.length) return html`<${Order} device=${device} onSent=${onSent} onRefused=${onRefused} />`;
  return html`${commands.length > 1 && html`<div class="choices" role="group" aria-label="Command">
      ${commands.map((c) => html`<button key=${c.name} type="button" class="choice" aria-pressed=${c.name === chosen} onClick=${() => setChosen(c.name)}>${c.title || c.name}${
        c.dangerous && html`<i class="warn" title="dangerous"> !</i>`}</button>`)}
    </div>`}
    ${command && html`<${Order} key=${command.name} device=${device} command=${command} onSent=${onSent} onRefused=${onRefused} />`}`;
}

// Order is the form of one command; without one the name is typed too, for devices that announce nothing.
function Order({ device, command, onSent, onRefused }) {
  const schema = JSON.stringify(command?.params ?? null);
  const fields = useMemo(() => (command ? fieldsOf(command.params) : null), [schema]);
  const [asJSON, setAsJSON] = useState(fields === null);
  const [entered, setEntered] = useState(() => startOf(fields ?? []));
  const [text, setText] = useState('{}');
  const [name, setName] = useState('');
  const [ttl, setTTL] = useState('1h');
  const [fault, setFault] = useState(null); // {field, fault} from here
  const [confirming, setConfirming] = useState(null);
  const sending = useSend(device.id, onSent, onRefused);

  const read = () => (asJSON ? parseParams(text) : paramsOf(fields, entered));
  const submit = (event) => {
    event.preventDefault();
    const { params, ...wrong } = read();
    setFault(params === undefined ? wrong : null);
    if (params === undefined) return;
    const order = { name: command?.name ?? name.trim(), params, ttl };
    if (command?.dangerous) setConfirming(order);
    else sending.send(order);
  };
  const toJSON = (on) => {
    if (on) {
      const { params } = paramsOf(fields, entered);
      setText(JSON.stringify(params ?? {}, null, 2));
    }
    setAsJSON(on);
    setFault(null);
  };
  const set = (field, value) => setEntered((before) => ({ ...before, [field]: value }));

  return html`<form class="order" onSubmit=${submit} noValidate>
    ${command ? html`<p class="order-name"><span class="mono">${command.name}</span>${command.dangerous && html`<span class="danger-note">dangerous: asks again before it is sent</span>`}</p>`
      : html`<p class="quiet">This device announced no commands. What you send reaches it as it is.</p>
        <label class="field block"><span class="field-name">Name</span><input type="text" class="mono" name="name" required value=${name} autocomplete="off"
          autocapitalize="off" spellcheck=${false} onInput=${(event) => setName(event.target.value)} /></label>`}
    ${asJSON ? html`<label class="field block"><span class="field-name">Parameters as JSON</span>
        <textarea class="mono" name="json" rows="5" spellcheck=${false} value=${text} aria-invalid=${fault?.field === 'json'} onInput=${(event) => setText(event.target.value)}></textarea></label>`
      : fields.length > 0 && html`<div class="order-fields">${fields.map((f) => html`<${Field} key=${f.name} field=${f} value=${entered[f.name]} fault=${fault?.field === f.name && fault.fault} set=${(v) => set(f.name, v)} />`)}</div>`}
    ${fault && html`<p class="field-fault" role="alert">${fault.fault}</p>`}
    <${Fault} problem=${sending.problem} compact />
    <div class="order-foot">
      <button type="submit" class="button primary" disabled=${sending.busy || (!command && !name.trim())}>${sending.busy ? 'Sending…' : 'Send'}</button>
      <label class="field inline"><span>keep trying</span><select name="ttl" value=${ttl} onChange=${(event) => setTTL(event.target.value)}>
        ${lives.map(([life, word]) => html`<option key=${life} value=${life} selected=${life === ttl}>${word}</option>`)}</select></label>
      ${fields !== null && fields.length > 0 && html`<button type="button" class="plain" aria-pressed=${asJSON} onClick=${() => toJSON(!asJSON)}>${asJSON ? 'Back to the form' : 'Edit as JSON'}</button>`}
    </div>
    ${confirming && html`<${ConfirmDangerous} device=${device.id} command=${command} params=${confirming.params}
      onClose=${() => setConfirming(null)} onConfirm=${() => { setConfirming(null); sending.send({ ...confirming, confirm: device.id }); }} />`}
  </form>`;
}

function parseParams(text) {
  try {
    const params = JSON.parse(text.trim() || '{}');
    if (params && typeof params === 'object' && !Array.isArray(params)) return { params };
    return { field: 'json', fault: 'Parameters must be a JSON object, like {"seconds": 10}.' };
  } catch (fault) {
    return { field: 'json', fault: `Not valid JSON: ${fault.message}` };
  }
}

// useSend posts an order. While an order got no answer its key stays, so that sending it again cannot act twice.
function useSend(device, onSent, onRefused) {
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(null);
  const unanswered = useRef({ order: '', key: '' });
  const send = async (order) => {
    const text = JSON.stringify(order);
    if (unanswered.current.order !== text) unanswered.current = { order: text, key: newKey() };
    setBusy(true);
    setProblem(null);
    try {
      const command = await post(`/devices/${encodeURIComponent(device)}/commands`, order, { headers: { 'Idempotency-Key': unanswered.current.key } });
      unanswered.current = { order: '', key: '' };
      announce(`Command ${order.name} sent`);
      onSent(command);
    } catch (fault) {
      if (fault.unreachable) fault.hint = 'Whether the hub has it is not known. Sending again is safe: it cannot act twice.';
      else {
        unanswered.current = { order: '', key: '' };
        onRefused(); // somebody may hold the device by now, or it went away
      }
      setProblem(fault);
    }
    setBusy(false);
  };
  return { busy, problem, send };
}

function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function Field({ field: f, value, fault, set }) {
  const help = useId();
  const about = [f.help, boundsOf(f), f.kind === 'json' ? 'as JSON' : ''].filter(Boolean).join(' · ');
  const common = { name: f.name, 'aria-describedby': about ? help : undefined, 'aria-invalid': Boolean(fault), required: f.required };
  return html`<label class="field block" data-kind=${f.kind}><span class="field-name">${f.title}${!f.required && html`<small> optional</small>`}</span>
    <${Input} field=${f} value=${value} common=${common} set=${set} />
    ${about && html`<small class="field-help" id=${help}>${about}</small>`}</label>`;
}

function Input({ field: f, value, common, set }) {
  const onInput = (event) => set(event.target.value);
  switch (f.kind) {
    case 'boolean':
      return html`<${Pick} common=${common} value=${value} set=${set} options=${[...(f.required ? [] : [['', 'leave as it is']]), ['true', 'on'], ['false', 'off']]} />`;
    case 'choice':
      return html`<${Pick} common=${common} value=${value} set=${set} options=${[...(f.required ? [] : [['', 'leave as it is']]), ...f.choices.map((c, i) => [String(i), typeof c === 'string' ? c : JSON.stringify(c)])]} />`;
    case 'integer':
    case 'number':
      return html`<input type="number" inputmode=${f.kind === 'integer' && !(f.least < 0) ? 'numeric' : 'decimal'} class="num" ...${common} value=${value} min=${f.least} max=${f.most} step=${f.step} onInput=${onInput} />`;
    case 'json':
      return html`<textarea class="mono" rows="3" spellcheck=${false} ...${common} value=${value} onInput=${onInput}></textarea>`;
    default:
      return html`<input type="text" ...${common} value=${value} maxlength=${f.maxLength} autocomplete="off" spellcheck=${false} onInput=${onInput} />`;
  }
}

function Pick({ common, value, set, options }) {
  return html`<select ...${common} value=${value} onChange=${(event) => set(event.target.value)}>
    ${options.map(([v, word]) => html`<option key=${v} value=${v} selected=${v === value}>${word}</option>`)}</select>`;
}
