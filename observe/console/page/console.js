// The page: asks, and puts what lib.js makes of the answers into the document.
// Everything that came from elsewhere is put as text, never as markup.

import { act, ago, alerts, archive, backups, behind, bytes, change, chart, charts, checks, facts, firing, health, line, orders, past, services, span, title, topology, units } from './lib.js';

const $ = (id) => document.getElementById(id);
const svg = (name, attributes = {}, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
const html = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== '') element.setAttribute(name, value);
  element.append(...children);
  return element;
}

let cluster = ''; // that is shown
let view = null; // the last look at it
let live = null; // the stream of looks
let heard = 0; // when the last one came, by performance.now()

let role = ''; // whose password it was

/** tell sends an order; what is refused is an Error with its problem. */
async function tell(path, body) {
  const r = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
  if (r.status === 401) location.reload();
  const text = await r.text();
  if (r.ok) return JSON.parse(text);
  let problem = { what: `${path}: ${r.status}`, why: text };
  try { problem = JSON.parse(text).error; } catch { /* it is text */ }
  throw Object.assign(new Error(problem.what), { problem });
}

let order = null; // that waits to be confirmed

/** propose shows what an order would do, and what it costs; nothing is done yet. */
async function propose(verb, member = '') {
  order = { cluster, verb, member };
  const mine = order;
  $('c-text').textContent = 'What would that do? …';
  $('c-costs').textContent = '';
  $('c-error').hidden = $('c-type').hidden = $('c-yes').disabled = true;
  $('c-typed').value = '';
  $('confirm').showModal();
  try {
    const p = await tell('/api/plan', order);
    if (order !== mine) return;
    order.seen = p.text;
    $('c-text').textContent = p.text;
    $('c-costs').textContent = p.costs;
    $('c-name').textContent = member;
    $('c-type').hidden = !p.risky;
    $('c-yes').disabled = false;
    (p.risky ? $('c-typed') : $('c-no')).focus();
  } catch (e) {
    if (order === mine) refused(e);
  }
}

function refused(e) {
  $('c-error').hidden = false;
  $('c-error').replaceChildren(...said(e.problem || { what: e.message }));
}

$('c-form').addEventListener('submit', async (e) => {
  e.preventDefault();
  $('c-yes').disabled = true;
  try {
    await tell('/api/do', { ...order, typed: $('c-typed').value.trim() });
    $('confirm').close();
  } catch (err) {
    refused(err);
    $('c-yes').disabled = false;
  }
});
$('c-no').addEventListener('click', () => $('confirm').close());
$('confirm').addEventListener('close', () => { order = null; });
$('pause').addEventListener('click', () => propose(view.status.picture.paused ? 'resume' : 'pause'));

async function ask(path, form = {}) {
  const r = await fetch(`${path}?${new URLSearchParams(form)}`);
  if (r.status === 401) location.reload(); // the form asks for the password
  if (!r.ok) throw new Error(`${path}: ${r.status}`);
  return r.json();
}

const rows = (id, all, cells, none) => {
  const body = $(id);
  const want = all.map((row) => html('tr', {}, ...cells(row)));
  body.replaceChildren(...(want.length ? want : [html('tr', {}, html('td', { colspan: 9, class: 'quiet' }, none))]));
};
const cell = (text, kind = '') => html('td', { class: kind }, text === null || text === undefined ? '' : `${text}`);

