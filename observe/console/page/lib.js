// What the page shows, from what it was told: pure functions, without a document,
// so that node can try them.

const of = (n, one, many) => `${n} ${n === 1 ? one : many}`;

/** bytes, as people read them: 1.5 MB. */
export function bytes(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return '';
  for (const [unit, size] of [['GB', 2 ** 30], ['MB', 2 ** 20], ['kB', 2 ** 10]]) {
    if (Math.abs(n) >= size) return `${(n / size).toFixed(1)} ${unit}`;
  }
  return of(Math.round(n), 'byte', 'bytes');
}

/** span is how long ms are, rounded to what matters. */
export function span(ms) {
  const s = ms / 1000;
  if (s < 1) return `${Math.round(ms)} ms`;
  if (s < 120) return `${s.toFixed(s < 10 ? 1 : 0)} s`;
  if (s < 7200) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.round(s / 3600)} h`;
  return `${Math.round(s / 86400)} days`;
}

/** ago is how long before now a moment was; '' for one that never was. */
export function ago(then, now) {
  const at = Date.parse(then);
  if (Number.isNaN(at) || at < 0) return '';
  const ms = Date.parse(now) - at;
  return ms < 1000 ? 'just now' : `${span(ms)} ago`;
}

/** short is a number for an axis: 1.2k. */
export function short(n) {
  const abs = Math.abs(n);
  for (const [unit, size] of [['G', 1e9], ['M', 1e6], ['k', 1e3]]) {
    if (abs >= size) return `${+(n / size).toPrecision(3)}${unit}`;
  }
  return abs !== 0 && abs < 0.01 ? n.toExponential(0) : `${+n.toPrecision(3)}`;
}

/** units by which charts are read. */
export const units = {
  number: short,
  bytes: (n) => bytes(n),
  share: (n) => `${+(n * 100).toPrecision(3)} %`,
  seconds: (n) => (n > 0 && n < 0.01 ? (n < 0.001 ? `${Math.round(n * 1e6)} µs` : `${(n * 1000).toFixed(1)} ms`) : span(n * 1000)),
};

const leads = (m) => m.role === 'leader' || m.role === 'standby_leader';

/** behind is how many bytes a member lacks; null where nobody knows. */
export function behind(m) {
  if (leads(m)) return 0;
  const known = [m.receive, m.replay].filter((l) => l && l.known).map((l) => l.behind);
  return known.length ? Math.min(...known) : null;
}

/** title is a role as people write it: Sync Standby. */
export const title = (role) => (role || '').split('_').map((w) => w.charAt(0).toUpperCase() + w.slice(1)).join(' ');

/** health says in a word how a cluster is, and why it is not well. */
export function health(view) {
  if (!view.status) return { word: 'not seen', kind: 'bad', why: [view.error ? view.error.what : ''] };
  const why = view.status.unwell || [];
  if (!view.status.picture.leader) return { word: 'no leader', kind: 'bad', why };
  if (why.length) return { word: 'unwell', kind: 'bad', why };
  if ((view.status.problems || []).length) return { word: 'well, with problems', kind: 'warn', why };
  if (view.status.picture.paused) return { word: 'paused', kind: 'warn', why };
  return { word: 'healthy', kind: 'good', why };
}

function commits(c) {
  if (c.wait > 0) return `wait for ${c.wait} of ${c.voters.join(', ')} (synchronous_mode: ${c.mode})`;
  if (c.strict) return 'wait: no replica counts yet (synchronous_mode_strict)';
  return 'wait for nobody: no replica counts, and only the leader may lead';
}

/** facts are the lines of `howdah status`, as [name, text, kind]. */
export function facts(view) {
  const s = view.status;
  if (!s) return [];
  const p = s.picture;
  const lines = [];
  const add = (name, text, kind = '') => { if (text) lines.push([name, text, kind]); };
  add('leader', p.leader ? p.leader + (ago(s.leader_since, s.at) ? `, since ${ago(s.leader_since, s.at)}` : '') : 'nobody', p.leader ? '' : 'bad');
  if (p.paused) add('paused', 'automatic failover is paused', 'warn');
  if (p.handover && p.handover.from) add('handover', `from ${p.handover.from} to ${p.handover.to}`, 'warn');
  for (const v of s.vip || []) add('vip', `${v.address} on ${v.member}`);
  if (s.follows) add('follows', `${s.follows}: a standby cluster, which takes no writes`);
  if (s.commits) add('commits', commits(s.commits), s.commits.wait > 0 ? '' : 'warn');
  if (!s.follows) {
    if (s.commits && s.commits.wait > 0) add('exposure', "nothing that was acknowledged would be lost with the leader's host");
    else if (s.exposure === null || s.exposure === undefined) add('exposure', 'unknown: the leader has not said where it stands', 'warn');
    else add('exposure', `${bytes(s.exposure)} would be lost with the leader's host now`);
  }
  add('survives', s.survives === 0 ? 'no further loss of a host' : `the loss of ${of(s.survives, 'host', 'hosts')}`, s.survives === 0 ? 'warn' : '');
  for (const f of s.faults || []) add('fault', `${f.member}: ${f.does}`, 'warn');
  for (const w of s.awaited || []) add('awaited', w);
  for (const u of s.unwell || []) add('unwell', u, 'bad');
  return lines;
}

