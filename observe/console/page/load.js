// The page of load: curves, the statements that take most time, sessions and locks
// as they are now, and what disks have left.

import { $, ask, cell, html, rows, said, shown } from './dom.js';
import { curves } from './chart.js';
import { charts, disks, drill, lockTree, runway, short, span, statements, tops, units } from './lib.js';

let chosen = null; // a stretch of time, in seconds; null: the last ones
let member = ''; // whose server is looked at; '': the leader's
let opened = null; // a statement
const texts = new Map(); // of statements, by number

/** whom says whose server is looked at. */
export function whom() {
  const names = shown.view?.status?.picture.members.map((m) => m.name) || [];
  return names.includes(member) ? member : shown.view?.status?.picture.leader || names[0] || '';
}

/** forget is for another cluster. */
export function forget() {
  chosen = opened = null;
  member = '';
  texts.clear();
}

function stretch() {
  const range = Number($('range').value);
  const step = Math.max(10, Math.ceil((chosen ? chosen[1] - chosen[0] : range) / 300));
  if (chosen) return { from: chosen[0], to: chosen[1], step };
  const to = Math.floor(Date.now() / 1000 / step) * step;
  return { from: to - range, to, step };
}

let again = () => {};

/** wire has controls do what they say; go draws anew. */
export function wire(go) {
  again = go;
  $('range').addEventListener('change', () => { chosen = null; go(); });
  $('member').addEventListener('change', () => { member = $('member').value; opened = null; go(); });
  $('back').addEventListener('click', () => zoom(null));
}

function zoom(from, to) {
  if (from !== null && to - from < 30) return;
  chosen = from === null ? null : [Math.floor(from), Math.ceil(to)];
  again();
}

/** choices lists the members, when these are others. */
export function choices() {
  const names = shown.view.status.picture.members.map((m) => m.name);
  const key = `${shown.cluster} ${names.join(' ')} ${shown.view.status.picture.leader}`;
  if ($('member').dataset.of !== key) {
    $('member').dataset.of = key;
    $('member').replaceChildren(...names.map((n) => html('option', { value: n }, n === shown.view.status.picture.leader ? `${n} (leads)` : n)));
  }
  if ($('member').value !== whom()) $('member').value = whom();
}

async function matrix(query, when) {
  return (await ask('/api/v1/query_range', { query, start: when.from, end: when.to, step: when.step })).data.result;
}

async function one(query, at) {
  const r = (await ask('/api/v1/query', { query, time: at })).data.result;
  return r.length ? Number(r[0].value[1]) : null;
}

/** draws puts curves into figures, two at a time: the store has turns for few. */
async function draws(into, all, when, still) {
  if (into.children.length !== all.length) into.replaceChildren(...all.map((c) => html('figure', { class: c.wide ? 'wide' : '' })));
  const left = [...all.entries()];
  const some = async () => {
    for (let next = left.shift(); next && still(); next = left.shift()) {
      const [i, c] = next;
      let found = [];
      let why = 'nothing was gathered yet';
      try {
        found = await matrix(c.query, when);
        const cores = c.cores ? await one(c.cores, when.to) : null;
        if (cores) c.mark = { value: cores, text: `${cores} ${cores === 1 ? 'core' : 'cores'}` };
      } catch (e) {
        why = e.message;
      }
      if (still()) curves(into.children[i], c, found, when, why, zoom);
    }
  };
  await Promise.all([some(), some()]);
}

/** plot draws the curves. */
export async function plot() {
  const of = shown.cluster;
  const on = whom();
  if (!on) return;
  const when = stretch();
  $('back').hidden = !chosen;
  await draws($('charts'), charts(of, on, when.step), when, () => of === shown.cluster && on === whom());
  if (of !== shown.cluster || on !== whom()) return;
  await top(when);
  await disk(when);
}

async function top(when) {
  const of = shown.cluster;
  const on = whom();
  const seconds = Math.round(Math.min(86400, Math.max(60, when.to - when.from)));
  let all = [];
  let none = 'nothing is told of statements: it takes pg_stat_statements in shared_preload_libraries, and CREATE EXTENSION pg_stat_statements in database postgres; those of superusers, and those called less than five times, are left out';
  try {
    const answers = {};
    for (const [name, query] of Object.entries(statements(of, on, seconds))) answers[name] = await ask('/api/v1/query', { query, time: when.to });
    all = tops(answers, seconds);
    const missing = all.map((s) => s.id).filter((id) => !texts.has(id));
    if (missing.length) {
      const told = await ask('/api/statements', { cluster: of, member: on, ids: missing.join(',') });
      for (const id of missing) texts.set(id, told.texts[id] || '');
    }
  } catch (e) {
    none = e.message;
  }
  if (of !== shown.cluster || on !== whom()) return;
  $('top-over').textContent = `on ${on}, over ${span(seconds * 1000)}`;
  rows('top', all, (s) => {
    const button = html('button', { type: 'button', class: 'link', 'aria-expanded': opened && opened.id === s.id ? 'true' : 'false' }, brief(texts.get(s.id)) || `statement ${s.id}`);
    button.addEventListener('click', () => {
      opened = opened && opened.id === s.id && opened.database === s.database ? null : s;
      top(stretch()).catch(() => {});
    });
    const bar = html('span', { class: 'bar' }, html('span', { class: 'in' }));
    bar.children[0].style.width = `${Math.round(s.share * 100)}%`;
    return [html('td', { class: 'share' }, bar, html('span', {}, s.load < 0.01 ? '< 0.01' : short(s.load))), cell(s.rate < 0.01 ? '< 0.01' : short(s.rate), 'n'), cell(units.seconds(s.mean), 'n'), cell(short(s.rows), 'n'), cell(s.hit === null ? '' : units.share(s.hit), 'n'), cell(s.database), html('td', { class: 'sql' }, button)];
  }, none);
  const s = opened && all.find((a) => a.id === opened.id && a.database === opened.database);
  $('drill').hidden = !s;
  if (!s) return;
  $('drill-text').textContent = texts.get(s.id) || 'the server does not have its text any more';
  $('drill-says').textContent = `queryid ${s.id} in ${s.database}: ${short(s.calls)} calls, ${span(s.time * 1000)} together`;
  await draws($('drill-charts'), drill(of, on, s, when.step), when, () => of === shown.cluster && opened && opened.id === s.id);
}

