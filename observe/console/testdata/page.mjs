// Runs console.js over a document that only remembers: node testdata/page.mjs DIR VIEW.
// DIR has console.mjs and lib.mjs, VIEW is what a console once sent.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [dir, file] = process.argv.slice(2);
const view = JSON.parse(fs.readFileSync(file, 'utf8'));

class Element {
  constructor(name) {
    Object.assign(this, { name, attributes: {}, children: [], dataset: {}, style: {}, listeners: {}, clientWidth: 800, value: '3600', hidden: false });
  }
  setAttribute(name, value) { this.attributes[name] = `${value}`; }
  removeAttribute(name) { delete this.attributes[name]; }
  append(...more) { for (const c of more) { assert.ok(c !== undefined && c !== null, 'nothing is appended'); if (c instanceof Element) { c.parent?.drop(c); c.parent = this; } this.children.push(c); } }
  prepend(...more) { const old = this.children; this.children = []; this.append(...more); this.children.push(...old); }
  replaceChildren(...more) { this.children = []; this.append(...more); }
  drop(child) { this.children = this.children.filter((c) => c !== child); }
  remove() { this.parent?.drop(this); }
  addEventListener(name, f) { this.listeners[name] = f; }
  showModal() { this.open = true; }
  close() { this.open = false; this.listeners.close?.(); }
  focus() {}
  getBoundingClientRect() { assert.equal(this.attributes.class, 'still', 'what is measured stands'); return {}; }
  get all() { return this.children.filter((c) => c instanceof Element).flatMap((c) => [c, ...c.all]); }
  get tagName() { return this.name.toUpperCase(); }
  querySelectorAll(what) { const last = what.split(' ').pop(); return this.all.filter((e) => e.name === last); }
  get textContent() { return this.children.map((c) => (c instanceof Element ? c.textContent : `${c}`)).join(''); }
  set textContent(text) { this.children = [`${text}`]; }
  set className(text) { this.attributes.class = text; }
}