const box = { w: 196, h: 74, gap: 28 };

/**
 * topology places services, the leader and the others on width pixels: boxes with
 * their upper left corner, and lines between them.
 */
export function topology(view, width) {
  const boxes = [];
  const lines = [];
  if (!view.status) return { boxes, lines, height: 0, says: 'nothing is known' };
  const p = view.status.picture;
  const rows = (items, top, w, h) => { // as many in a row as there is room for
    const fit = Math.max(1, Math.floor((width + box.gap) / (w + box.gap)));
    items.forEach((item, i) => {
      const row = Math.floor(i / fit);
      const here = Math.min(fit, items.length - row * fit);
      const left = (width - here * w - (here - 1) * box.gap) / 2;
      boxes.push({ ...item, x: Math.max(0, left + (i % fit) * (w + box.gap)), y: top + row * (h + box.gap), w, h });
    });
    return items.length ? top + Math.ceil(items.length / fit) * (h + box.gap) : top;
  };
  const services = new Map();
  for (const g of view.status.access || []) {
    if (g.unwell) continue;
    for (const s of g.services) if (!services.has(s.name)) services.set(s.name, s);
  }
  let y = rows([...services.values()].map((s) => ({ id: `service ${s.name}`, kind: 'service', name: `${s.port}`, text: [s.name], to: s.to })), 4, 120, 44);
  y += services.size ? 12 : 0;
  const member = (m) => {
    const lag = behind(m);
    const kind = leads(m) ? 'leader' : !m.running ? 'down' : m.state !== 'streaming' || (lag || 0) > 2 ** 20 ? 'behind' : 'member';
    const text = [`${title(m.role)}, ${m.state}`, leads(m) ? `timeline ${m.timeline || '?'}` : lag === null ? 'nobody knows how far behind' : lag === 0 ? 'nothing behind' : `${bytes(lag)} behind`];
    return { id: m.name, kind: leads(m) && !m.running ? 'down' : kind, name: m.name, text };
  };
  y = rows(p.members.filter(leads).map(member), y, box.w, box.h) + 12;
  const away = (p.away || []).map((name) => ({ id: name, kind: 'away', name, text: ['does not show itself', ''] }));
  y = rows([...p.members.filter((m) => !leads(m)).map(member), ...away], y, box.w, box.h);
  const at = new Map(boxes.map((b) => [b.id, b]));
  const foot = (b) => [b.x + b.w / 2, b.y + b.h];
  const head = (b) => [b.x + b.w / 2, b.y];
  const line = (from, to, kind) => { // its ends make it known when it moves
    const [x1, y1] = foot(from);
    const [x2, y2] = head(to);
    const middle = (y1 + y2) / 2;
    lines.push({ id: `${from.id} ${to.id}`, kind, d: `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}` });
  };
  for (const b of boxes) if (b.kind === 'service') for (const name of b.to) if (at.has(name)) line(b, at.get(name), 'leads');
  const leader = at.get(p.leader);
  if (leader) {
    for (const m of p.members) if (!leads(m)) line(leader, at.get(m.name), m.state === 'streaming' ? 'streams' : 'broken');
    for (const name of p.away || []) line(leader, at.get(name), 'broken');
  }
  const says = [p.leader ? `${p.leader} leads` : 'nobody leads', ...p.members.filter((m) => !leads(m)).map((m) => `${m.name} ${m.state}${behind(m) ? `, ${bytes(behind(m))} behind` : ''}`), ...(p.away || []).map((n) => `${n} does not show itself`)].join('; ');
  return { boxes, lines, height: Math.max(0, y - box.gap + 6), says };
}

