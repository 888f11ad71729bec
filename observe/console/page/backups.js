// The page of backups: a time line of what one can go back to, and a moment chosen on it.

import { $, ask, cell, html, marked, rows, said, shown, svg, tell } from './dom.js';
import { archive, backups, bytes, clock, drilled, moment, moments, peeked, span, timeline } from './lib.js';

let at = null; // the moment, in ms; null: none is chosen
let plan = null; // what would be used for it
let of = ''; // which cluster
let line = null; // the time line
let width = 0;

/** show draws what the last look has. */
export function show(now) {
  const b = shown.view.status.backup;
  if (of !== shown.cluster) {
    of = shown.cluster;
    choose(null);
  }
  $('chooser').hidden = !b || !b.backups.length;
  $('peek').hidden = $('preview').hidden = shown.role !== 'operator';
  if (!b) {
    $('archive').textContent = 'The cluster keeps no backups here.';
    rows('backups', [], () => [], '');
    $('timeline').replaceChildren();
    $('drills').replaceChildren();
    return;
  }
  const [text, kind] = archive(b, now);
  $('archive').textContent = text;
  $('archive').className = kind || 'quiet';
  rows('backups', backups(b, now), (r) => [cell(`${r.type} ${r.label}`, r.kind), cell(r.when), cell(r.took, 'n'), cell(r.size, 'n'), cell(r.on)], 'none yet');
  line = timeline(b, now);
  draw();
  $('drills').replaceChildren(...(line.drills.length ? line.drills.sort((x, y) => y.at - x.at).map((d) => {
    const [says, kind] = drilled(d.drill, now);
    return html('li', {}, html('strong', {}, `${d.member}: `), html('span', { class: kind }, says),
      ...(d.drill.checks || []).length ? [html('ul', { class: 'quiet' }, ...d.drill.checks.map((c) => html('li', {}, `${c.what}: ${c.said}`)))] : []);
  }) : [html('li', { class: 'quiet' }, ...marked('no restore was rehearsed yet; `howdah drill` does'))]));
}

const lanes = { backups: 26, wal: 66, drills: 100 };
const height = 136;
const left = 66;

function draw() {
  const into = $('timeline');
  width = into.clientWidth || 600;
  const x = (t) => Math.round((left + ((t - line.from) / (line.to - line.from)) * (width - left - 8)) * 10) / 10;
  into.setAttribute('viewBox', `0 0 ${width} ${height}`);
  into.setAttribute('height', height);
  const covered = line.wal.filter((w) => w.kind === 'covered').reduce((sum, w) => sum + w.to - w.from, 0);
  const missing = line.wal.filter((w) => w.kind === 'missing').length;
  into.setAttribute('aria-label', `${line.backups.length} backups; log for ${span(covered)}${missing ? `, with ${missing} holes` : ', without a hole'}; ${line.drills.length} drills. Arrow keys choose a moment.`);
  const used = plan && plan.peek ? line.backups.find((b) => b.label === plan.peek.backup) : null;
  const name = (text, y) => svg('text', { class: 'soft', x: 0, y: y + 5 }, text);
  const titled = (element, text) => { element.append(svg('title', {}, text)); return element; };
  into.replaceChildren(
    name('Backups', lanes.backups), name('Log', lanes.wal), name('Drills', lanes.drills),
    ...moments(line.from / 1000, line.to / 1000, width - left).flatMap((m) => [svg('path', { class: 'grid', d: `M${x(m.at * 1000)} 8V${height - 20}` }),
      ...(x(m.at * 1000) < width - 24 ? [svg('text', { class: 'soft', x: x(m.at * 1000), y: height - 5, 'text-anchor': 'middle' }, m.text)] : [])]),
    ...line.wal.map((w) => titled(svg('rect', { class: `wal ${w.kind}`, x: x(w.from), width: Math.max(1, x(w.to) - x(w.from)), y: lanes.wal - 8, height: 16, rx: 3 }), `${new Date(w.from).toLocaleString()} to ${new Date(w.to).toLocaleString()}: ${w.kind === 'covered' ? w.says : `${w.kind}; ${w.says}`}`)),
    ...(used && at ? [svg('rect', { class: 'used', x: x(used.to), width: Math.max(1, x(Math.min(at, line.now)) - x(used.to)), y: lanes.wal - 11, height: 22, rx: 4 })] : []),
    ...line.backups.map((b) => titled(svg('rect', { class: `backup ${b.type}${b.wrong ? ' wrong' : ''}${used === b ? ' chosen' : ''}`, x: x(b.from), width: Math.max(5, x(b.to) - x(b.from)), y: lanes.backups - (b.type === 'full' ? 14 : 8), height: b.type === 'full' ? 28 : 16, rx: 2 }), `${b.type} ${b.label}, ended ${new Date(b.to).toLocaleString()}`)),
    ...line.drills.map((d) => titled(svg('circle', { class: `drill ${d.verdict}`, cx: x(d.at), cy: lanes.drills, r: 6 }), `${d.member}: ${d.verdict}, ${new Date(d.at).toLocaleString()}`)),
    ...(at ? [svg('path', { class: 'at', d: `M${x(at)} 14V${height - 18}` }), svg('text', { class: 'at', x: Math.min(width - 34, Math.max(left + 34, x(at))), y: 10, 'text-anchor': 'middle' }, clock(at / 1000, 1))] : []),
  );
}