function show() {
  if (!view) return;
  const now = (view.status && view.status.at) || new Date().toISOString();
  const h = health(view);
  const pill = $('health');
  if (pill.textContent !== h.word) pill.textContent = h.word; // a screen reader hears of changes only
  pill.className = `pill ${h.kind}`;
  pill.title = h.why.join('; ');
  document.title = `${h.kind === 'good' ? '' : '! '}${cluster}: ${h.word} · Howdah`;

  const problem = $('problem');
  problem.hidden = !view.error;
  if (view.error) problem.replaceChildren(...said(view.error));
  if (!view.status) return; // what was last seen stays, marked by its age

  $('now').replaceChildren(...facts(view).flatMap(([name, text, kind]) => [html('dt', {}, name), html('dd', { class: kind }, text)]));
  $('problems').replaceChildren(...(view.status.problems || []).map((p) => html('li', {}, html('strong', {}, `${p.member}: `), ...said(p))));
  const seen = checks(view);
  $('checked').textContent = seen.says;
  rows('findings', seen.rows, (f) => [cell(f.grade, f.kind), cell(f.check), cell(f.evidence), cell(f.do || '')], 'nothing was looked at');
  draw();
  const s = view.status;
  const operator = role === 'operator';
  $('h-orders').hidden = $('pause').hidden = !operator;
  $('pause').textContent = s.picture.paused ? 'Resume' : 'Pause';
  members(s.picture.members, operator);
  const acts = view.acts || [];
  $('ordered').hidden = !acts.length;
  $('acts').replaceChildren(...acts.map((a) => { const [text, kind] = act(a, now); return html('li', { class: kind }, text); }));
  const led = services(view);
  rows('services', led.rows, (r) => [cell(r.port, 'n'), cell(r.name), cell(r.to)], 'no gateway answers');
  $('gateways').textContent = [`${led.well} of ${led.all} gateways up`, ...led.unwell].join('; ');
  rows('etcd', s.etcd || [], (m) => [
    cell(m.name), cell(m.up ? (m.leads ? 'leads' : 'up') : `down${m.why ? `: ${m.why}` : ''}`, m.up ? 'good' : 'bad'), cell(m.bytes ? bytes(m.bytes) : '', 'n'), cell(m.term || '', 'n'),
  ], 'the store is elsewhere');
  if (s.backup) {
    const [text, kind] = archive(s.backup, now);
    $('archive').textContent = text;
    $('archive').className = kind || 'quiet';
    rows('backups', backups(s.backup, now), (b) => [cell(`${b.type} ${b.label}`, b.kind), cell(b.when), cell(b.took, 'n'), cell(b.size, 'n'), cell(b.on)], 'none yet');
  } else {
    $('archive').textContent = 'The cluster keeps no backups here.';
    rows('backups', [], () => [], '');
  }
  rows('whys', view.whys, (w) => [cell(w.member), cell(ago(w.at, now)), cell((w.trail || []).join(', ')), cell((w.actions || []).join(', ') || 'nothing to do'), cell((w.waiting || []).join('; '))], 'no member has published a decision yet');
  changes(now);
}

let listed = ''; // members with what may be asked of them: a button under a finger stays where it is

function members(all, operator) {
  const texts = (m) => [
    [m.name], [`${m.host}${m.port && m.port !== 5432 ? `:${m.port}` : ''}`], [title(m.role)], [m.state, m.running ? '' : 'bad'],
    [m.timeline, 'n'], [behind(m) === null ? 'unknown' : bytes(behind(m)), 'n'],
    [[...Object.entries(m.tags || {}).map(([k, v]) => `${k}: ${v}`), ...(m.pending_restart ? ['pending restart'] : [])].join(', ')],
  ];
  const key = JSON.stringify([cluster, operator, all.map((m) => [m.name, orders(view, m)])]);
  if (key === listed) {
    all.forEach((m, i) => {
      const cells = $('members').children[i].children;
      texts(m).forEach(([text, kind], j) => {
        cells[j].textContent = text === null || text === undefined ? '' : `${text}`;
        cells[j].className = kind || '';
      });
    });
    return;
  }
  listed = key;
  rows('members', all, (m) => [
    ...texts(m).map(([text, kind]) => cell(text, kind)),
    ...(operator ? [html('td', { class: 'buttons' }, ...orders(view, m).map(([verb, words]) => {
      const b = html('button', { type: 'button', 'aria-label': `${words}: ${m.name}` }, words);
      b.addEventListener('click', () => propose(verb, m.name));
      return b;
    }))] : []),
  ], 'no member shows itself');
}

/** said is a problem with what, why and what to do. */
function said(p) {
  const parts = [html('span', { class: 'bad' }, p.what)];
  if (p.why) parts.push(html('div', {}, `why: ${p.why}`));
  if (p.do) parts.push(html('div', {}, `do: ${p.do}`));
  if (p.code) parts.push(html('div', { class: 'quiet' }, `[${p.code}] in docs/problems.md`));
  return parts;
}

/** draw moves what is there already, so that a change of roles can be watched. */
function draw() {
  const into = $('topology');
  const width = into.clientWidth || 600;
  const t = topology(view, width);
  into.setAttribute('viewBox', `0 0 ${width} ${Math.max(1, t.height)}`);
  into.setAttribute('height', t.height);
  into.setAttribute('aria-label', t.says);
  const was = new Map([...into.querySelectorAll('g')].map((g) => [g.dataset.id, g]));
  into.querySelectorAll('path').forEach((p) => p.remove());
  into.prepend(...t.lines.map((l) => svg('path', { class: l.kind, d: l.d })));
  for (const b of t.boxes) {
    let g = was.get(b.id);
    was.delete(b.id);
    if (!g) {
      g = svg('g');
      g.dataset.id = b.id;
      into.append(g);
    }
    g.setAttribute('class', b.kind);
    g.style.transform = `translate(${b.x}px, ${b.y}px)`;
    g.replaceChildren(
      svg('rect', { width: b.w, height: b.h, rx: 8 }),
      svg('text', { class: 'name', x: 12, y: 20 }, b.name),
      ...b.text.map((line, i) => svg('text', { class: 'soft', x: 12, y: 38 + 17 * i }, line)),
    );
  }
  for (const gone of was.values()) gone.remove();
}

