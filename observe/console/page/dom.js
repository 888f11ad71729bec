// What all pages of the console use: the document, and how the console is asked.
// Everything that came from elsewhere is put as text, never as markup.

export const $ = (id) => document.getElementById(id);
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
export const html = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) if (value !== '') element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** shown is what the page shows: a cluster, one of its pages, the last look at it, and for whom. */
export const shown = { cluster: '', page: '', view: null, role: '' };

export const rows = (id, all, cells, none) => {
  const want = all.map((row) => html('tr', {}, ...cells(row)));
  $(id).replaceChildren(...(want.length ? want : [html('tr', {}, html('td', { colspan: 9, class: 'quiet' }, none))]));
};
export const cell = (text, kind = '') => html('td', { class: kind }, text === null || text === undefined ? '' : `${text}`);

/** marked is a text with its `commands` marked as such. */
export const marked = (text) => `${text || ''}`.split('`').map((part, i) => (i % 2 ? html('code', {}, part) : part)).filter((part) => part !== '');

/** said is a problem with what, why and what to do. */
export function said(p) {
  const parts = [html('span', { class: 'bad' }, p.what)];
  if (p.why) parts.push(html('div', {}, `why: ${p.why}`));
  if (p.do) parts.push(html('div', {}, 'do: ', ...marked(p.do)));
  if (p.code) parts.push(html('div', { class: 'quiet' }, `[${p.code}] in docs/problems.md`));
  return parts;
}

async function answered(path, r) {
  if (r.status === 401) location.reload(); // the form asks for the password
  if (r.ok) return r.json();
  const text = await r.text();
  let problem = { what: `${path}: ${r.status}`, why: text };
  try { problem = JSON.parse(text).error || problem; } catch { /* it is text */ }
  if (typeof problem === 'string') problem = { what: problem };
  throw Object.assign(new Error(problem.what), { problem });
}

export const ask = async (path, form = {}) => answered(path, await fetch(`${path}?${new URLSearchParams(form)}`));

/** tell sends an order; what is refused is an Error with its problem. */
export const tell = async (path, body) => answered(path, await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }));
