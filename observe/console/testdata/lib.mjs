// Tries page/lib.js without a document: node testdata/lib.mjs PATH-OF-LIB
import assert from 'node:assert/strict';

const lib = await import(process.argv[2]);
const at = '2026-11-22T03:00:00Z';
const member = (name, role, more = {}) => ({ name, role, state: role === 'leader' ? 'running' : 'streaming', running: true, host: '10.10.10.11', port: 5432, timeline: 2, tags: {}, ...more });
const lag = (n) => ({ lsn: '0/3000000', behind: n, known: true });
const status = (more = {}) => ({
  picture: { leader: 'demo-1', members: [member('demo-1', 'leader'), member('demo-2', 'quorum_standby', { receive: lag(0) }), member('demo-3', 'replica', { receive: lag(5 * 2 ** 20), replay: lag(6 * 2 ** 20) })], away: [] },
  at, leader_since: '2026-11-22T02:00:00Z', unwell: [], problems: [], awaited: [], faults: [], survives: 1, exposure: 0,
  commits: { mode: 'quorum', strict: true, wait: 1, voters: ['demo-2', 'demo-3'] },
  access: [{ member: 'demo-1', services: [{ name: 'primary', port: 5433, to: ['demo-1'] }, { name: 'replica', port: 5434, to: [] }] }, { member: 'demo-2', services: [], unwell: 'does not answer' }],
  ...more,
});
const view = (more = {}) => ({ cluster: 'demo', status: status(more), whys: [], failovers: [] });

// Words.
assert.equal(lib.bytes(0), '0 bytes');
assert.equal(lib.bytes(1), '1 byte');
assert.equal(lib.bytes(1536), '1.5 kB');
assert.equal(lib.bytes(null), '');
assert.equal(lib.span(512), '512 ms');
assert.equal(lib.span(90_000), '90 s');
assert.equal(lib.span(86_400_000 * 3), '3 days');
assert.equal(lib.ago('2026-11-22T02:55:00Z', at), '5 min ago');
assert.equal(lib.ago('0001-01-01T00:00:00Z', at), '', 'a moment that never was');
assert.equal(lib.short(1234), '1.23k');
assert.equal(lib.units.share(0.256), '25.6 %');
assert.equal(lib.title('quorum_standby'), 'Quorum Standby');

// How well.
assert.equal(lib.health(view()).word, 'healthy');
assert.equal(lib.health(view({ unwell: ['demo-3 is stopped'] })).kind, 'bad');
assert.equal(lib.health(view({ picture: { ...status().picture, leader: '' } })).word, 'no leader');
assert.equal(lib.health({ cluster: 'demo', status: null, error: { what: 'cannot read cluster demo' } }).word, 'not seen');
assert.deepEqual(lib.facts({ cluster: 'demo', status: null }), []);
const facts = Object.fromEntries(lib.facts(view()).map(([name, text]) => [name, text]));
assert.equal(facts.leader, 'demo-1, since 60 min ago');
assert.match(facts.commits, /^wait for 1 of demo-2, demo-3/);
assert.match(facts.exposure, /^nothing/);
assert.equal(facts.survives, 'the loss of 1 host');
assert.equal(Object.fromEntries(lib.facts(view({ commits: undefined, exposure: null }))).exposure.slice(0, 7), 'unknown');

// Where everything stands: nothing overlaps, nothing is outside, whatever the width.
for (const width of [320, 700, 1400]) {
  const t = lib.topology(view({ picture: { ...status().picture, away: ['demo-4'] } }), width);
  assert.deepEqual(t.boxes.map((b) => b.kind), ['service', 'service', 'leader', 'member', 'behind', 'away'], `at ${width}`);
  for (const [i, a] of t.boxes.entries()) {
    assert.ok(a.x >= 0 && a.x + a.w <= width && a.y + a.h <= t.height, `${a.id} is outside at ${width}`);
    for (const b of t.boxes.slice(i + 1)) assert.ok(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y, `${a.id} overlaps ${b.id} at ${width}`);
  }
  assert.deepEqual(t.lines.map((l) => l.kind), ['leads', 'streams', 'streams', 'broken']);
  assert.match(t.says, /^demo-1 leads; demo-2 streaming; demo-3 streaming, 5.0 MB behind; demo-4 does not show itself$/);
}
assert.equal(lib.topology({ status: null }, 500).boxes.length, 0);
assert.match(lib.topology(view({ picture: { leader: '', members: [member('demo-2', 'replica')], away: ['demo-1'] } }), 700).says, /^nobody leads/);

const led = lib.services(view());
assert.deepEqual([led.well, led.all, led.unwell], [1, 2, ['demo-2 does not answer']]);
assert.deepEqual(led.rows.map((r) => r.to), ['demo-1', 'nobody, clients wait']);