/** services are ports with where all well gateways lead, and who is unwell. */
export function services(view) {
  const all = (view.status && view.status.access) || [];
  const rows = new Map();
  for (const g of all) {
    if (g.unwell) continue;
    for (const s of g.services) {
      const to = s.to.length ? s.to.join(', ') : 'nobody, clients wait';
      const row = rows.get(s.name) || { port: s.port, name: s.name, to: new Set() };
      row.to.add(to);
      rows.set(s.name, row);
    }
  }
  return {
    rows: [...rows.values()].map((r) => ({ ...r, to: [...r.to].join(' or ') })).sort((a, b) => a.port - b.port),
    well: all.filter((g) => !g.unwell).length,
    all: all.length,
    unwell: all.filter((g) => g.unwell).map((g) => `${g.member} ${g.unwell}`),
  };
}

const severities = ['CRIT', 'WARN', 'INFO'];
const rank = (s) => (severities.includes(s) ? severities.indexOf(s) : severities.length);

/** alerts are those of a cluster and of nobody's, from Prometheus's answer: what fires first, the worst first. */
export function alerts(answer, cluster) {
  return answer.data.alerts
    .filter((a) => !a.labels.cls || a.labels.cls === cluster)
    .map((a) => ({
      name: a.labels.alertname, severity: a.labels.severity || '', state: a.state, member: a.labels.ins || '', problem: a.labels.problem || '',
      summary: (a.annotations && a.annotations.summary) || '', since: a.activeAt, cls: a.labels.cls || '',
    }))
    .sort((a, b) => a.state.localeCompare(b.state) || rank(a.severity) - rank(b.severity) || a.name.localeCompare(b.name) || a.member.localeCompare(b.member));
}

/** grouped has alerts of one name as one, with what each says. */
export function grouped(all) {
  const groups = new Map();
  for (const a of all) {
    const g = groups.get(a.name) || { ...a, summaries: [] };
    g.summaries.push(a.summary);
    if (Date.parse(a.since) < Date.parse(g.since)) g.since = a.since;
    groups.set(a.name, g);
  }
  return [...groups.values()];
}

/** silences are those in force, or to come, that may be about a cluster; what ends them, and who said so. */
export function silences(all, cluster) {
  const ops = { 'true false': '=', 'false false': '!=', 'true true': '=~', 'false true': '!~' };
  return all
    .filter((s) => s.status.state !== 'expired' && s.matchers.every((m) => m.name !== 'cls' || !m.isEqual || m.isRegex || m.value === cluster))
    .map((s) => ({
      id: s.id, pending: s.status.state === 'pending', text: s.matchers.map((m) => (m.name === 'alertname' && m.isEqual && !m.isRegex ? m.value : `${m.name}${ops[`${m.isEqual} ${m.isRegex}`]}${m.value}`)).join(' '),
      from: s.startsAt || '', until: s.endsAt || '', by: s.createdBy || '', why: s.comment || '', fixed: s.id.startsWith('file-'),
    }))
    .sort((a, b) => (a.until || '9').localeCompare(b.until || '9') || a.id.localeCompare(b.id));
}

