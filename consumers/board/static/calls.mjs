// Calls: live ones, ended ones page by page, and callers that nobody answered.
import {html, useEffect, useMemo, useState} from './base.mjs';
import {Same, compare, isOpen, startOf, store, useRow, useRows} from './store.mjs';
import {Timer, dayAndClock, duration, serverClock, useSlowTick} from './time.mjs';
import {collate, currentLanguage, plural, t} from './words.mjs';
import {Direction, Name, OUTCOMES, Quality} from './marks.mjs';
import {getJson, link} from './links.mjs';

const PAGE = 100;
const queueOf = row => row.legs.find(leg => leg.answered_at && leg.role === 'agent' && leg.queue)?.queue ?? row.queues?.at(-1) ?? '';

const WAITING = new Set(['new', 'ringing', 'waiting']);
const missed = row => !isOpen(row) && row.outcome !== null && row.outcome !== 'answered' && row.outcome !== 'unknown';
/** Filters as figures of queues count: `missed` is every unanswered end, `counted` these and the answered ones. */
const OUTCOME_FILTERS = {missed, counted: row => row.outcome === 'answered' || missed(row)};

function matches(row, filters, text) {
  if (filters.pbx && row.pbx !== filters.pbx) return false;
  if ('queue' in filters && queueOf(row) !== filters.queue) return false;
  if (filters.direction === 'incoming' && row.direction !== null && row.direction !== 'incoming') return false;
  if (filters.status === 'open' && !isOpen(row)) return false;
  if (filters.status === 'waiting' && !WAITING.has(row.status)) return false;
  if (!(OUTCOME_FILTERS[filters.outcome] ?? (() => !filters.outcome || row.outcome === filters.outcome))(row)) return false;
  if (filters.quality && row.quality !== filters.quality) return false;
  if (filters.since === 'today' && !dayAndClock(startOf(row)).match(/^\d\d:/)) return false;
  const wanted = text.trim().toLocaleLowerCase();
  return !wanted || [row.from, row.to, row.final_login, row.call_id, ...row.answered_by, ...(row.queues ?? [])].some(each => each?.toLocaleLowerCase().includes(wanted));
}

/** A small drawing: rings and talks of all legs on one line. */
function Mini({row}) {
  const from = Date.parse(startOf(row));
  useSlowTick(isOpen(row));
  const now = isOpen(row) ? new Date(serverClock.now() ?? Date.parse(row.updated_at)).toISOString() : row.updated_at;
  const to = Date.parse(row.ended_at ?? now);
  const span = Math.max(1000, to - from);
  const x = at => Math.max(0, Math.min(100, (Date.parse(at) - from) / span * 100));
  return html`<svg class="mini" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><line class="mini-wait" x1="0" x2="100" y1="5" y2="5" />
    ${row.legs.map(leg => html`
      ${leg.ring_started_at ? html`<rect class="mini-ring" x=${x(leg.ring_started_at)} width=${Math.max(0.5, x(leg.answered_at ?? leg.ended_at ?? now) - x(leg.ring_started_at))} y="2" height="6" />` : null}
      ${leg.answered_at && leg.role !== 'monitor' ? html`<rect class=${leg.role === 'consult' ? 'mini-consult' : 'mini-talk'} x=${x(leg.answered_at)} width=${Math.max(0.5, x(leg.ended_at ?? now) - x(leg.answered_at))} y="0" height="10" />` : null}`)}
  </svg>`;
}

function Row({name, given}) {
  const row = useRow('calls', name) ?? given;
  if (!row) return null;
  const named = line => row.legs.findLast(leg => leg.line === line && leg.login)?.login ?? line;
  const who = row.answered_by.length ? row.answered_by.map(named).join(' → ') : row.legs.filter(leg => !leg.ended_at).map(leg => leg.login ?? leg.line).join(', ');
  const state = isOpen(row) ? t(`statuses.${row.status}`) : row.status === 'stale' ? t('statuses.stale') : t(`outcomes.${row.outcome}`);
  return html`<tr data-call=${name} data-status=${row.status} data-revision=${row.revision} class=${isOpen(row) ? 'open' : ''}>
    <td class="when"><a href=${link.call(row)}>${row.started_at ? dayAndClock(row.started_at) : html`<span title=${t('startUnknown')}>⁇ ${dayAndClock(row.updated_at)}</span>`}</a></td>
    <td><${Direction} of=${row.direction} /> <${Name}>${(row.direction === 'outgoing' ? row.to : row.from) ?? '–'}<//></td>
    <td><${Name}>${queueOf(row) || '–'}<//></td>
    <td><span class="glyph" aria-hidden="true">${isOpen(row) ? '▶' : OUTCOMES[row.outcome] ?? '?'}</span> ${state} <${Quality} of=${row.quality} /></td>
    <td class="number">${isOpen(row) ? html`<${Timer} since=${startOf(row)} />` : duration(row.duration_s)}</td>
    <td><${Name}>${who || '–'}<//></td><td><${Mini} row=${row} /></td>
  </tr>`;
}

