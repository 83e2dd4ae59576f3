// Hash routes only: keys of agents may be e-mails, and paths end up in logs.
const part = encodeURIComponent;

export const link = {
  view: name => `#/${name}`,
  call: row => `#/call/${part(row.pbx)}/${part(row.call_id)}`,
  agent: row => `#/agent/${part(row.pbx)}/${part(row.agent)}`,
  day: (row, date) => `#/agent/${part(row.pbx)}/${part(row.agent)}/${date}`,
  calls: filters => `#/calls/${Object.entries(filters).filter(([name, value]) => value !== null && (value !== '' || name === 'queue')).map(([name, value]) => `${name}=${part(value)}`).join('/')}`,
};

/** `#/calls/queue=NOC` -> `['calls', 'queue=NOC']`. */
export const route = () => location.hash.replace(/^#\/?/, '').split('/').map(each => { try { return decodeURIComponent(each); } catch { return each; } });

export const filtersOf = parts => Object.fromEntries(parts.filter(each => each.includes('=')).map(each => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)]));

export async function getJson(path) {
  const answer = await fetch(path, {headers: {accept: 'application/json'}});
  if (!answer.ok) throw new Error(String(answer.status));
  return answer.json();
}