/** past are the times in which alerts fired, the newest first; to is null for what still does. */
export function past(answer, until, step) {
  const all = [];
  for (const series of answer.data.result) {
    const { alertname, ins, severity } = series.metric;
    let open = null;
    for (const [t] of series.values) {
      if (open && t - open.to > 2 * step) open = null;
      if (!open) {
        open = { name: alertname, member: ins || '', severity: severity || '', from: t, to: t };
        all.push(open);
      }
      open.to = t;
    }
  }
  // Series of one alert may differ in a label that nobody sees: what overlaps is one.
  all.sort((a, b) => a.from - b.from);
  const merged = [];
  for (const a of all) {
    const same = merged.find((m) => m.name === a.name && m.member === a.member && a.from <= m.to + 2 * step);
    if (same) same.to = Math.max(same.to, a.to);
    else merged.push({ ...a });
  }
  return merged.map((a) => ({ ...a, to: until - a.to > 2 * step ? a.to : null })).sort((a, b) => b.from - a.from);
}

/** ticks are round values from 0 to at least max; of bytes round in their unit. */
export function ticks(max, of = '') {
  if (!(max > 0) || !Number.isFinite(max)) return [0, 1];
  const unit = of === 'bytes' ? 1024 ** Math.floor(Math.log(Math.max(1, max)) / Math.log(1024)) : 1;
  if (unit > 1) return ticks(max / unit).map((v) => v * unit);
  const raw = max / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((s) => s * power >= raw) * power;
  const all = [];
  for (let i = 0; i * step < max + step * 0.999; i++) all.push(+(i * step).toPrecision(12));
  return all;
}

const stretches = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

/** clock is a time of day, with its day where steps are that long, and with seconds where they are short. */
export function clock(t, step) {
  const d = new Date(t * 1000);
  if (step >= 86400) return d.toLocaleDateString([], { month: 'short', day: 'numeric' });
  return d.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit', hourCycle: 'h23', ...(step < 60 ? { second: '2-digit' } : {}) });
}

/** moments are round times between two, so many that their names fit on width pixels. */
export function moments(from, to, width) {
  const step = stretches.find((s) => ((to - from) / s) * 76 <= width) || Math.ceil(((to - from) * 76) / width / 604800) * 604800;
  const zone = new Date(from * 1000).getTimezoneOffset() * 60;
  const all = [];
  for (let t = Math.ceil((from - zone) / step) * step + zone; t <= to; t += step) all.push({ at: t, text: clock(t, step) });
  return all;
}

/**
 * chart makes paths of Prometheus's matrix: one for each series, broken where
 * there was nothing, or lying on each other, on width by height with room for words.
 */