// Alerts: the worst first, of this cluster; what fired, in one piece for each time.
const alert = (alertname, severity, cls, ins, state = 'firing') => ({ labels: { alertname, severity, cls, ins }, annotations: { summary: alertname }, state, activeAt: at });
const all = lib.alerts({ data: { alerts: [alert('B', 'WARN', 'demo', 'x'), alert('A', 'CRIT', 'demo', 'x', 'pending'), alert('C', 'CRIT', 'demo', 'x'), alert('D', 'CRIT', 'other', 'y'), alert('E', 'page')] } }, 'demo');
assert.deepEqual(all.map((a) => a.name), ['C', 'B', 'E', 'A']);
const times = (...ts) => ts.map((t) => [t, '1']);
const past = lib.past({ data: { result: [
  { metric: { alertname: 'A', ins: 'x', severity: 'WARN', code: '1' }, values: times(100, 200, 300, 900, 1000) },
  { metric: { alertname: 'A', ins: 'x', severity: 'WARN', code: '2' }, values: times(200, 300) },
] } }, 1000, 100);
assert.deepEqual(past.map((a) => [a.from, a.to]), [[900, null], [100, 300]]);

// Charts: round marks over everything, a gap where there was nothing.
for (const max of [0, 1e-6, 0.3, 1, 7, 99, 12345, 3e9]) {
  const marks = lib.ticks(max);
  assert.ok(marks[0] === 0 && marks[marks.length - 1] >= max && marks.length <= 7, `${max}: ${marks}`);
}
const c = lib.chart([
  { metric: { ins: 'b' }, values: [[0, '1'], [15, '2'], [30, 'NaN'], [90, '4']] }, { metric: { ins: 'a' }, values: [[0, '0']] }, { metric: { ins: 'c' }, values: [[0, '+Inf']] },
], { from: 0, to: 90, step: 15, width: 420, height: 150 });
assert.deepEqual(c.series.map((s) => [s.name, s.now, s.max]), [['a', 0, 0], ['b', 4, 4]]);
assert.equal(c.series[1].d.match(/M/g).length, 2);
assert.ok(!/NaN|Infinity/.test(JSON.stringify(c)));
assert.ok(!/NaN|Infinity/.test(JSON.stringify(lib.chart([], { from: 0, to: 90, step: 15, width: 420, height: 150 }))));
assert.ok(lib.charts('a"b', 'c', 15).every(({ query }) => query.includes('cls="a\\"b"')), 'a name can not end its quotes');
assert.ok(lib.ticks(3 * 2 ** 20, 'bytes').every((v) => v % (2 ** 19) === 0), 'marks of bytes are round in bytes');
for (const [from, to, width] of [[0, 900, 800], [0, 3600, 300], [1e9, 1e9 + 604800, 1200], [0, 10 * 31536000, 300]]) {
  const all = lib.moments(from, to, width);
  assert.ok(all.length <= width / 70 && all.every((m) => m.at >= from && m.at <= to), `${from} to ${to} on ${width}: ${all.length}`);
}
const stacked = lib.chart([
  { metric: { wait: 'Lock' }, values: [[0, '1'], [10, '2']] }, { metric: { wait: 'CPU' }, values: [[0, '3'], [10, '1']] },
], { from: 0, to: 10, step: 10, width: 420, height: 150, stack: true, label: 'wait', order: lib.waits, mark: { value: 8, text: '8 cores' } });
assert.deepEqual(stacked.series.map((s) => [s.name, s.low, s.high]), [['CPU', [0, 0], [3, 1]], ['Lock', [3, 1], [4, 3]]]);
assert.ok(stacked.rows.at(-1).value >= 8 && stacked.mark.y > stacked.top, 'the cores are outside');
assert.deepEqual([stacked.nearest(7), stacked.nearest(2), stacked.nearest(null), Math.round(stacked.time(stacked.x(4)))], [1, 0, -1, 4]);

