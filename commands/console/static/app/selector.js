// Selectors of devices by label, in the hub's own language: internal/selector.

// labelTerm picks the devices with that label. A backslash takes the meaning from what has one.
export function labelTerm([name, text]) {
  return `${name}=${text.replace(/[,=()\\]|^ +| +$/g, (found) => found.replace(/[^]/g, '\\$&'))}`;
}

// withLabel adds that label to what a selector asks for, unless it asks for it.
export function withLabel(selector, label) {
  const term = labelTerm(label);
  const terms = (selector.match(/(?:\\[^]|[^,\\])+/g) ?? []).map((part) => part.trimStart()).filter(Boolean);
  return terms.includes(term) ? selector : [...terms, term].join(',');
}
