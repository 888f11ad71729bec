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
  seconds: (n) => span(n * 1000),
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
  const line = (from, to, kind) => {
    const [x1, y1] = foot(from);
    const [x2, y2] = head(to);
    const middle = (y1 + y2) / 2;
    lines.push({ kind, d: `M${x1} ${y1}C${x1} ${middle} ${x2} ${middle} ${x2} ${y2}` });
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
      summary: (a.annotations && a.annotations.summary) || '', since: a.activeAt,
    }))
    .sort((a, b) => a.state.localeCompare(b.state) || rank(a.severity) - rank(b.severity) || a.name.localeCompare(b.name) || a.member.localeCompare(b.member));
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

/** ticks are round values from 0 to at least max. */
export function ticks(max) {
  if (!(max > 0) || !Number.isFinite(max)) return [0, 1];
  const raw = max / 4;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].find((s) => s * power >= raw) * power;
  const all = [];
  for (let i = 0; i * step < max + step * 0.999; i++) all.push(+(i * step).toPrecision(12));
  return all;
}

/**
 * chart makes paths of Prometheus's matrix: one for each series, broken where
 * there was nothing, on width by height with room for words.
 */
export function chart(matrix, { from, to, step, width, height, label = 'ins' }) {
  const left = 58;
  const bottom = 20;
  const top = 6;
  const series = matrix
    .map((s) => ({ name: s.metric[label] || s.metric.cls || 'all', points: s.values.map(([t, v]) => [t, Number(v)]).filter(([, v]) => Number.isFinite(v)) }))
    .filter((s) => s.points.length)
    .sort((a, b) => a.name.localeCompare(b.name));
  const greatest = Math.max(0, ...series.flatMap((s) => s.points.map(([, v]) => v)));
  const marks = ticks(greatest);
  const high = marks[marks.length - 1];
  const x = (t) => left + ((t - from) / (to - from)) * (width - left - 4);
  const y = (v) => top + (1 - Math.max(0, v) / high) * (height - top - bottom);
  const r = (n) => Math.round(n * 10) / 10;
  return {
    series: series.map((s, i) => {
      let d = '';
      let last = -Infinity;
      for (const [t, v] of s.points) {
        d += `${t - last > 2.5 * step ? 'M' : 'L'}${r(x(t))} ${r(y(v))}`;
        last = t;
      }
      return { name: s.name, color: i % 6, d, now: s.points[s.points.length - 1][1], max: Math.max(...s.points.map(([, v]) => v)) };
    }),
    rows: marks.map((v) => ({ value: v, y: r(y(v)) })),
    columns: [0, 0.5, 1].map((f) => ({ at: from + f * (to - from), x: r(x(from + f * (to - from))) })),
    left,
  };
}

const quote = (text) => JSON.stringify(text);

/** charts are what is asked of the store about a cluster. */
export const charts = (cluster) => [
  ['Transactions a second', `pg:ins:xact_total_rate1m{cls=${quote(cluster)}}`, 'number'],
  ['Sessions at work', `pg:ins:active_backends{cls=${quote(cluster)}}`, 'number'],
  ['Sessions', `pg:ins:num_backends{cls=${quote(cluster)}}`, 'number'],
  ['Replay behind the leader', `pg:ins:lag_bytes{cls=${quote(cluster)}}`, 'bytes'],
  ['WAL a second', `pg:ins:lsn_rate1m{cls=${quote(cluster)}}`, 'bytes'],
  ['A query through the pools', `pgbouncer:ins:query_rt_1m{cls=${quote(cluster)}}`, 'seconds'],
  ['Processors in use', `pg:ins:cpu_usage_1m{cls=${quote(cluster)}}`, 'share'],
  ['Fullest file system', `pg:ins:space_usage{cls=${quote(cluster)}}`, 'share'],
];

/** firing is the query for what fired of a cluster. */
export const firing = (cluster) => `ALERTS{alertstate="firing",cls=${quote(cluster)}}`;

/** line is a line of a log as people read it, with the time to the millisecond. */
export const line = (l) => `${new Date(l.at).toISOString().slice(11, 23)} ${l.member} ${l.job} ${l.level}: ${l.text}`;

const grades = { fail: 'bad', warn: 'warn', unknown: 'quiet', ok: 'good' };

/** checks are the findings, the worst first, with how many there are of each grade. */
export function checks(view) {
  const rank = (f) => Object.keys(grades).indexOf(f.grade);
  const all = [...(view.health || [])].sort((a, b) => rank(a) - rank(b));
  const said = Object.keys(grades).map((g) => [g, all.filter((f) => f.grade === g).length]).filter(([, n]) => n).map(([g, n]) => `${n} ${g}`);
  return { rows: all.map((f) => ({ ...f, kind: grades[f.grade] || '' })), says: said.join(', ') };
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