const brief = (text) => (text || '').replace(/\s+/g, ' ').trim().slice(0, 160);

async function disk(when) {
  const of = shown.cluster;
  const found = {};
  for (const [name, query] of Object.entries(disks(of))) {
    const r = (await ask('/api/v1/query', { query, time: when.to })).data.result;
    found[name] = new Map(r.map((s) => [s.metric.ins, Number(s.value[1])]));
  }
  if (of !== shown.cluster) return;
  const names = [...new Set(Object.values(found).flatMap((m) => [...m.keys()]))].sort();
  rows('disks', names, (n) => {
    const [text, kind] = runway(found.full.get(n));
    const get = (name, unit) => (found[name].has(n) ? units[unit](found[name].get(n)) : '');
    return [cell(n), cell(get('wal', 'bytes'), 'n'), cell(get('rate', 'bytes'), 'n'), cell(get('used', 'share'), 'n'), cell(get('free', 'bytes'), 'n'), cell(text, kind)];
  }, 'nothing was gathered yet');
}

/** sessions shows what sessions do now, and who waits for whom. */
export async function sessions() {
  const of = shown.cluster;
  const on = whom();
  if (!on) return;
  let now;
  try {
    now = await ask('/api/activity', { cluster: of, member: on });
    const missing = [...new Set(now.sessions.filter((s) => !s.query && s.statement).map((s) => s.statement))].filter((id) => !texts.has(id));
    if (missing.length) {
      const told = await ask('/api/statements', { cluster: of, member: on, ids: missing.join(',') });
      for (const id of missing) texts.set(id, told.texts[id] || '');
    }
  } catch (e) {
    if (of === shown.cluster) $('locks').replaceChildren(html('li', {}, ...said(e.problem || { what: e.message })));
    return;
  }
  if (of !== shown.cluster || on !== whom()) return;
  const doing = (s) => brief(s.query || texts.get(s.statement)) || '';
  const trees = lockTree(now.sessions);
  const waiting = now.sessions.filter((s) => (s.behind || []).length).length;
  $('locks-count').textContent = waiting ? `${waiting} ${waiting === 1 ? 'waits' : 'wait'} on ${on}` : '';
  const leaf = (n, top) => html('li', {},
    html('div', { class: top ? 'holds' : 'waits' },
      html('strong', {}, n.pid ? `${n.pid} ` : 'a prepared transaction '),
      n.session ? `${n.session.user}@${n.session.database}${n.session.application ? ` (${n.session.application})` : ''}, ${n.session.state}${n.session.transaction_s ? `, in its transaction for ${span(n.session.transaction_s * 1000)}` : ''}` : '',
      n.session && n.session.lock ? html('span', { class: 'bad' }, `; waits ${span((n.session.locked_s || 0) * 1000)} for ${n.session.lock}`) : '', n.again ? html('span', { class: 'quiet' }, ' (as above)') : ''),
    html('code', {}, n.session && !n.again ? doing(n.session) : ''),
    ...(n.below.length ? [html('ul', {}, ...n.below.map((b) => leaf(b, false)))] : []));
  $('locks').replaceChildren(...(trees.length ? trees.map((t) => leaf(t, true)) : [html('li', { class: 'quiet' }, `nobody on ${on} waits for a lock`)]));
  $('sessions-count').textContent = `${now.sessions.length}${now.more ? ' and more' : ''} on ${on} do something, or hold a transaction open`;
  rows('sessions', now.sessions.slice(0, 40), (s) => [
    cell(s.pid, 'n'), cell(`${s.user}@${s.database}`), cell(s.application), cell(s.state, s.state.startsWith('idle in') && s.state_s > 60 ? 'warn' : ''), cell(span(s.state_s * 1000), 'n'),
    cell(s.wait || (s.state === 'active' ? 'CPU' : ''), s.wait && s.wait.startsWith('Lock') ? 'bad' : ''), html('td', { class: 'sql' }, html('code', {}, doing(s))),
  ], 'no session is at work');
}

