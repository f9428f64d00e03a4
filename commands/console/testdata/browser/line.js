// lineAt tells, run in the page, at which parts of a chart's width its line is drawn: the line's own colour is looked
// for, column by column. It answers nothing while there is no line at all, so it can be waited for.
export function lineAt(parts) {
  const canvas = document.querySelector('.strip[data-field="env.temp"] canvas');
  if (!canvas) return null;
  const colour = getComputedStyle(canvas).getPropertyValue('--line-0').trim().match(/\w\w/g).map((hex) => parseInt(hex, 16));
  const { data, width, height } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const left = 52 * devicePixelRatio;
  const drawn = (part) => {
    const x = Math.round(left + (width - left) * part);
    for (let y = 0; y < height; y++) {
      const at = (y * width + x) * 4;
      if (data[at + 3] > 200 && colour.every((c, i) => Math.abs(c - data[at + i]) < 30)) return true;
    }
    return false;
  };
  const found = Object.fromEntries(parts.map((part) => [part, drawn(part)]));
  return Object.values(found).some(Boolean) ? found : null;
}

// line waits until the first chart has one.
export const line = (page) => page.waitForFunction(lineAt, [0.2, 0.3, 0.7, 0.8]);