let told = ''; // which changes of leader are shown: opened ones stay open

function changes(now) {
  const key = JSON.stringify(view.failovers);
  const summaries = $('failovers').querySelectorAll('summary');
  if (key === told) { // only their ages change
    view.failovers.forEach((f, i) => { summaries[i].textContent = change(f, now); });
    return;
  }
  told = key;
  $('failovers').replaceChildren(...view.failovers.map((f) => {
    const last = f.phases.length ? f.phases[f.phases.length - 1].after_ms : 0;
    let before = 0;
    const steps = f.phases.flatMap((p) => {
      const from = before;
      before = p.after_ms;
      const bar = svg('svg', { viewBox: '0 0 100 10', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, svg('rect', { x: (from / (last || 1)) * 100, width: Math.max(0.3, ((p.after_ms - from) / (last || 1)) * 100), height: 10 }));
      return [html('span', {}, p.name), html('span', { class: 'n' }, `${p.after_ms.toFixed(1)} ms`), bar];
    });
    return html('details', {},
      html('summary', {}, change(f, now)),
      html('p', { class: 'quiet' }, `epoch ${f.epoch}, timeline ${f.timeline}, ${new Date(f.at).toLocaleString()}`),
      html('ul', {}, ...(f.reason || []).map((r) => html('li', {}, r))),
      html('div', { class: 'phases' }, ...steps),
      around(f, last));
  }));
  if (!view.failovers.length) $('failovers').replaceChildren(html('p', { class: 'quiet' }, 'The leader never changed.'));
}

/** around asks, once somebody wants it, what the members logged around a change of leader. */
function around(f, took) {
  const of = cluster;
  const button = html('button', { type: 'button' }, 'Log lines around it');
  const into = html('div', { class: 'lines' });
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      const told = await ask('/api/lines', { cluster: of, at: Date.parse(f.at), for: Math.ceil(took) });
      into.replaceChildren(
        ...told.away.map((p) => html('div', {}, ...said(p))),
        ...(told.lines.length ? told.lines.map((l) => html('div', { class: kinds[l.level] || '' }, line(l))) : [html('p', { class: 'quiet' }, 'nothing is kept of that time')]));
    } catch (e) {
      into.replaceChildren(html('p', { class: 'bad' }, e.message));
    }
    button.disabled = false;
  });
  return html('div', {}, button, into);
}

const kinds = { warning: 'warn', err: 'bad', crit: 'bad', emerg: 'bad' };

async function hear() {
  const of = cluster;
  const all = alerts(await ask('/api/v1/alerts'), of);
  if (of !== cluster) return;
  const fire = all.filter((a) => a.state === 'firing');
  const pending = all.length - fire.length;
  $('alerts-count').textContent = `${fire.length ? '' : 'nothing fires'}${pending ? `${fire.length ? '' : ', '}${pending} pending` : ''}`;
  const kinds = { CRIT: 'bad', WARN: 'warn' };
  $('alerts').replaceChildren(...fire.map((a) => html('li', {},
    html('span', { class: `tag ${kinds[a.severity] || ''}` }, a.severity), html('strong', {}, `${a.name} `), a.summary,
    html('div', { class: 'quiet' }, `since ${ago(a.since, new Date().toISOString())}${a.problem ? `; see ${a.problem} in docs/problems.md` : ''}`))));
}

async function fired() {
  const of = cluster;
  const until = Math.floor(Date.now() / 1000);
  const step = 120;
  const answer = await ask('/api/v1/query_range', { query: firing(of), start: until - 86400, end: until, step });
  if (of !== cluster) return;
  rows('past', past(answer, until, step).slice(0, 100), (a) => [
    cell(new Date(a.from * 1000).toLocaleString()), cell(a.to === null ? 'still' : span(Math.max(step, a.to - a.from) * 1000)), cell(a.name, a.severity === 'CRIT' ? 'bad' : ''), cell(a.member),
  ], 'nothing fired');
}

