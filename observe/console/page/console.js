// The page: asks, and puts what lib.js makes of the answers into the document.
// Everything that came from elsewhere is put as text, never as markup.

import { $, ask, cell, html, marked, rows, said, shown, svg, tell } from './dom.js';
import { act, ago, alerts, behind, bytes, change, checks, facts, firing, grouped, health, line, orders, past, services, silences, span, title, topology } from './lib.js';
import * as backups from './backups.js';
import * as load from './load.js';

let live = null; // the stream of looks
let heard = 0; // when the last one came, by performance.now()

let order = null; // that waits to be confirmed

/** propose shows what an order would do, and what it costs; nothing is done yet. */
async function propose(verb, member = '', more = {}) {
  order = { cluster: shown.cluster, verb, member, ...more };
  const mine = order;
  $('c-text').textContent = 'What would that do? …';
  $('c-costs').textContent = '';
  $('c-error').hidden = $('c-type').hidden = $('c-yes').disabled = true;
  $('c-typed').value = '';
  $('c-last').hidden = verb !== 'silence';
  if (verb === 'silence') $('c-for').value = more.for;
  if (!$('confirm').open) {
    $('c-comment').value = '';
    $('confirm').showModal();
  }
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
    await tell('/api/do', { ...order, typed: $('c-typed').value.trim(), ...(order.verb === 'silence' ? { comment: $('c-comment').value.trim() } : {}) });
    $('confirm').close();
  } catch (err) {
    refused(err);
    $('c-yes').disabled = false;
  }
});
$('c-for').addEventListener('change', (e) => propose('silence', '', { matchers: order.matchers, for: e.target.value }));
$('c-no').addEventListener('click', () => $('confirm').close());
$('confirm').addEventListener('close', () => { order = null; });
$('pause').addEventListener('click', () => propose(shown.view.status.picture.paused ? 'resume' : 'pause'));

/** grade shows in a word how a cluster is. */
function grade(view) {
  const h = health(view);
  const pill = $('health');
  if (pill.textContent !== h.word) pill.textContent = h.word; // a screen reader hears of changes only
  pill.className = `pill ${h.kind}`;
  pill.title = h.why.join('; ');
  document.title = `${h.kind === 'good' ? '' : '! '}${shown.cluster}: ${h.word} · Howdah`;
}

let led = ''; // who led when it was last looked at
let newest = 0; // the last change of leader that was known then

/** told says of a change of leader that has just been seen. */
function passed(view) {
  const last = view.failovers[0];
  const now = view.status.picture.leader;
  if (led && (now !== led || (last && newest && last.number > newest))) {
    const text = !now ? `${led} leads no more, and nobody does yet` : now === led ? `${now} leads again` : `${now} leads now, after ${led}`;
    const took = last && last.number > newest && last.outage_ms > 0 ? `; ${span(last.outage_ms)} without writes` : '';
    $('news').textContent = text + took;
    $('news').className = `card wide news ${now ? 'good' : 'bad'}`;
    $('news').hidden = false;
    clearTimeout(passed.timer);
    passed.timer = setTimeout(() => { $('news').hidden = true; }, 30000);
  }
  if (now) led = now;
  if (last) newest = last.number;
}

function show() {
  const { view } = shown;
  if (!view) return;
  const now = (view.status && view.status.at) || new Date().toISOString();
  grade(view);

  const problem = $('problem');
  problem.hidden = !view.error;
  if (view.error) problem.replaceChildren(...said(view.error));
  if (!view.status) return; // what was last seen stays, marked by its age

  $('now').replaceChildren(...facts(view).map(([name, text, kind]) => html('div', { class: kind }, html('dt', {}, name), html('dd', {}, text))));
  $('problems').replaceChildren(...(view.status.problems || []).map((p) => html('li', {}, html('strong', {}, `${p.member}: `), ...said(p))));
  passed(view);
  findings();
  draw();
  const s = view.status;
  const operator = shown.role === 'operator';
  $('h-orders').hidden = $('pause').hidden = !operator;
  $('pause').textContent = s.picture.paused ? 'Resume' : 'Pause';
  members(s.picture.members, operator);
  const acts = view.acts || [];
  // Elsewhere than on the overview only what goes on, and what has just ended, is in the way.
  $('ordered').hidden = !acts.length || (shown.page !== 'overview' && acts[0].ended && Date.parse(now) - Date.parse(acts[0].ended) > 30000);
  $('acts').replaceChildren(...acts.map((a) => {
    const [text, kind] = act(a, now);
    const [says, command] = text.split(/(?=psql -h )/);
    return html('li', { class: kind }, says, ...(command ? [html('code', {}, command)] : []));
  }));
  const led = services(view);
  rows('services', led.rows, (r) => [cell(r.port, 'n'), cell(r.name), cell(r.to)], 'no gateway answers');
  $('gateways').textContent = [`${led.well} of ${led.all} gateways up`, ...led.unwell].join('; ');
  rows('etcd', s.etcd || [], (m) => [
    cell(m.name), cell(m.up ? (m.leads ? 'leads' : 'up') : `down${m.why ? `: ${m.why}` : ''}`, m.up ? 'good' : 'bad'), cell(m.bytes ? bytes(m.bytes) : '', 'n'), cell(m.term || '', 'n'),
  ], 'the store is elsewhere');
  const done = JSON.stringify(acts.map((a) => [a.number, a.ended]));
  if (done !== ordered) slow.peeks(); // one may have been opened, or ended
  ordered = done;
  backups.show(now);
  load.choices();
  rows('whys', view.whys, (w) => [cell(w.member), cell(ago(w.at, now)), cell((w.trail || []).join(', ')), cell((w.actions || []).join(', ') || 'nothing to do'), cell((w.waiting || []).join('; '))], 'no member has published a decision yet');
  changes(now);
}

