// The one place that knows where the rendering libraries lie.
import { h, render, Component, Fragment } from '../vendor/preact/preact.js';
import htm from '../vendor/htm/htm.js';

export { render, Component, Fragment };
export {
  useState, useEffect, useLayoutEffect, useMemo, useRef, useCallback, useId,
} from '../vendor/preact/hooks.js';
export const html = htm.bind(h);