function CallTable({rows, caption}) {
  const inputs = `${currentLanguage()} ${store.meta.date} ${store.meta.timeZone}`;
  const nameOf = row => `${row.pbx}/${row.call_id}`;
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table class="calls"><thead><tr><th scope="col">${t('start')}</th><th scope="col">${t('number')}</th><th scope="col">${t('queue')}</th><th scope="col">${t('what')}</th><th scope="col" class="number">${t('length')}</th><th scope="col">${t('who')}</th><th scope="col"><span class="hidden">${t('drawn')}</span></th></tr></thead>
    <tbody>${rows.map(row => html`<${Same} key=${nameOf(row)} of=${Row} inputs=${inputs} name=${nameOf(row)} given=${row} />`)}</tbody></table></div>`;
}

/** Ended calls do not slide under the mouse: new ones wait above until they are asked for. */
function useSteady(rows, filter) {
  const [shown, setShown] = useState({filter: null, names: null});
  const names = shown.filter === filter ? shown.names : null;
  const setNames = held => setShown({filter, names: held});
  const all = rows.map(row => `${row.pbx}/${row.call_id}`);
  const held = names ?? new Set(all);
  if (names === null && all.length) setNames(held);
  const show = () => setNames(new Set(all));
  useEffect(() => {
    const press = event => { if (event.key.toLowerCase() === 'n' && !event.target.closest('input, select, textarea')) show(); };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  });
  return [rows.filter(row => isOpen(row) || held.has(`${row.pbx}/${row.call_id}`)), rows.filter(row => !isOpen(row) && !held.has(`${row.pbx}/${row.call_id}`)).length, show];
}

export function Calls({search, filters}) {
  const all = useRows('calls');
  const [older, setOlder] = useState([]);
  const [failed, setFailed] = useState(false);
  const key = JSON.stringify(filters);
  useEffect(() => setOlder([]), [key]);
  const rows = useMemo(() => all.filter(row => matches(row, filters, search)).sort((a, b) => isOpen(b) - isOpen(a) || compare(startOf(b), startOf(a))), [all, key, search]);
  const [steady, above, show] = useSteady(rows, `${key} ${search}`);
  const queues = [...new Set([...useRows('queues').map(row => row.queue), ...('queue' in filters ? [filters.queue] : [])])].sort((a, b) => (a === '') - (b === '') || collate(a, b));
  const names = new Set(rows.map(row => row.call_id));
  const more = older.filter(row => !names.has(row.call_id) && matches(row, filters, search));
  async function load() {
    const last = older.at(-1) ?? rows.filter(row => !isOpen(row)).at(-1);
    const query = new URLSearchParams({limit: PAGE});
    if (last) query.set('after', last.call_id);
    for (const name of ['pbx', 'queue', 'quality']) if (name in filters) query.set(name, filters[name]);
    try {
      setOlder([...older, ...(await getJson(`/api/calls?${query}`)).calls]);
      setFailed(false);
    } catch { setFailed(true); }
  }
  const set = change => { location.hash = link.calls({...filters, ...change}); };
  return html`<main id="content" tabindex="-1">
    <div class="filters">
      <label>${t('outcome')} <select value=${filters.outcome ?? ''} onChange=${event => set({outcome: event.target.value})}><option value="">${t('every')}</option>${['answered', 'missed', 'no_answer', 'busy'].map(each => html`<option key=${each} value=${each}>${t(`outcomes.${each}`)}</option>`)}</select></label>
      <label>${t('quality')} <select value=${filters.quality ?? ''} onChange=${event => set({quality: event.target.value})}><option value="">${t('every')}</option>${['exact', 'estimated', 'partial'].map(each => html`<option key=${each} value=${each}>${t(`qualities.${each}`)}</option>`)}</select></label>
      <label>${t('queue')} <select value=${'queue' in filters ? `=${filters.queue}` : ''} onChange=${event => { const {queue, ...rest} = filters; location.hash = link.calls(event.target.value ? {...rest, queue: event.target.value.slice(1)} : rest); }}><option value="">${t('allQueues')}</option>${queues.map(each => html`<option key=${each} value=${`=${each}`}>${each || t('noQueue')}</option>`)}</select></label>
      <label><input type="checkbox" checked=${filters.status === 'open'} onChange=${event => set({status: event.target.checked ? 'open' : ''})} /> ${t('live')}</label>
      ${filters.status === 'waiting' ? html`<button type="button" onClick=${() => set({status: ''})}>${t('waitingNow')} ✕</button>` : null}
      ${filters.direction === 'incoming' ? html`<button type="button" onClick=${() => set({direction: ''})}>${t('directions.incoming')} ✕</button>` : null}
      ${filters.since === 'today' ? html`<button type="button" onClick=${() => set({since: ''})}>${t('today')} ✕</button>` : null}
    </div>
    ${above ? html`<button type="button" class="above" onClick=${show}>▲ ${plural('newAbove', above)}</button>` : null}
    ${steady.length || more.length ? html`<${CallTable} rows=${[...steady, ...more]} caption=${t('calls')} />` : html`<p class="dim">${t('noCalls')}</p>`}
    <p><button type="button" onClick=${load}>${t('older')}</button> ${failed ? html`<span role="alert">${t('loadFailed')}</span>` : null}</p>
    ${store.meta.broken.length ? html`<section><h2>${t('broken')}</h2><ul>${store.meta.broken.map(each => html`<li key=${each.key}><${Name}>${each.key}<//> ${each.topic}: ${each.why}</li>`)}</ul></section>` : null}
  </main>`;
}

export function Missed({search}) {
  const [all, setAll] = useState(false);
  const wanted = search.trim().toLocaleLowerCase();
  const rows = useRows('missed').filter(row => all || !row.called_back).filter(row => !wanted || [row.number, row.queue].some(each => each?.toLocaleLowerCase().includes(wanted))).sort((a, b) => compare(b.last_at, a.last_at));
  return html`<main id="content" tabindex="-1">
    <div class="filters"><label><input type="checkbox" checked=${!all} onChange=${event => setAll(!event.target.checked)} /> ${t('notCalledBack')}</label></div>
    ${rows.length ? html`<div class="scroll" tabindex="0" role="region" aria-label=${t('missed')}><table class="missed"><thead><tr><th scope="col">${t('lastTry')}</th><th scope="col">${t('number')}</th><th scope="col">${t('queue')}</th><th scope="col" class="number">${t('wait')}</th><th scope="col">${t('attempts')}</th><th scope="col">${t('calledBack')}</th></tr></thead>
      <tbody>${rows.map(row => html`<tr key=${row.caller} data-back=${Boolean(row.called_back)}>
        <td><a href=${link.call({pbx: row.pbx, call_id: row.calls.at(-1)})}>${dayAndClock(row.last_at)}</a></td>
        <td>${row.number ? html`<${Name}>${row.number}<//>` : t('withoutNumber')}</td><td><${Name}>${row.queue ?? '–'}<//></td>
        <td class="number">${duration(row.waited_s)}</td><td>${plural('tries', row.tries)}${row.lost_after_talk ? `, ${t('lost')}` : ''} ${row.doubt ? html`<${Quality} of="estimated" />` : null}</td>
        <td>${row.called_back ? html`<a href=${link.call({pbx: row.pbx, call_id: row.called_back.call_id})}>✓ ${dayAndClock(row.called_back.at)}</a> <${Name}>${row.called_back.by ?? ''}<//> ${row.called_back.doubt ? html`<${Quality} of="estimated" />` : null}` : html`<b>✕ ${t('notCalledBack')}</b>`}</td>
      </tr>`)}</tbody></table></div>` : html`<p class="dim">${t('noMissed')}</p>`}
  </main>`;
}