const byId = new Map();
const root = new Element('html');
globalThis.document = {
  getElementById: (id) => { if (!byId.has(id)) { const e = new Element(id); byId.set(id, e); root.append(e); } return byId.get(id); },
  createElement: (name) => new Element(name), createElementNS: (_, name) => new Element(name),
  querySelectorAll: (what) => root.querySelectorAll(what), documentElement: root, addEventListener() {}, hidden: false, title: '',
};
globalThis.location = { hash: '', reload() { throw new Error('the page is loaded anew'); } };
globalThis.localStorage = { getItem: () => null, setItem() {} };
const heard = {};
globalThis.addEventListener = (name, f) => { heard[name] = [...(heard[name] || []), f]; };
globalThis.performance ??= { now: () => 0 };
globalThis.setInterval = () => 0;
const asked = [];
const sent = [];
globalThis.fetch = async (address, options) => {
  asked.push(address);
  if (options) {
    const body = JSON.parse(options.body);
    sent.push([options.method, options.headers['Content-Type'], address, body]);
    const answers = {
      '/api/plan': [200, { text: `${body.verb} ${body.member}`, costs: 'something', risky: body.verb === 'reinit' }],
      '/api/do': body.typed === body.member || body.verb !== 'reinit' ? [202, { number: 1 }] : [409, { error: { code: 'order-untyped', what: 'did not', why: 'another name', do: 'type it' } }],
    };
    const [status, answer] = answers[address];
    return { ok: status < 300, status, text: async () => JSON.stringify(answer), json: async () => answer };
  }
  const t = Math.floor(Date.now() / 1000);
  const bodies = {
    '/api/clusters': { clusters: [view.cluster, 'other'], role: 'operator' },
    '/api/v1/alerts': { data: { alerts: [{ labels: { alertname: 'MemberDown', severity: 'CRIT', cls: view.cluster, ins: 'demo-3', problem: 'member-down' }, annotations: { summary: 'demo-3 of demo is down' }, state: 'firing', activeAt: view.status.at }] } },
    '/api/v2/silences': [
      { id: 'abc', matchers: [{ name: 'alertname', value: 'NodeDown', isEqual: true, isRegex: false }, { name: 'cls', value: view.cluster, isEqual: true, isRegex: false }], startsAt: view.status.at, endsAt: view.status.at, createdBy: 'ann', comment: '<b> disks', status: { state: 'active' } },
      { id: 'file-1', matchers: [{ name: 'ins', value: 'x.*', isEqual: true, isRegex: true }], createdBy: '', comment: '', status: { state: 'active' } },
      { id: 'old', matchers: [{ name: 'alertname', value: 'Gone', isEqual: true, isRegex: false }], createdBy: '', comment: '', status: { state: 'expired' } },
      { id: 'else', matchers: [{ name: 'cls', value: 'elsewhere', isEqual: true, isRegex: false }], createdBy: '', comment: '', status: { state: 'active' } },
    ],
    '/api/lines': { away: [{ what: 'cannot read the logs of demo-2' }], lines: [{ at: '2026-11-22T10:00:00.125Z', member: 'demo-1', job: 'agent', level: 'warning', text: 'decision <b>' }] },
    '/api/v1/query': { data: { result: [{ metric: { ins: 'demo-1', datname: 'demo', query: '42' }, value: [t, '2'] }] } },
    '/api/activity': { at: view.status.at, sessions: [
      { pid: 7, user: 'demo', database: 'demo', application: 'psql', state: 'idle in transaction', state_s: 70, transaction_s: 90, query: 'UPDATE <b> SET x = 1' },
      { pid: 8, user: 'demo', database: 'demo', application: '', state: 'active', wait: 'Lock:transactionid', state_s: 5, transaction_s: 6, statement: '42', lock: 'transactionid, ShareLock', locked_s: 5, behind: [7] },
    ] },
    '/api/statements': { texts: { 42: 'SELECT $1 /* <i> */' } },
    '/api/machines': { findings: [{ host: 'demo-2', check: 'clock', grade: 'warn', evidence: 'nobody steers it', do: 'run chrony' }] },
    '/api/peeks': { peeks: [{ plan: { to: { kind: 'time', value: '2026-11-22 10:00:00+00', at: '2026-11-22T10:00:00Z' } }, beside: 'demo-2', until: '2026-11-22T10:30:00Z', by: 'operator@10.0.0.1 (console)', server: { host: '/run/<b>', port: 6000, user: 'postgres', database: 'postgres' } }] },
    '/api/v1/query_range': { data: { result: [{ metric: { ins: 'demo-1', alertname: 'MemberDown', severity: 'CRIT' }, values: [[t - 600, '1'], [t - 480, '3']] }] } },
  };
  return { ok: true, status: 200, json: async () => bodies[address.split('?')[0]] };
};
let live = null;
globalThis.EventSource = class { constructor(address) { this.address = address; live = this; } close() {} };
const warned = [];
console.warn = (text) => warned.push(text);

await import(pathToFileURL(path.join(dir, 'console.mjs')));
const settle = async () => { for (let i = 0; i < 200; i++) await null; await new Promise((done) => setImmediate(done)); };
await settle();
const text = (id) => byId.get(id).textContent;
assert.equal(live.address, `/api/live?cluster=${view.cluster}`);
const see = (v) => live.onmessage({ data: JSON.stringify(v) });