const local = (ms) => new Date(ms - new Date(ms).getTimezoneOffset() * 60000).toISOString().slice(0, 19);

function choose(ms) {
  at = ms === null ? null : Math.round(ms / 1000) * 1000;
  plan = null;
  $('instant').value = at === null ? '' : local(at);
  $('preview').disabled = at === null;
  $('peek').disabled = true;
  $('plan').replaceChildren();
  $('by-hand').textContent = at === null ? '' : `howdah restore ${of} --to '${moment(at)}' --peek`;
  if (line && shown.page === 'backups') draw();
}

/** wire has controls do what they say; propose asks whether an order is meant. */
export function wire(propose) {
  const time = (e) => line.from + ((e.offsetX * (width / ($('timeline').clientWidth || width)) - left) / (width - left - 8)) * (line.to - line.from);
  $('timeline').addEventListener('click', (e) => { if (line) choose(Math.min(line.now, Math.max(line.from, time(e)))); });
  $('timeline').addEventListener('keydown', (e) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 };
    if (!line || !(e.key in steps)) return;
    e.preventDefault();
    choose(Math.min(line.now, Math.max(line.from, (at === null ? line.now : at) + (steps[e.key] * (line.to - line.from)) / 200)));
  });
  $('instant').addEventListener('change', () => {
    const ms = Date.parse($('instant').value);
    choose(Number.isNaN(ms) ? null : ms);
  });
  $('preview').addEventListener('click', async () => {
    const mine = at;
    $('preview').disabled = true;
    $('plan').replaceChildren(html('p', { class: 'quiet' }, 'What would be used? The archive is brought up to now, and the log is read around that moment …'));
    try {
      const p = await tell('/api/plan', { cluster: of, verb: 'peek', to: moment(mine) });
      if (mine !== at) return;
      plan = p;
      $('plan').replaceChildren(...used(p.peek));
      $('peek').disabled = false;
    } catch (e) {
      if (mine === at) $('plan').replaceChildren(html('div', {}, ...said(e.problem || { what: e.message })));
    }
    $('preview').disabled = false;
    draw();
  });
  $('peek').addEventListener('click', () => { if (plan) propose('peek', '', { to: moment(at) }); });
  addEventListener('resize', () => { if (line && shown.page === 'backups') draw(); });
}

let peeking = ''; // which peeks are shown: a button under a finger stays where it is

/** peeks shows which moments are looked at, and how each look is ended. */
export async function peeks(propose) {
  const mine = shown.cluster;
  if (shown.role !== 'operator') return;
  const all = (await ask('/api/peeks', { cluster: mine })).peeks;
  if (mine !== shown.cluster || peeking === JSON.stringify([mine, all])) return;
  peeking = JSON.stringify([mine, all]);
  $('peeks').replaceChildren(...all.map((p) => {
    const end = html('button', { type: 'button', 'aria-label': `End the look on ${p.beside}` }, 'End it');
    end.addEventListener('click', () => propose('end-peek', p.beside));
    const { facts, command } = peeked(p);
    return html('li', { class: 'peek' }, html('div', {}, html('strong', {}, facts[0]), html('span', { class: 'quiet' }, ` ${facts[1]}`)), html('code', {}, command), end);
  }));
}

/** used tells what would be used. */
function used(p) {
  const facts = [
    ['backup', `${p.type} ${p.backup} of ${p.member}, ended ${new Date(p.stop).toLocaleString()}, ${bytes(p.size)}`],
    ['log', `${p.wal} ${p.wal === 1 ? 'segment' : 'segments'} from ${p.first} to ${p.last || 'none'}`],
    ['last commit', p.before ? `${new Date(p.before.at).toLocaleString()}, transaction ${p.before.xid}` : ''],
    ['first lost', p.after ? `${new Date(p.after.at).toLocaleString()}, transaction ${p.after.xid}` : ''],
    ...p.notes.filter((n) => !n.startsWith('the last commit that will be there')).map((n) => ['note', n]), // it is said above
  ].filter(([, text]) => text);
  return [html('dl', {}, ...facts.flatMap(([name, text]) => [html('dt', {}, name), html('dd', {}, text)]))];
}