// Statements by the time that they took; locks as a tree; who wait for each other are shown too.
const vector = (...all) => ({ data: { result: all.map(([query, v]) => ({ metric: { datname: 'd', query }, value: [0, `${v}`] })) } });
const tops = lib.tops({ time: vector(['1', 10], ['2', 30]), calls: vector(['1', 5], ['2', 1000]), rows: vector(['1', 10]), read: vector(['1', 1]), hit: vector(['1', 3]) }, 60);
assert.deepEqual(tops.map((s) => [s.id, s.load, s.mean, s.rows, s.hit]), [['2', 0.5, 0.03, 0, null], ['1', 10 / 60, 2, 2, 0.75]]);
const shape = (n) => [n.pid, n.session !== null, n.below.map(shape)];
assert.deepEqual(lib.lockTree([{ pid: 1 }, { pid: 2, behind: [1] }, { pid: 3, behind: [2] }, { pid: 4, behind: [0] }, { pid: 9 }]).map(shape), [[1, true, [[2, true, [[3, true, []]]]]], [0, false, [[4, true, []]]]]);
assert.deepEqual(lib.lockTree([{ pid: 1, behind: [2] }, { pid: 2, behind: [1] }]).map(shape), [[2, true, [[1, true, [[2, true, []]]]]]]);
assert.deepEqual(lib.lockTree([{ pid: 1 }, { pid: 2, behind: [1] }, { pid: 3, behind: [1, 2] }])[0].below.map((n) => [n.pid, n.again, n.below.length]), [[2, false, 1], [3, true, 0]]);
assert.deepEqual([0.00035, 0.0035, 0.035, 0].map(lib.units.seconds), ['350 µs', '3.5 ms', '35 ms', '0 ms']);
assert.deepEqual(lib.runway(3600 * 5), ['full in 5 h', 'bad']);
assert.equal(lib.runway(undefined)[0], 'does not grow');

// What one can go back to: up to now, but for a hole until the next backup is complete.
const clockAt = (minute) => `2026-11-22T02:${`${minute}`.padStart(2, '0')}:00Z`;
const backup = (label, minute, last) => ({ label, type: 'full', start: clockAt(minute - 1), stop: clockAt(minute), segments: [last, last], members: ['demo-1'] });
const hole = { first: '000000010000000000000005', last: '000000010000000000000006', at: clockAt(30), why: 'too much waited', backup: 'B' };
const stands = { backups: [backup('A', 10, '000000010000000000000002'), backup('B', 40, '000000010000000000000009')], members: [{ member: 'demo-1', leads: true, archive: { pending: 0 }, holes: [hole], drill: { began: clockAt(50), verdict: 'passed' } }] };
const lines = (b) => lib.timeline(b, at).wal.map((w) => [w.kind, new Date(w.from).getUTCMinutes(), new Date(w.to).getUTCMinutes()]);
assert.deepEqual(lines(stands), [['unsure', 10, 30], ['missing', 30, 40], ['covered', 40, 0]]);
assert.deepEqual(lines({ ...stands, members: [{ ...stands.members[0], holes: [], archive: { pending: 2, since: clockAt(55) } }] }), [['covered', 10, 55], ['unsure', 55, 0]]);
assert.deepEqual(lines({ ...stands, members: [] }), [['covered', 10, 40], ['unsure', 40, 0]]);
assert.deepEqual(lines({ backups: [], members: [] }), []);
assert.equal(lib.timeline(stands, at).drills.length, 1);
assert.equal(lib.moment(Date.parse(at) + 400), '2026-11-22 03:00:00+00');
assert.deepEqual(lib.grouped([{ name: 'A', summary: 'x', since: at }, { name: 'B', summary: 'y', since: at }, { name: 'A', summary: 'z', since: clockAt(1) }]).map((g) => [g.name, g.summaries, g.since]), [['A', ['x', 'z'], clockAt(1)], ['B', ['y'], at]]);

assert.equal(lib.change({ number: 3, kind: 'crash', from: 'demo-1', to: 'demo-2', outage_ms: 812.3, phases: [], at: '2026-11-22T02:59:00Z' }, at), '#3 crash demo-1 → demo-2, 812 ms without writes, 60 s ago');
assert.equal(lib.change({ number: 1, kind: 'bootstrap', from: '', to: 'demo-1', outage_ms: 0, phases: [{ name: 'done', after_ms: 1500 }], at }, at), '#1 bootstrap demo-1, in 1.5 s, just now');

const kept = { backups: [{ label: '1F', type: 'full', start: '2026-11-22T01:59:00Z', stop: '2026-11-22T02:00:00Z', size: 2 ** 30, members: ['demo-1', 'demo-2'], page_error: false }], members: [{ member: 'demo-1', leads: true, archive: { pending: 0 }, newest: '000000010000000000000004' }] };
assert.deepEqual(lib.backups(kept, at), [{ label: '1F', type: 'full', when: '60 min ago', took: '60 s', size: '1.0 GB', on: 'demo-1, demo-2', kind: '' }]);
assert.deepEqual(lib.archive(kept, at), ['WAL is archived up to 000000010000000000000004', '']);
assert.equal(lib.archive({ backups: [], members: [] }, at)[1], 'bad');
assert.match(lib.archive({ backups: [], members: [{ leads: true, archive: { pending: 3, since: '2026-11-22T02:00:00Z' } }] }, at)[0], /^3 files of WAL wait/);

console.log('ok');
