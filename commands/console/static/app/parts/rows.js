// A long list of rows of one height, of which only those in view are in the page. It is an ARIA grid: the keyboard moves
// an active row, Enter opens it.
import { html, useCallback, useEffect, useLayoutEffect, useRef, useState } from '../html.js';

const beyond = 6; // rows kept above and below what can be seen

// Rows draws items[i] by children(item, index, active). onWindow hears which items are in the page.
export function Rows({ items, rowHeight, label, header, onOpen, onWindow, idOf, children }) {
  const scroller = useRef(null);
  const [view, setView] = useState({ first: 0, size: 40 });
  const [active, setActive] = useState(-1);

  const measure = useCallback(() => {
    const el = scroller.current;
    if (!el) return;
    const first = Math.max(0, Math.floor(el.scrollTop / rowHeight) - beyond);
    const size = Math.ceil(el.clientHeight / rowHeight) + 2 * beyond + 1;
    setView((before) => (before.first === first && before.size === size ? before : { first, size }));
  }, [rowHeight]);

  useLayoutEffect(() => {
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(scroller.current);
    return () => observer.disconnect();
  }, [measure]);

  const shown = items.slice(view.first, view.first + view.size);
  const names = shown.map(idOf).join(' ');
  useEffect(() => { onWindow?.(shown); }, [names]);
  useEffect(() => { if (active >= items.length) setActive(items.length - 1); }, [items.length, active]);

  const moveTo = (index) => {
    const to = Math.min(Math.max(index, 0), items.length - 1);
    setActive(to);
    const el = scroller.current;
    const head = el.firstElementChild.offsetHeight;
    const top = to * rowHeight;
    if (top < el.scrollTop) el.scrollTop = top;
    else if (top + rowHeight > el.scrollTop + el.clientHeight - head) el.scrollTop = top + rowHeight - el.clientHeight + head;
  };
  const onKeyDown = (event) => {
    if (event.target !== scroller.current) return;
    const screen = Math.max(1, Math.floor(scroller.current.clientHeight / rowHeight) - 2);
    const moves = { ArrowDown: active + 1, ArrowUp: active - 1, PageDown: active + screen, PageUp: active - screen, Home: 0, End: items.length - 1 };
    if (event.key in moves) moveTo(moves[event.key]);
    else if (event.key === 'Enter' && items[active]) onOpen(items[active]);
    else return;
    event.preventDefault();
  };
  const onFocus = (event) => {
    if (event.target === scroller.current && active < 0 && items.length) setActive(Math.min(items.length - 1, Math.ceil(scroller.current.scrollTop / rowHeight)));
  };

  return html`<div class="rows" ref=${scroller} role="grid" tabindex="0" aria-label=${label} aria-rowcount=${items.length + 1}
      aria-activedescendant=${items[active] ? `row-${idOf(items[active])}` : undefined}
      onScroll=${measure} onKeyDown=${onKeyDown} onFocus=${onFocus}>
    <div class="rows-head" role="row" aria-rowindex="1">${header}</div>
    <div class="rows-body" role="presentation" style=${{ height: `${items.length * rowHeight}px` }}>
      ${shown.map((item, i) => {
        const index = view.first + i;
        // Rows that leave at one end are used again at the other, which costs far less than making new ones.
        return html`<div key=${index % view.size} id=${`row-${idOf(item)}`} class="row" role="row" aria-rowindex=${index + 2}
            aria-selected=${index === active} style=${{ transform: `translateY(${index * rowHeight}px)`, height: `${rowHeight}px` }}
            onClick=${() => setActive(index)}>${children(item)}</div>`;
      })}
    </div>
  </div>`;
}