export function chart(matrix, { from, to, step, width, height, label = 'ins', stack = false, order = [], mark = null, unit = '' }) {
  const left = 62;
  const right = 6;
  const top = 14;
  const floor = height - 20;
  const r = (n) => Math.round(n * 10) / 10;
  const place = (name) => (order.includes(name) ? order.indexOf(name) : order.length);
  const all = matrix
    .map((s) => ({ name: s.metric[label] || s.metric.cls || 'all', points: s.values.map(([t, v]) => [t, Number(v)]).filter(([, v]) => Number.isFinite(v)) }))
    .filter((s) => s.points.length)
    .sort((a, b) => place(a.name) - place(b.name) || a.name.localeCompare(b.name));
  const times = [...new Set(all.flatMap((s) => s.points.map(([t]) => t)))].sort((a, b) => a - b);
  const index = new Map(times.map((t, i) => [t, i]));
  const base = times.map(() => 0);
  const series = all.map((s, i) => {
    const values = times.map(() => null);
    for (const [t, v] of s.points) values[index.get(t)] = v;
    const low = [...base];
    if (stack) values.forEach((v, k) => { base[k] += Math.max(0, v || 0); });
    return { name: s.name, color: i % 6, values, low, high: stack ? [...base] : values, now: s.points[s.points.length - 1][1], max: s.points.reduce((m, [, v]) => Math.max(m, v), -Infinity) };
  });
  const greatest = Math.max(0, mark ? mark.value * 1.05 : 0, ...(stack ? base : series.map((s) => s.max)));
  const marks = ticks(greatest, unit);
  const high = marks[marks.length - 1];
  const x = (t) => r(left + ((t - from) / (to - from)) * (width - left - right));
  const y = (v) => r(top + (1 - Math.max(0, v) / high) * (floor - top));
  const runs = (has) => { // stretches without a gap
    const found = [];
    let last = -Infinity;
    times.forEach((t, i) => {
      if (!has(i)) return;
      if (t - last > 2.5 * step) found.push([]);
      found[found.length - 1].push(i);
      last = t;
    });
    return found;
  };
  for (const s of series) {
    s.d = stack
      ? runs(() => true).map((run) => `M${run.map((i) => `${x(times[i])} ${y(s.high[i])}`).join('L')}L${run.toReversed().map((i) => `${x(times[i])} ${y(s.low[i])}`).join('L')}Z`).join('')
      : runs((i) => s.values[i] !== null).map((run) => `M${run.map((i) => `${x(times[i])} ${y(s.values[i])}`).join('L')}${run.length === 1 ? 'h.1' : ''}`).join('');
  }
  return {
    series, times, left, top, floor, x,
    rows: marks.map((v) => ({ value: v, y: y(v) })),
    columns: moments(from, to, width - left).map((m) => ({ ...m, x: x(m.at) })).filter((m) => m.x > left + 14 && m.x < width - 20),
    mark: mark && { ...mark, y: y(mark.value) },
    time: (px) => from + ((Math.min(width - right, Math.max(left, px)) - left) / (width - left - right)) * (to - from),
    nearest: (t) => (t === null ? -1 : times.reduce((best, at, i) => (best < 0 || Math.abs(at - t) < Math.abs(times[best] - t) ? i : best), -1)),
  };
}

const quote = (text) => JSON.stringify(text);

/** waits are the kinds of events that a session at work may wait for, from below. */
export const waits = ['CPU', 'IO', 'LWLock', 'Lock', 'SyncRep', 'IPC', 'Client', 'Timeout', 'BufferPin', 'Extension'];

/** charts are what is asked of the store about a cluster, and of one member in particular. */
export const charts = (cluster, member, step) => {
  const of = `cls=${quote(cluster)}`;
  const one = `${of},ins=${quote(member)}`;
  return [
    { name: `Sessions at work on ${member}, by what they wait for`, query: `sum by (wait) (avg_over_time(pg_active_count{${one}}[${Math.max(30, step)}s]))`, unit: 'number', label: 'wait', stack: true, order: waits, height: 260, wide: true, cores: `pg:ins:cpu_count{${one}}` },
    { name: 'Transactions a second', query: `pg:ins:xact_total_rate1m{${of}}`, unit: 'number' },
    { name: 'Latency of a transaction, without its pauses', query: `pg:ins:active_time_rate1m{${of}} / (pg:ins:xact_total_rate1m{${of}} > 0)`, unit: 'seconds' },
    { name: 'Latency of a query through the pools', query: `pgbouncer:ins:query_rt_1m{${of}}`, unit: 'seconds' },
    { name: 'Sessions', query: `pg:ins:num_backends{${of}}`, unit: 'number' },
    { name: 'WAL a second', query: `pg:ins:lsn_rate1m{${of}}`, unit: 'bytes' },
    { name: 'Replay behind the leader', query: `pg:ins:lag_bytes{${of}}`, unit: 'bytes' },
    { name: 'Processors in use', query: `pg:ins:cpu_usage_1m{${of}}`, unit: 'share' },
    { name: 'WAL on disk', query: `pg:ins:wal_size{${of}}`, unit: 'bytes' },
  ];
};