see(view);
await settle();
assert.equal(text('health'), 'healthy');
for (const m of view.status.picture.members) assert.match(text('members'), new RegExp(m.name));
assert.match(text('topology'), /5433.*demo-1/s);
assert.match(text('services'), /5434replica/);
assert.match(text('gateways'), /of 3 gateways up/);
assert.match(text('backups'), /full/);
assert.match(text('failovers'), /#2 switchover demo-1 → demo-2/);
assert.match(text('alerts'), /CRITMemberDown demo-3 of demo is down/);
assert.ok(!asked.some((a) => a.includes('query_range')), 'what is not shown is asked for');

// Every page shows what it was told; keys turn them.
const turn = async (page) => { location.hash = `#${view.cluster}/${page}`; heard.hashchange.forEach((f) => f()); await settle(); await settle(); };
await turn('load');
assert.ok(byId.get('p-overview').hidden && !byId.get('p-load').hidden);
assert.equal(byId.get('charts').children.length, 9);
assert.match(text('charts'), /Transactions a second/);
assert.ok(byId.get('charts').all.some((e) => e.name === 'path' && e.attributes.d.startsWith('M') && e.attributes.class === 'curve s0'), 'no curve');
assert.ok(byId.get('charts').all.some((e) => e.attributes.class === 'mark'), 'no line of cores');
assert.match(text('top'), /SELECT \$1 \/\* <i> \*\//);
assert.match(text('locks'), /^7 demo@demo \(psql\), idle in transaction, in its transaction for 90 sUPDATE <b> SET x = 18 demo@demo, active.*waits 5.0 s for transactionid, ShareLockSELECT/);
assert.match(text('sessions'), /8demo@demo.*Lock:transactionid/);
assert.match(text('disks'), /demo-1.*full in 2.0 s/);
byId.get('top').all.find((e) => e.name === 'button').listeners.click();
await settle();
assert.ok(!byId.get('drill').hidden && text('drill-text') === 'SELECT $1 /* <i> */');
assert.equal(byId.get('drill-charts').children.length, 3);
await turn('backups');
assert.match(byId.get('timeline').attributes['aria-label'], /^\d+ backups?; log for /);
byId.get('timeline').listeners.keydown({ key: 'ArrowLeft', preventDefault() {} });
assert.match(text('by-hand'), /^howdah restore demo --to '\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00' --peek$/);
assert.match(text('peeks'), /on the machine of demo-2 until .*psql -h \/run\/<b> -p 6000 -U postgres -d postgres/);
byId.get('peeks').all.find((e) => e.name === 'button').listeners.click();
await settle();
assert.equal(text('c-text'), 'end-peek demo-2');
assert.deepEqual(sent.pop(), ['POST', 'application/json', '/api/plan', { cluster: view.cluster, verb: 'end-peek', member: 'demo-2' }]);
byId.get('confirm').close();
await turn('health');
assert.match(text('findings'), /warndemo-2clocknobody steers itrun chrony/);
await turn('incidents');
assert.match(text('past'), /MemberDown/);
heard.keydown.forEach((f) => f({ key: '1', target: byId.get('main') }));
assert.equal(location.hash, `${view.cluster}/overview`);
await turn('overview');

// A change of leader moves what is there; nothing is drawn twice.
const groups = () => byId.get('topology').querySelectorAll('g').map((g) => g.dataset.id).sort();
const before = groups();
const other = structuredClone(view);
other.status.picture.leader = 'demo-3';
other.status.picture.members.forEach((m) => { m.role = m.name === 'demo-3' ? 'leader' : 'replica'; });
see(other);
assert.deepEqual(groups(), before);
assert.match(byId.get('topology').attributes['aria-label'], /^demo-3 leads/);

// Around a change of leader the logs are asked, once somebody wants that.
const around = byId.get('failovers').all.find((e) => e.name === 'button');
assert.ok(!asked.some((a) => a.startsWith('/api/lines')));
around.listeners.click();
await settle();
assert.match(asked.at(-1), /^\/api\/lines\?cluster=demo&at=\d{13}&for=\d+$/);
assert.match(text('failovers'), /cannot read the logs of demo-2.*10:00:00.125 demo-1 agent warning: decision <b>/);

// Orders are shown before they are given, as they are said to be; one that gives up
// data needs the name.
const buttons = () => byId.get('members').all.filter((e) => e.name === 'button');
const press = async (words) => { buttons().find((b) => b.attributes['aria-label'] === words).listeners.click(); await settle(); };
const submit = async () => { await byId.get('c-form').listeners.submit({ preventDefault() {} }); await settle(); };
assert.deepEqual(buttons().map((b) => b.attributes['aria-label']), ['Lead: demo-1', 'Copy anew: demo-1', 'Restart: demo-1', 'Lead: demo-2', 'Copy anew: demo-2', 'Restart: demo-2', 'Restart: demo-3']);
await press('Lead: demo-1');
assert.ok(byId.get('confirm').open);
assert.equal(text('c-text'), 'switchover demo-1');
assert.ok(byId.get('c-type').hidden);
assert.equal(sent.length, 1, 'it was done unconfirmed');
byId.get('c-typed').value = '';
await submit();
assert.deepEqual(sent[1], ['POST', 'application/json', '/api/do', { cluster: view.cluster, verb: 'switchover', member: 'demo-1', seen: 'switchover demo-1', typed: '' }]);
assert.ok(!byId.get('confirm').open);
await press('Copy anew: demo-2');
assert.ok(!byId.get('c-type').hidden);
byId.get('c-typed').value = 'demo-1';
await submit();
assert.ok(byId.get('confirm').open && !byId.get('c-error').hidden);
assert.match(text('c-error'), /did notwhy: another name/);
byId.get('c-typed').value = 'demo-2';
await submit();
assert.ok(!byId.get('confirm').open);
const kept = buttons();
other.acts = [{ number: 1, text: 'restart PostgreSQL of demo-2', by: 'operator@10.0.0.1 (console)', at: view.status.at }];
other.status.picture.members[0].timeline = 99;
see(other);
assert.ok(buttons().every((b, i) => b === kept[i]), 'buttons move under the finger');
assert.match(text('members'), /99/);
assert.match(text('acts'), /restart PostgreSQL of demo-2, by operator@10.0.0.1 .*under way/);

// Alerts are silenced for as long as is chosen, and told again.
assert.deepEqual(byId.get('silences').all.filter((e) => e.name === 'strong').map((e) => e.textContent.trim()), [`NodeDown cls=${view.cluster}`, 'ins=~x.*']);
assert.match(text('silences'), /<b> disks.*by ann/);
const silence = byId.get('alerts').all.find((e) => e.name === 'button');
assert.equal(silence.attributes['aria-label'], 'Silence: MemberDown');
silence.listeners.click();
await settle();
assert.ok(byId.get('confirm').open && !byId.get('c-last').hidden);
assert.deepEqual(sent.pop()[3], { cluster: view.cluster, verb: 'silence', member: '', matchers: ['alertname=MemberDown', `cls=${view.cluster}`], for: '2h' });
byId.get('c-for').listeners.change({ target: { value: '8h' } });
await settle();
assert.equal(sent.pop()[3].for, '8h');
byId.get('c-comment').value = ' new disks ';
byId.get('c-typed').value = '';
await submit();
assert.deepEqual(sent.pop()[3], { cluster: view.cluster, verb: 'silence', member: '', matchers: ['alertname=MemberDown', `cls=${view.cluster}`], for: '8h', seen: 'silence ', typed: '', comment: 'new disks' });
const again = byId.get('silences').all.filter((e) => e.name === 'button');
assert.equal(again.length, 1, 'what is in a file is not ended here');
again[0].listeners.click();
await settle();
assert.deepEqual(sent.pop()[3], { cluster: view.cluster, verb: 'unsilence', member: '', silence: 'abc' });
assert.ok(byId.get('c-last').hidden);
byId.get('confirm').close();

// A cluster of which nothing is to be said is shown too.
see({ ...other, status: { ...other.status, problems: null, etcd: null, alerts: null, backup: null, commits: undefined }, acts: undefined, health: null });
assert.match(text('members'), /demo-3/);
assert.equal(text('archive'), 'The cluster keeps no backups here.');

// Checks are shown, the worst first.
other.health = [{ check: 'leader', grade: 'ok', evidence: 'demo-3 leads' }, { check: 'backups', grade: 'fail', evidence: 'there is none yet', do: '`howdah backup demo` makes one' }];
see(other);
assert.match(text('findings'), /^failclusterbackupsthere is none yethowdah backup demo makes onewarndemo-2clock/);
assert.match(text('well-findings'), /okclusterleader/);
assert.equal(text('checked'), '1 fail, 1 warn, 1 ok');

// What comes from elsewhere stays text, and a store that is silent is said so.
other.status.unwell = ['<img src=x onerror=alert(1)> is stopped'];
other.status.problems = [{ member: 'demo-1', code: 'disk-full', what: 'no space', why: 'full', do: 'free some' }];
see(other);
assert.equal(text('health'), 'unwell');
assert.match(text('now'), /<img src=x/);
assert.match(text('problems'), /demo-1: no spacewhy: fulldo: free some\[disk-full\]/);
see({ cluster: view.cluster, status: null, whys: [], failovers: [], error: { code: 'store-unreachable', what: 'cannot read cluster demo', why: 'no majority', do: 'look' } });
assert.equal(text('health'), 'not seen');
assert.match(text('problem'), /cannot read cluster demo/);
assert.ok(byId.get('members').children.length > 0, 'what was seen is gone');
assert.deepEqual(warned, []);
assert.ok(asked.every((a) => a.startsWith('/api/')), 'something is asked elsewhere');

console.log('ok');