/** findings are the cluster's own checks and the machines', the worst first. */
function findings() {
  const seen = checks(shown.view, machines.of === shown.cluster ? machines.all : []);
  $('checked').textContent = seen.says;
  const cells = (f) => [html('td', {}, html('span', { class: `grade ${f.kind}` }, f.grade)), cell(f.host), cell(f.check), cell(f.evidence)];
  rows('findings', seen.rows.filter((f) => f.grade !== 'ok'), (f) => [...cells(f), html('td', { class: 'mends' }, ...marked(f.do))], 'everything that was looked at is well');
  const well = seen.rows.filter((f) => f.grade === 'ok');
  $('well').hidden = !well.length;
  $('well-count').textContent = `${well.length} checks are well`;
  rows('well-findings', well, cells, '');
  const count = seen.bad ? `${seen.bad}` : '';
  if ($('tab-count').textContent !== count) $('tab-count').textContent = count;
}

let machines = { of: '', all: [] };

/** examine asks the machines what `howdah doctor` says there. */
async function examine() {
  if (shown.page !== 'health' && machines.of === shown.cluster) return;
  const of = shown.cluster;
  const all = (await ask('/api/machines', { cluster: of })).findings;
  if (of !== shown.cluster) return;
  machines = { of, all };
  if (shown.view) findings();
}

let ordered = ''; // what was ordered here when it was last looked at

let listed = ''; // members with what may be asked of them: a button under a finger stays where it is

function members(all, operator) {
  const texts = (m) => [
    [m.name], [`${m.host}${m.port && m.port !== 5432 ? `:${m.port}` : ''}`], [title(m.role)], [m.state, m.running ? '' : 'bad'],
    [m.timeline, 'n'], [behind(m) === null ? 'unknown' : bytes(behind(m)), 'n'],
    [[...Object.entries(m.tags || {}).map(([k, v]) => `${k}: ${v}`), ...(m.pending_restart ? ['pending restart'] : [])].join(', ')],
  ];
  const key = JSON.stringify([shown.cluster, operator, all.map((m) => [m.name, orders(shown.view, m)])]);
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
    ...(operator ? [html('td', { class: 'buttons' }, ...orders(shown.view, m).map(([verb, words]) => {
      const b = html('button', { type: 'button', 'aria-label': `${words}: ${m.name}` }, words);
      b.addEventListener('click', () => propose(verb, m.name));
      return b;
    }))] : []),
  ], 'no member shows itself');
}