/** statements are the queries for the statements that took most of a member's time. */
export const statements = (cluster, member, seconds) => {
  const sum = (name) => `sum by (datname, query) (increase(pg_query_${name}{cls=${quote(cluster)},ins=${quote(member)}}[${seconds}s]))`;
  return { time: `topk(15, ${sum('exec_time')} > 0)`, calls: sum('calls'), rows: sum('rows'), read: sum('sblk_read'), hit: sum('sblk_hit') };
};

/** tops are rows of statements, those that took most time first. */
export function tops(answers, seconds) {
  const key = (s) => `${s.metric.datname} ${s.metric.query}`;
  const of = Object.fromEntries(Object.entries(answers).map(([name, a]) => [name, new Map(a.data.result.map((s) => [key(s), Number(s.value[1])]))]));
  const all = answers.time.data.result.map((s) => {
    const get = (name) => of[name].get(key(s)) || 0;
    const calls = get('calls');
    const blocks = get('hit') + get('read');
    return {
      id: s.metric.query, database: s.metric.datname, time: get('time'), load: get('time') / seconds, calls, rate: calls / seconds, mean: calls ? get('time') / calls : 0,
      rows: calls ? get('rows') / calls : 0, hit: blocks ? get('hit') / blocks : null,
    };
  }).sort((a, b) => b.time - a.time);
  const most = all.length ? all[0].time : 1;
  return all.map((s) => ({ ...s, share: s.time / most }));
}

/** drill is what is asked about one statement. */
export const drill = (cluster, member, s, step) => {
  const of = `{cls=${quote(cluster)},ins=${quote(member)},datname=${quote(s.database)},query=${quote(s.id)}}[${Math.max(60, step)}s]`;
  const rate = (name) => `sum(rate(pg_query_${name}${of}))`;
  return [
    { name: 'Calls a second', query: rate('calls'), unit: 'number' },
    { name: 'A call takes', query: `${rate('exec_time')} / (${rate('calls')} > 0)`, unit: 'seconds' },
    { name: 'Rows a second', query: rate('rows'), unit: 'number' },
  ];
};

/** lockTree has who waits below whom he waits for: lists of {session, below}; who waits for several is below each. */
export function lockTree(sessions) {
  const told = new Set(); // whoever waits for several is told of in full once
  const known = new Map(sessions.map((s) => [s.pid, s]));
  const below = new Map();
  for (const s of sessions) for (const pid of s.behind || []) below.set(pid, [...(below.get(pid) || []), s]);
  const node = (pid) => {
    if (told.has(pid)) return { pid, session: known.get(pid) || null, again: true, below: [] };
    told.add(pid);
    return { pid, session: known.get(pid) || null, again: false, below: (below.get(pid) || []).map((s) => node(s.pid)) };
  };
  const roots = [...below.keys()].filter((pid) => !(known.get(pid)?.behind || []).length);
  const trees = roots.map(node);
  for (const pid of below.keys()) if (!told.has(pid)) trees.push(node(pid)); // who wait for each other, until the server ends one of them
  const longest = (n) => Math.max(n.session?.locked_s || 0, ...n.below.map(longest));
  return trees.sort((a, b) => longest(b) - longest(a));
}

/** runway says how long a disk lasts, as [text, kind]; by the growth of the last hour. */
export function runway(seconds) {
  if (seconds === undefined || !Number.isFinite(seconds)) return ['does not grow', ''];
  if (seconds > 365 * 86400) return ['more than a year', ''];
  return [`full in ${span(seconds * 1000)}`, seconds < 86400 ? 'bad' : seconds < 7 * 86400 ? 'warn' : ''];
}

/** disks are queries for what members have left. */
export const disks = (cluster) => {
  const of = `{cls=${quote(cluster)}}`;
  return {
    wal: `pg:ins:wal_size${of}`, rate: `pg:ins:lsn_rate1m${of}`, used: `pg:ins:space_usage${of}`,
    full: `min by (ins) ((pg:ins:target_count${of} * 0 + 1) * on (ip) group_left () min by (ip) (node:fs:space_exhaust))`,
    free: `min by (ins) ((pg:ins:target_count${of} * 0 + 1) * on (ip) group_left () min by (ip) (node:fs:avail_bytes))`,
  };
};

