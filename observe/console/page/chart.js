// Curves: drawn as SVG from Prometheus's matrices, read with pointer or arrow keys,
// and zoomed by drawing over a stretch of time. All of a page show one moment together.

import { html, svg } from './dom.js';
import { chart, clock, units } from './lib.js';

const cursors = new Set(); // of the figures that are shown

/** curves draws a matrix into a figure; zoom hears of a stretch of time that was chosen. */
export function curves(figure, { name, unit, wait, ...of }, matrix, when, why, zoom) {
  const width = Math.max(280, figure.clientWidth || 420);
  const height = of.height || 160;
  const c = chart(matrix, { ...when, ...of, unit, width, height });
  const text = units[unit];
  const color = (s) => (of.stack ? `w-${s.name}` : `s${s.color}`);
  const keys = of.stack ? c.series.filter((s) => s.max > 0) : c.series;
  const says = c.series.map((s) => `${s.name} ${text(s.now)} now, ${text(s.max)} at most`).join('; ') || why;
  const caption = html('figcaption', {}, html('strong', {}, name), ...(c.series.length
    ? keys.map((s) => html('span', { class: `key ${color(s)}` }, html('span', { class: 'ink' }, `${s.name} ${text(s.now)}`))) : [html('span', { class: 'quiet' }, why)]));
  const rule = svg('line', { class: 'rule', y1: c.top, y2: c.floor, visibility: 'hidden' });
  const chosen = svg('rect', { class: 'chosen', y: c.top, height: c.floor - c.top, visibility: 'hidden' });
  const image = svg('svg', { viewBox: `0 0 ${width} ${height}`, height, role: 'img', tabindex: 0, 'aria-label': `${name}: ${says}. Arrow keys read values.` },
    ...c.rows.flatMap((r) => [svg('path', { class: 'grid', d: `M${c.left} ${r.y}H${width}` }), svg('text', { class: 'soft', x: c.left - 6, y: r.y + 4, 'text-anchor': 'end' }, text(r.value))]),
    ...c.columns.flatMap((k) => [svg('path', { class: 'grid', d: `M${k.x} ${c.floor}v4` }), svg('text', { class: 'soft', x: k.x, y: height - 3, 'text-anchor': 'middle' }, k.text)]),
    ...c.series.map((s) => svg('path', { class: `${of.stack ? 'area' : 'curve'} ${color(s)}`, d: s.d })),
    ...(c.mark ? [svg('path', { class: 'mark', d: `M${c.left} ${c.mark.y}H${width}` }), svg('text', { class: 'halo', x: c.left + 6, y: c.mark.y - 5 }, c.mark.text)] : []),
    chosen, rule);
  const tip = html('div', { class: 'tip', role: 'status' });
  tip.hidden = true;
  const place = (at) => { // the rule, on every figure
    const i = c.nearest(at);
    if (i < 0 || at === null) {
      rule.setAttribute('visibility', 'hidden');
      return -1;
    }
    rule.setAttribute('x1', c.x(c.times[i]));
    rule.setAttribute('x2', c.x(c.times[i]));
    rule.setAttribute('visibility', 'visible');
    return i;
  };
  const point = (at) => {
    for (const other of cursors) other(at);
    const i = place(at);
    tip.hidden = i < 0;
    if (i < 0) return;
    const values = c.series.map((s) => [s, s.values[i]]).filter(([s, v]) => v !== null && (!of.stack || s.max > 0));
    if (of.stack) values.reverse(); // as they lie on each other
    else values.sort((a, b) => b[1] - a[1]);
    const total = of.stack ? [html('div', {}, html('b', {}, text(values.reduce((sum, [, v]) => sum + v, 0))), ' together')] : [];
    tip.replaceChildren(html('div', { class: 'quiet' }, clock(c.times[i], 1)), ...values.map(([s, v]) => html('div', { class: `key ${color(s)}` }, html('span', { class: 'ink' }, `${s.name} `, html('b', {}, text(v))))), ...total);
    const x = c.x(c.times[i]);
    tip.style.left = x > width / 2 ? '' : `${x + 12}px`;
    tip.style.right = x > width / 2 ? `${width - x + 12}px` : '';
  };
  for (const old of cursors) if (old.figure === figure) cursors.delete(old);
  place.figure = figure;
  cursors.add(place);
  let at = null; // where the keys stand
  let from = null; // where the pointer went down
  const time = (e) => c.time((e.offsetX / (image.clientWidth || width)) * width);
  image.addEventListener('pointermove', (e) => {
    const t = time(e);
    point(t);
    if (from === null) return;
    chosen.setAttribute('visibility', 'visible');
    chosen.setAttribute('x', Math.min(c.x(from), c.x(t)));
    chosen.setAttribute('width', Math.abs(c.x(t) - c.x(from)));
  });
  image.addEventListener('pointerdown', (e) => {
    if (e.button !== 0) return;
    from = time(e);
    image.setPointerCapture(e.pointerId);
  });
  const over = () => {
    from = null;
    chosen.setAttribute('visibility', 'hidden');
  };
  image.addEventListener('pointerup', (e) => {
    const to = time(e);
    const wide = from !== null && Math.abs(c.x(to) - c.x(from)) > 8;
    const stretch = [Math.min(from, to), Math.max(from, to)];
    over();
    if (wide) zoom(...stretch);
  });
  image.addEventListener('pointercancel', over);
  image.addEventListener('pointerleave', () => { if (from === null) point(null); });
  image.addEventListener('dblclick', () => zoom(null));
  image.addEventListener('blur', () => { at = null; point(null); });
  image.addEventListener('keydown', (e) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -10, PageDown: 10 };
    if (e.key === 'Escape') zoom(null);
    if (!(e.key in steps)) return;
    e.preventDefault();
    at = Math.max(0, Math.min(c.times.length - 1, (at === null ? c.times.length : at) + steps[e.key]));
    point(c.times[at]);
  });
  figure.replaceChildren(caption, html('div', { class: 'plot' }, image, tip));
}