async function plot() {
  const of = cluster;
  const range = Number($('range').value);
  const step = Math.max(15, Math.ceil(range / 240));
  const to = Math.floor(Date.now() / 1000 / step) * step;
  const into = $('charts');
  const all = charts(of);
  if (into.dataset.of !== of) into.replaceChildren(...all.map(() => html('figure')));
  into.dataset.of = of;
  for (const [i, [name, query, unit]] of all.entries()) { // one after another: the store has turns for few
    let matrix = [];
    let why = 'nothing was gathered yet';
    try {
      matrix = (await ask('/api/v1/query_range', { query, start: to - range, end: to, step })).data.result;
    } catch (e) {
      why = e.message;
    }
    if (of !== cluster) return;
    into.children[i].replaceChildren(...plotted(name, matrix, unit, { from: to - range, to, step }, why));
  }
}

function plotted(name, matrix, unit, when, why) {
  const width = 420;
  const height = 150;
  const c = chart(matrix, { ...when, width, height });
  const text = units[unit];
  const clock = (t) => new Date(t * 1000).toLocaleString([], when.to - when.from > 86400 ? { month: 'short', day: 'numeric' } : { hour: '2-digit', minute: '2-digit' });
  const says = c.series.map((s) => `${s.name} ${text(s.now)} now, ${text(s.max)} at most`).join('; ') || why;
  const caption = html('figcaption', {}, html('strong', {}, name), ...(c.series.length
    ? c.series.map((s) => html('span', { class: `key s${s.color}` }, `${s.name} ${text(s.now)}`)) : [html('span', { class: 'quiet' }, why)]));
  const image = svg('svg', { viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${name}: ${says}` },
    ...c.rows.flatMap((r) => [svg('path', { class: 'grid', d: `M${c.left} ${r.y}H${width}` }), svg('text', { class: 'soft', x: c.left - 6, y: r.y + 4, 'text-anchor': 'end' }, text(r.value))]),
    ...c.columns.map((k, i) => svg('text', { class: 'soft', x: k.x, y: height - 4, 'text-anchor': ['start', 'middle', 'end'][i] }, clock(k.at))),
    ...c.series.map((s) => svg('path', { class: `s${s.color}`, d: s.d }, svg('title', {}, `${s.name}: ${text(s.now)} now, ${text(s.max)} at most`))));
  return [caption, image];
}

/** again does something now and every so often, whatever came of the last time. */
function again(what, seconds) {
  let busy = false;
  const go = async () => {
    if (busy || !cluster || document.hidden) return;
    busy = true;
    try {
      await what();
    } catch (e) {
      console.warn(e.message); // the line of what is live tells of it too
    } finally {
      busy = false;
    }
  };
  setInterval(go, seconds * 1000);
  return go;
}

const slow = [again(hear, 5), again(plot, 15), again(fired, 60)];

function follow(name) {
  if (live) live.close();
  cluster = name;
  view = null;
  told = '';
  for (const a of document.querySelectorAll('nav a')) {
    if (a.textContent === name) a.setAttribute('aria-current', 'page');
    else a.removeAttribute('aria-current');
  }
  live = new EventSource(`/api/live?${new URLSearchParams({ cluster: name })}`);
  live.onmessage = (e) => {
    heard = performance.now();
    view = JSON.parse(e.data);
    show();
  };
  live.onerror = () => { ask('/api/clusters').catch(() => {}); }; // our time here may be over
  slow.forEach((go) => go());
}

setInterval(() => {
  const age = performance.now() - heard;
  const stale = !heard || age > 5000;
  $('live').textContent = !heard ? 'connecting …' : stale ? `last seen ${span(age)} ago` : 'live';
  $('live').className = stale ? 'bad' : 'quiet';
}, 1000);

const themes = ['', 'light', 'dark'];
function paint(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}
paint(localStorage.getItem('theme') || '');
$('theme').addEventListener('click', () => {
  const next = themes[(themes.indexOf(localStorage.getItem('theme') || '') + 1) % themes.length];
  localStorage.setItem('theme', next);
  paint(next);
});
$('range').addEventListener('change', () => slow[1]());
addEventListener('resize', () => { if (view && view.status) draw(); });
document.addEventListener('visibilitychange', () => slow.forEach((go) => go()));

const entered = await ask('/api/clusters');
const { clusters } = entered;
role = entered.role;
$('may').textContent = role === 'operator' ? 'You are an operator: what you order is done, and logged with your address.' : 'You only look; whoever knows the operator\'s password may change something here.';
$('clusters').replaceChildren(...clusters.map((name) => html('a', { href: `#${encodeURIComponent(name)}` }, name)));
const chosen = () => {
  const name = decodeURIComponent(location.hash.slice(1));
  return clusters.includes(name) ? name : clusters[0];
};
addEventListener('hashchange', () => { if (chosen() !== cluster) follow(chosen()); });
if (clusters.length) follow(chosen());
else $('health').textContent = 'no cluster is observed';