/**
 * timeline is what backups and log allow to go back to: backups and drills as marks,
 * the log as stretches of time that are covered, missing, or may be either; times in ms.
 */
export function timeline(b, now) {
  const at = (t) => Date.parse(t);
  const until = at(now);
  const all = b.backups.map((h) => ({ label: h.label, type: h.type, from: at(h.start), to: at(h.stop), wrong: h.page_error, segments: h.segments || [] }));
  const leader = b.members.find((m) => m.leads);
  const drills = b.members.filter((m) => m.drill && at(m.drill.began) > 0).map((m) => ({ at: at(m.drill.began), member: m.member, verdict: m.drill.verdict, drill: m.drill }));
  const wal = [];
  if (all.length) {
    let from = all[0].to;
    const found = new Map();
    for (const m of b.members) for (const h of [...(m.holes || []), ...(m.lost || [])]) found.set(h.first, h);
    const holes = [...found.values()].sort((x, y) => at(x.at) - at(y.at));
    for (const h of holes) {
      const before = all.filter((k) => k.segments[1] && k.segments[1] < h.first && k.to <= at(h.at));
      const next = all.find((k) => k.label === h.backup) || all.find((k) => k.to > at(h.at));
      const sure = before.length ? before[before.length - 1].to : from;
      if (sure > from) wal.push({ from, to: sure, kind: 'covered', says: 'every moment' });
      const gone = Math.max(from, at(h.at));
      if (gone > Math.max(from, sure)) wal.push({ from: Math.max(from, sure), to: gone, kind: 'unsure', says: `up to what is missing: ${h.why}` });
      const ends = next ? next.to : until;
      if (ends > gone) wal.push({ from: gone, to: ends, kind: 'missing', says: `${h.first} to ${h.last} are missing: ${h.why}` });
      from = Math.max(from, ends);
    }
    const waits = leader && leader.archive && leader.archive.pending > 0 && leader.archive.since ? at(leader.archive.since) : until;
    const reach = leader ? Math.max(from, Math.min(until, waits)) : all[all.length - 1].to;
    if (reach > from) wal.push({ from, to: reach, kind: 'covered', says: 'every moment' });
    if (until > reach && leader && leader.hole) wal.push({ from: reach, to: until, kind: 'missing', says: `segment ${leader.hole} is missing` });
    else if (until > reach) wal.push({ from: reach, to: until, kind: 'unsure', says: leader ? 'waits for the archive' : 'nobody says how far the log is archived' });
  }
  const first = Math.min(until - 600e3, ...all.map((k) => k.from), ...drills.map((d) => d.at));
  return { from: first - (until - first) * 0.02, to: until + (until - first) * 0.02, now: until, backups: all, drills, wal };
}

/** drilled tells of a drill in a line, as [text, kind]. */
export function drilled(d, now) {
  const took = [d.restored_ns, d.replayed_ns, d.checked_ns].map((n) => (n || 0) / 1e6);
  const text = `${d.verdict}, ${ago(d.began, now)}: backup ${d.backup || '?'} from ${d.from}, ${bytes(d.bytes || 0)}, files in ${span(took[0])}, log in ${span(took[1])}, looked through in ${span(took[2])}`;
  return [d.why ? `${text}; ${d.why}` : text, d.verdict === 'passed' ? 'good' : d.verdict === 'failed' ? 'bad' : 'warn'];
}

/** peeked tells of a moment that is looked at: what it is, until when, and how it is reached. */
export function peeked(p) {
  const to = p.plan.to;
  const what = to.kind === 'time' ? new Date(to.at).toLocaleString() : to.kind === 'latest' ? 'the end of the log' : `${to.kind} ${to.value || ''}`.trim();
  return {
    facts: [`${what}, on the machine of ${p.beside}`, `until ${clock(Date.parse(p.until) / 1000, 1)}${p.by ? `, opened by ${p.by}` : ''}; there, as PostgreSQL's user:`],
    command: `psql -h ${p.server.host} -p ${p.server.port} -U ${p.server.user} -d ${p.server.database}`,
  };
}