/** draw moves what is there already, so that a change of roles can be watched. */
function draw() {
  const { view } = shown;
  if (shown.page !== 'overview') return;
  const into = $('topology');
  const width = into.clientWidth || 600;
  const t = topology(view, width);
  const still = into.dataset.width !== `${width}`; // of another width: nothing moves to its place, it stands there
  into.dataset.width = `${width}`;
  if (still) into.setAttribute('class', 'still');
  into.setAttribute('viewBox', `0 0 ${width} ${Math.max(1, t.height)}`);
  into.setAttribute('height', t.height);
  into.setAttribute('aria-label', t.says);
  const was = new Map([...into.querySelectorAll('g')].map((g) => [g.dataset.id, g]));
  const lines = new Map([...into.querySelectorAll('path')].map((l) => [l.dataset.id, l]));
  for (const l of t.lines) {
    let p = lines.get(l.id);
    lines.delete(l.id);
    if (!p) {
      p = svg('path');
      p.dataset.id = l.id;
      into.prepend(p);
    }
    p.setAttribute('class', l.kind);
    p.setAttribute('d', l.d);
  }
  for (const gone of lines.values()) gone.remove();
  for (const b of t.boxes) {
    let g = was.get(b.id);
    was.delete(b.id);
    if (!g) {
      g = svg('g');
      g.dataset.id = b.id;
      into.append(g);
    }
    if (b.kind === 'leader' && g.dataset.kind && g.dataset.kind !== 'leader') g.dataset.fresh = performance.now();
    g.dataset.kind = b.kind;
    g.setAttribute('class', g.dataset.fresh && performance.now() - Number(g.dataset.fresh) < 6000 ? `${b.kind} fresh` : b.kind);
    g.style.transform = `translate(${b.x}px, ${b.y}px)`;
    g.replaceChildren(
      svg('rect', { width: b.w, height: b.h, rx: 8 }),
      svg('text', { class: 'name', x: 12, y: 20 }, b.name),
      ...b.text.map((line, i) => svg('text', { class: 'soft', x: 12, y: 38 + 17 * i }, line)),
    );
  }
  for (const gone of was.values()) gone.remove();
  if (still) {
    into.getBoundingClientRect(); // now it does
    into.removeAttribute('class');
  }
}

let told = ''; // which changes of leader are shown: opened ones stay open

function changes(now) {
  const { view } = shown;
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
  const of = shown.cluster;
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
  const of = shown.cluster;
  const all = alerts(await ask('/api/v1/alerts'), of);
  if (of !== shown.cluster) return;
  const fire = all.filter((a) => a.state === 'firing');
  const pending = all.length - fire.length;
  $('alerts-count').textContent = `${fire.length ? `${fire.length} ${fire.length === 1 ? 'fires' : 'fire'}` : 'nothing fires'}${pending ? `, ${pending} pending` : ''}`;
  const groups = grouped(fire);
  const operator = shown.role === 'operator';
  const now = new Date().toISOString();
  const since = (a) => `since ${ago(a.since, now)}${a.problem ? `; see ${a.problem} in docs/problems.md` : ''}`;
  const key = JSON.stringify([of, operator, groups.map((a) => [a.name, a.severity, a.summaries])]);
  if (key === rings) { // only their ages change: a button under a finger stays where it is
    groups.forEach((a, i) => { ages[i].textContent = since(a); });
  } else {
    rings = key;
    ages = groups.map((a) => html('span', {}, since(a)));
    $('alerts').replaceChildren(...groups.map((a, i) => {
      const b = html('button', { type: 'button', class: 'small', 'aria-label': `Silence: ${a.name}` }, 'Silence');
      b.addEventListener('click', () => propose('silence', '', { matchers: [`alertname=${a.name}`, ...(a.cls ? [`cls=${a.cls}`] : [])], for: '2h' }));
      return html('li', {},
        html('span', { class: `tag ${severity[a.severity] || ''}` }, a.severity), html('strong', {}, `${a.name} `),
        ...(a.summaries.length === 1 ? [a.summaries[0]] : a.summaries.map((text) => html('div', {}, text))),
        html('div', { class: 'quiet' }, ages[i], ...(operator ? [' ', b] : [])));
    }));
  }
  await hushed(of, operator);
}

let rings = ''; // which alerts are shown
let ages = []; // and since when, as it is shown
let hushes = ''; // and which silences
const severity = { CRIT: 'bad', WARN: 'warn' };

/** hushed shows what nobody is told of. */
async function hushed(of, operator) {
  const all = silences(await ask('/api/v2/silences'), of);
  const key = JSON.stringify([of, operator, all]);
  if (of !== shown.cluster || key === hushes) return;
  hushes = key;
  $('silences').replaceChildren(...all.map((s) => {
    const b = html('button', { type: 'button', class: 'small', 'aria-label': `Tell again: ${s.text}` }, 'Tell again');
    b.addEventListener('click', () => propose('unsilence', '', { silence: s.id }));
    const when = [s.pending ? `from ${new Date(s.from).toLocaleString()}` : '', s.until ? `until ${new Date(s.until).toLocaleString()}` : 'for good', s.by ? `by ${s.by}` : ''].filter(Boolean).join(', ');
    return html('li', {}, html('span', { class: 'tag' }, 'silenced'), html('strong', {}, `${s.text} `), s.why,
      html('div', { class: 'quiet' }, when, ...(operator && !s.fixed ? [' ', b] : [])));
  }));
}

