// The part of JSON Schema that a form can be made of; everything else is entered as JSON and checked by the hub.

// fieldsOf answers the fields of a command's parameters, or null if its schema is not one of an object with properties.
export function fieldsOf(schema) {
  if (schema === undefined || schema === null || schema === true) return [];
  if (typeof schema !== 'object' || Array.isArray(schema)) return null;
  if (schema.type !== undefined && schema.type !== 'object') return null;
  if (['oneOf', 'anyOf', 'allOf', '$ref', 'if'].some((word) => word in schema)) return null;
  const required = new Set(Array.isArray(schema.required) ? schema.required : []);
  const fields = Object.entries(schema.properties ?? {}).map(([name, property]) => field(name, property, required.has(name)));
  // What must be filled in comes first; among the rest the device's own order stays.
  fields.sort((a, b) => b.required - a.required);
  if (!fields.length && schema.additionalProperties && typeof schema.additionalProperties === 'object') return null;
  return fields;
}

function field(name, property, required) {
  const p = property && typeof property === 'object' ? property : {};
  return {
    name,
    kind: kindOf(p),
    title: typeof p.title === 'string' ? p.title : name,
    help: typeof p.description === 'string' ? p.description : '',
    unit: typeof p.unit === 'string' ? p.unit : '',
    required,
    initial: p.default,
    choices: choices(p),
    least: p.minimum ?? exclusive(p.exclusiveMinimum, p.type, 1),
    most: p.maximum ?? exclusive(p.exclusiveMaximum, p.type, -1),
    step: p.multipleOf ?? (p.type === 'integer' ? 1 : 'any'),
    minLength: p.minLength,
    maxLength: p.maxLength,
    pattern: typeof p.pattern === 'string' ? p.pattern : '',
  };
}

function kindOf(p) {
  if (choices(p)) return 'choice';
  const type = Array.isArray(p.type) ? p.type.find((t) => t !== 'null') : p.type;
  if (type === 'integer' || type === 'number' || type === 'boolean' || type === 'string') return type;
  return 'json';
}

function choices(p) {
  if (Array.isArray(p.enum) && p.enum.length) return p.enum;
  return 'const' in p ? [p.const] : null;
}

// A bound that may not be reached is, for integers, the next integer; for others the hub's check has the last word.
function exclusive(bound, type, inward) {
  if (typeof bound !== 'number') return undefined;
  return type === 'integer' ? Math.floor(bound) + inward : bound;
}

// startOf is what the form shows first: text for each field, as inputs hold it.
export function startOf(fields) {
  return Object.fromEntries(fields.map((f) => [f.name, initialText(f)]));
}

function initialText(f) {
  if (f.kind === 'boolean') return f.initial === undefined ? (f.required ? 'false' : '') : String(Boolean(f.initial));
  if (f.kind === 'choice') return f.initial === undefined ? (f.required ? '0' : '') : String(Math.max(0, f.choices.findIndex((c) => JSON.stringify(c) === JSON.stringify(f.initial))));
  if (f.initial === undefined) return '';
  return f.kind === 'json' ? JSON.stringify(f.initial) : String(f.initial);
}

// paramsOf makes the parameters of what was entered, and tells the field that cannot be read: {params} or {field, fault}.
export function paramsOf(fields, entered) {
  const params = {};
  for (const f of fields) {
    const text = entered[f.name] ?? '';
    if (text === '' && f.kind !== 'string') {
      if (f.required) return { field: f.name, fault: `${f.title} is required.` };
      continue;
    }
    if (f.kind === 'string' && text === '' && !f.required) continue;
    try {
      params[f.name] = read(f, text);
    } catch (fault) {
      return { field: f.name, fault: fault.message };
    }
  }
  return { params };
}

function read(f, text) {
  switch (f.kind) {
    case 'boolean': return text === 'true';
    case 'choice': return f.choices[Number(text)];
    case 'integer':
    case 'number': return number(f, text);
    case 'json': return parse(f, text);
    default: return string(f, text);
  }
}

function number(f, text) {
  const n = Number(text);
  if (!Number.isFinite(n)) throw new Error(`${f.title} must be a number.`);
  if (f.kind === 'integer' && !Number.isInteger(n)) throw new Error(`${f.title} must be a whole number.`);
  if (f.least !== undefined && n < f.least) throw new Error(`${f.title} must be at least ${f.least}.`);
  if (f.most !== undefined && n > f.most) throw new Error(`${f.title} must be at most ${f.most}.`);
  return n;
}

function string(f, text) {
  if (f.minLength !== undefined && text.length < f.minLength) throw new Error(`${f.title} needs at least ${f.minLength} characters.`);
  if (f.maxLength !== undefined && text.length > f.maxLength) throw new Error(`${f.title} may have at most ${f.maxLength} characters.`);
  return text;
}

function parse(f, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${f.title} is not valid JSON.`);
  }
}

// boundsOf says in words what a number may be.
export function boundsOf(f) {
  const unit = f.unit ? ` ${f.unit}` : '';
  if (f.least !== undefined && f.most !== undefined) return `${f.least} to ${f.most}${unit}`;
  if (f.least !== undefined) return `at least ${f.least}${unit}`;
  if (f.most !== undefined) return `at most ${f.most}${unit}`;
  return f.unit;
}