/** moment is a time as the restore commands read it: UTC, to the second. */
export const moment = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')}+00`;

/** firing is the query for what fired of a cluster. */
export const firing = (cluster) => `ALERTS{alertstate="firing",cls=${quote(cluster)}}`;

/** line is a line of a log as people read it, with the time to the millisecond. */
export const line = (l) => `${new Date(l.at).toISOString().slice(11, 23)} ${l.member} ${l.job} ${l.level}: ${l.text}`;

const grades = { fail: 'bad', warn: 'warn', unknown: 'quiet', ok: 'good' };

/** checks are the findings of the cluster and of its machines, the worst first, with how many there are of each grade. */
export function checks(view, machines = []) {
  const rank = (f) => Object.keys(grades).indexOf(f.grade);
  const all = [...(view.health || []).map((f) => ({ ...f, host: f.host || 'cluster' })), ...machines].sort((a, b) => rank(a) - rank(b));
  const said = Object.keys(grades).map((g) => [g, all.filter((f) => f.grade === g).length]).filter(([, n]) => n).map(([g, n]) => `${n} ${g}`);
  return { rows: all.map((f) => ({ ...f, kind: grades[f.grade] || '' })), says: said.join(', '), bad: all.filter((f) => f.grade === 'fail').length };
}

/** orders are what may be asked of a member, as [verb, words]. */
export function orders(view, m) {
  const p = view.status.picture;
  const all = [];
  if (!leads(m) && p.leader && m.running) all.push(['switchover', 'Lead']);
  if (!leads(m) && p.leader) all.push(['reinit', 'Copy anew']);
  all.push(['restart', 'Restart']);
  return all;
}

/** act tells in a line what became of an order, as [text, kind]. */
export function act(a, now) {
  const began = `${a.text}, by ${a.by}, ${ago(a.at, now)}`;
  if (!a.ended) return [`${began}: under way`, 'warn'];
  if (a.error) return [`${began}: ${a.error.what}${a.error.why ? `: ${a.error.why}` : ''}`, 'bad'];
  return [`${began}: ${a.result}`, 'good'];
}

/** change tells a change of leader in one line. */
export function change(f, now) {
  const who = f.from && f.from !== f.to ? `${f.from} → ${f.to}` : f.to;
  const parts = [`#${f.number} ${f.kind} ${who}`];
  if (f.outage_ms > 0) parts.push(`${span(f.outage_ms)} without writes`);
  else if (f.phases.length) parts.push(`in ${span(f.phases[f.phases.length - 1].after_ms)}`);
  if (f.lost_bytes) parts.push(`${bytes(f.lost_bytes)} lost`);
  parts.push(ago(f.at, now));
  return parts.join(', ');
}

/** backups are rows, the newest first. */
export function backups(b, now) {
  return [...b.backups].reverse().map((h) => ({
    label: h.label, type: h.type, when: ago(h.stop, now), took: span(Date.parse(h.stop) - Date.parse(h.start)), size: bytes(h.size), on: h.members.join(', '),
    kind: h.page_error ? 'bad' : '',
  }));
}

/** archive is how WAL gets into the archive, in a sentence. */
export function archive(b, now) {
  const leader = b.members.find((m) => m.leads);
  if (!leader) return ['nobody archives: no jobs of a leader answer', 'bad'];
  if (leader.hole) return [`WAL is missing after the newest backup: ${leader.hole}`, 'bad'];
  if (leader.archive.pending > 0) return [`${of(leader.archive.pending, 'file', 'files')} of WAL wait for the archive, the oldest since ${ago(leader.archive.since, now)}`, 'warn'];
  return [leader.newest ? `WAL is archived up to ${leader.newest}` : 'no WAL is archived yet', ''];
}
