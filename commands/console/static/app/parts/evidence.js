// How sure we are. Three shapes, because colour alone does not say it.
import { html, useId } from '../html.js';
import { evidenceMeaning, meaning, stateWord, tone } from '../command.js';

export function EvidenceBadge({ evidence }) {
  const id = useId();
  if (!evidence) return null;
  return html`<span class="tipped"><button type="button" class="evidence" data-evidence=${evidence} aria-describedby=${id}>
    <i aria-hidden="true"></i>${evidence}</button><span class="tip" role="tooltip" id=${id}>${evidenceMeaning(evidence)}</span></span>`;
}

export function StateChip({ command }) {
  return html`<span class="state" data-tone=${tone(command.state)} title=${meaning(command.state)}>${stateWord(command.state)}${
    command.late && html`<small> late</small>`}</span>`;
}
