// Agents on a desk or on a wall. The order is stable; what needs a look is a strip of its own.
import {html, useEffect, useLayoutEffect, useMemo, useRef, useState} from './base.mjs';
import {Same, store, useNames, useRow, useRows} from './store.mjs';
import {Timer, serverClock} from './time.mjs';
import {collate, currentLanguage, plural, t} from './words.mjs';
import {Name, STATE_ORDER, stateClass, stateGlyph} from './marks.mjs';
import {feed} from './stream.mjs';
import {link} from './links.mjs';

const PAUSE_LIMIT_S = 45 * 60;
const RING_LIMIT_S = 25;
const WALL_TILES = 30;
const BAND_TILES = 36;
const WALL_PAGE_MS = 15_000;

const shown = row => (feed.state === 'unknown' ? 'unknown' : row.state);
const nameOf = row => row.login ?? row.line ?? row.agent;
const group = state => (state.startsWith('on_call') ? 'on_call' : state);

function number(row) {
  const call = row.current_calls[0] ?? row.ringing_calls[0];
  return call?.number ?? null;
}

function Tile({name, wall}) {
  const row = useRow('agents', name);
  if (!row) return null;
  const state = shown(row);
  const call = row.current_calls[0] ?? row.ringing_calls[0];
  const today = row.days[store.meta.date];
  const detail = row.pause_name ?? (call ? [call.number, call.queue].filter(Boolean).join(' · ') : null);
  const way = row.activity === 'on_call_in' ? '↓' : row.activity === 'on_call_out' ? '↑' : '';
  const glyph = html`<span class="glyph" aria-hidden="true">${stateGlyph(state)}${way}</span>`;
  return html`<a class=${`tile ${stateClass(state)}`} href=${link.agent(row)} data-agent=${name} data-state=${state} data-revision=${row.revision}>
    <span class="tile-head">${wall ? null : glyph}<${Name}>${nameOf(row)}<//><span class="tile-line">${row.line ?? ''}</span></span>
    <span class="tile-state">${wall ? glyph : null}<span class="state-word">${t(`states.${state}`)}</span> <${Timer} since=${row.since} limit=${state === 'paused' ? PAUSE_LIMIT_S : state === 'ringing' ? RING_LIMIT_S : null} /></span>
    <span class="tile-detail">${detail ? html`<${Name}>${detail}<//>` : today ? html`<span title=${`${t('today')}: ${t('answered')} ${today.answered_in}, ${t('answeredOut')} ${today.answered_out}, ${t('missedRings')} ${today.missed_rings}`}>${t('today')} ✓ ${today.answered_in + today.answered_out} ∅ ${today.missed_rings}</span>` : ' '}</span>
  </a>`;
}

function Look() {
  const now = serverClock.now() ?? 0;
  const before = seconds => new Date(now - seconds * 1000).toISOString();
  const limits = {paused: before(PAUSE_LIMIT_S), ringing: before(RING_LIMIT_S)};
  const found = useRows('agents').filter(row => row.since < limits[row.state] || row.state === 'unknown')
    .sort((a, b) => (a.since < b.since ? -1 : 1)).slice(0, 6);
  return html`<section class="look" aria-label=${t('needsLook')}><h2>${t('needsLook')}</h2>
    ${found.length ? found.map(row => html`<a href=${link.agent(row)} key=${row.agent}><span class="glyph" aria-hidden="true">${stateGlyph(row.state)}</span> <${Name}>${nameOf(row)}<//> ${t(`states.${row.state}`)} <${Timer} since=${row.since} /></a>`) : html`<span class="dim">${t('nothing')}</span>`}
  </section>`;
}

/** Names of all agents in order; it is made anew when somebody comes or goes. With *always* it is read again on every change. */
function useOrder(always = false) {
  const names = useNames('agents', always);
  const key = names.join('\n');
  return useMemo(() => {
    const of = name => nameOf(store.rows.agents.get(name) ?? {agent: name});
    return names.map(name => [of(name), name]).sort((a, b) => collate(a[0], b[0]) || (a[1] < b[1] ? -1 : 1)).map(([, name]) => name);
  }, [key, currentLanguage()]);
}

function useFiltered({queue, states, text}) {
  const wanted = text.trim().toLocaleLowerCase();
  const passes = row => row && (!queue || queue in (row.queues ?? {})) && (!states.size || states.has(group(row.state)))
    && (!wanted || [row.login, row.line, row.agent, number(row), row.pause_name].some(each => each?.toLocaleLowerCase().includes(wanted)));
  const order = useOrder(Boolean(queue || states.size || wanted));
  return queue || states.size || wanted ? order.filter(name => passes(store.rows.agents.get(name))) : order;
}

/** What tiles show besides their row. */
const common = () => `${currentLanguage()} ${feed.state === 'unknown'} ${store.meta.date} ${store.meta.timeZone}`;

/** How many columns the style sheet gives the tiles in the width there is; 0 before they have one. */
function useColumns(tiles) {
  const [columns, setColumns] = useState(0);
  useLayoutEffect(() => {
    const count = () => setColumns(getComputedStyle(tiles.current).gridTemplateColumns.split(' ').length);
    count();
    const observer = new ResizeObserver(count);
    observer.observe(tiles.current);
    return () => observer.disconnect();
  }, []);
  return columns;
}

/** Tiles in bands of whole rows. The browser leaves out bands that are off screen, and a change is laid out within its band. */
function Tiles({names, wall}) {
  const tiles = useRef();
  const columns = useColumns(tiles);
  const size = columns * Math.ceil(BAND_TILES / columns);
  const bands = size ? Array.from({length: Math.ceil(names.length / size)}, (_, n) => names.slice(n * size, (n + 1) * size)) : [];
  const inputs = `${common()} ${wall}`;
  return html`<div class="tiles" ref=${tiles}>${bands.map((band, n) => html`<div class="band" key=${n} style=${{'--rows': Math.ceil(band.length / columns)}}>
    ${band.map(name => html`<${Same} key=${name} of=${Tile} inputs=${inputs} name=${name} wall=${wall} />`)}</div>`)}</div>`;
}

function Counts({states, toggle}) {
  const counts = new Map();
  for (const row of useRows('agents')) counts.set(group(row.state), (counts.get(group(row.state)) ?? 0) + 1);
  const names = [...STATE_ORDER, ...[...counts.keys()].filter(each => !STATE_ORDER.includes(each))];
  return html`<div class="counts" role="group" aria-label=${t('agents')}>
    ${names.filter(name => counts.get(name)).map(name => html`<button key=${name} type="button" class=${stateClass(name)} aria-pressed=${states.has(name)} onClick=${() => toggle(name)}>
      <span class="glyph" aria-hidden="true">${stateGlyph(name)}</span> <b>${counts.get(name)}</b> ${t(`states.${name}`)}</button>`)}
  </div>`;
}

/** The queues that agents are in; the rest of the page is not drawn anew with it. */
function QueueFilter({queue, set}) {
  const queues = [...new Set(useRows('agents').flatMap(row => Object.keys(row.queues ?? {})))].sort(collate);
  return html`<label>${t('queue')} <select value=${queue} onChange=${event => set(event.target.value)}><option value="">${t('allQueues')}</option>${queues.map(each => html`<option key=${each} value=${each}>${each}</option>`)}</select></label>`;
}

export function Agents({search}) {
  const [queue, setQueue] = useState('');
  const [states, setStates] = useState(new Set());
  const names = useFiltered({queue, states, text: search});
  const toggle = name => setStates(held => { const next = new Set(held); if (!next.delete(name)) next.add(name); return next; });
  return html`<main id="content" class="agents" tabindex="-1">
    <div class="filters">
      <${QueueFilter} queue=${queue} set=${setQueue} />
      <span class="dim">${plural('agentCount', names.length)}</span>
    </div>
    <${Counts} states=${states} toggle=${toggle} />
    <${Look} />
    ${names.length ? html`<${Same} of=${Tiles} inputs=${`${common()}\n${names.join('\n')}`} names=${names} wall=${false} />` : html`<p class="dim">${t('nobody')}</p>`}
  </main>`;
}

/** Who is free, who waits, who was missed, in one line. */
function WallSums() {
  const [agents, queues, missed] = [useRows('agents'), useRows('queues'), useRows('missed')];
  const counts = new Map();
  for (const row of agents) counts.set(group(shown(row)), (counts.get(group(shown(row))) ?? 0) + 1);
  const waiting = queues.reduce((sum, row) => sum + row.waiting, 0);
  const longest = queues.map(row => row.longest_since).filter(Boolean).sort()[0];
  const open = missed.filter(row => !row.called_back).length;
  return html`<p class="wall-sums">
    ${['available', 'on_call', 'paused'].map(name => html`<span key=${name}><span class="glyph" aria-hidden="true">${stateGlyph(name)}</span> <b>${counts.get(name) ?? 0}</b> ${t(`states.${name}`)}</span>`)}
    <span class=${waiting ? 'alarm' : ''}><b>${waiting}</b> ${t('waitingNow')}${longest ? html` <${Timer} since=${longest} />` : null}</span>
    <span class=${open ? 'alarm' : ''}>∅ <b>${open}</b> ${t('notCalledBack')}</span></p>`;
}

/** The same without controls, readable from five metres; more than fit turn over page by page. */
export function Wall({paused}) {
  const sorted = useOrder();
  const [page, setPage] = useState(0);
  const pages = Math.max(1, Math.ceil(sorted.length / WALL_TILES));
  const turn = useRef();
  turn.current = () => setPage(held => (held + 1) % pages);
  useEffect(() => {
    if (paused || pages < 2) return undefined;
    const timer = setInterval(() => turn.current(), WALL_PAGE_MS);
    return () => clearInterval(timer);
  }, [paused, pages]);
  const first = Math.min(page, pages - 1) * WALL_TILES;
  return html`<main id="content" class="wall" tabindex="-1">
    <${WallSums} />
    <${Tiles} names=${sorted.slice(first, first + WALL_TILES)} wall=${true} />
    ${pages > 1 ? html`<p class="pages">${t('page')} ${Math.min(page, pages - 1) + 1}/${pages} <button type="button" onClick=${() => turn.current()}>${t('next')}</button></p>` : null}
  </main>`;
}