async function fired() {
  const of = shown.cluster;
  const until = Math.floor(Date.now() / 1000);
  const step = 120;
  const answer = await ask('/api/v1/query_range', { query: firing(of), start: until - 86400, end: until, step });
  if (of !== shown.cluster) return;
  rows('past', past(answer, until, step).slice(0, 100), (a) => [
    cell(new Date(a.from * 1000).toLocaleString()), cell(a.to === null ? 'still' : span(Math.max(step, a.to - a.from) * 1000)), cell(a.name, a.severity === 'CRIT' ? 'bad' : ''), cell(a.member),
  ], 'nothing fired');
}

/** again does something now and every so often, whatever came of the last time. */
function again(what, seconds) {
  let busy = false;
  let wanted = false; // meanwhile: something else is shown by now
  const go = async () => {
    wanted = busy;
    if (busy || !shown.cluster || document.hidden) return;
    busy = true;
    try {
      await what();
    } catch (e) {
      console.warn(e.message); // the line of what is live tells of it too
    } finally {
      busy = false;
      if (wanted) go();
    }
  };
  setInterval(go, seconds * 1000);
  return go;
}

const on = (page, what) => async () => { if (shown.page === page) await what(); };
const slow = { hear: again(hear, 5), plot: again(on('load', load.plot), 10), sessions: again(on('load', load.sessions), 3), fired: again(on('incidents', fired), 60), examine: again(examine, 60), peeks: again(on('backups', () => backups.peeks(propose)), 5) };
const look = () => Object.values(slow).forEach((go) => go());

const pages = ['overview', 'load', 'backups', 'incidents', 'health'];

/** follow shows a page of a cluster. */
function follow(name, page) {
  const other = name !== shown.cluster;
  const turned = page !== shown.page;
  if (!other && !turned) return;
  shown.page = page;
  for (const p of pages) $(`p-${p}`).hidden = p !== page;
  for (const p of pages) {
    $(`t-${p}`).setAttribute('href', `#${encodeURIComponent(name)}/${p}`);
    if (p === page) $(`t-${p}`).setAttribute('aria-current', 'page');
    else $(`t-${p}`).removeAttribute('aria-current');
  }
  if (turned) $('main').scrollTo?.(0, 0);
  if (other) {
    if (live) live.close();
    shown.cluster = name;
    shown.view = null;
    told = led = '';
    newest = 0;
    load.forget();
    for (const a of $('clusters').querySelectorAll('nav a')) {
      if (a.textContent === name) a.setAttribute('aria-current', 'true');
      else a.removeAttribute('aria-current');
    }
    live = new EventSource(`/api/live?${new URLSearchParams({ cluster: name })}`);
    live.onmessage = (e) => {
      const first = !shown.view;
      heard = performance.now();
      shown.view = JSON.parse(e.data);
      show();
      if (first) look();
    };
    live.onerror = () => { ask('/api/clusters').catch(() => {}); }; // our time here may be over
  }
  show();
  look();
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
load.wire(() => { slow.plot(); slow.sessions(); });
backups.wire(propose);
let resized = 0;
addEventListener('resize', () => {
  if (shown.view && shown.view.status) draw();
  clearTimeout(resized);
  resized = setTimeout(slow.plot, 200); // curves are drawn as wide as they are shown
});
document.addEventListener('visibilitychange', look);
addEventListener('keydown', (e) => { // 1 to 5 turn pages, where nobody writes
  if (e.ctrlKey || e.altKey || e.metaKey || /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName) || $('confirm').open) return;
  const page = pages[Number(e.key) - 1];
  if (page) location.hash = `${encodeURIComponent(shown.cluster)}/${page}`;
});

const entered = await ask('/api/clusters');
const { clusters } = entered;
shown.role = entered.role;
$('may').textContent = shown.role === 'operator' ? 'You are an operator: what you order is done, and logged with your address.' : 'You only look; whoever knows the operator\'s password may change something here.';
$('clusters').replaceChildren(...clusters.map((name) => html('a', { href: `#${encodeURIComponent(name)}` }, name)));
$('clusters').hidden = clusters.length < 2;
const turn = () => {
  const [name, page] = location.hash.slice(1).split('/').map(decodeURIComponent);
  follow(clusters.includes(name) ? name : clusters[0], pages.includes(page) ? page : 'overview');
};
addEventListener('hashchange', turn);
if (clusters.length) turn();
else $('health').textContent = 'no cluster is observed';
