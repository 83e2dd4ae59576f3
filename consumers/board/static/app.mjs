// The pages: head with clocks and views, one view at a time, keys.
import {html, render, useEffect, useRef, useState} from './base.mjs';
import {store, useRows} from './store.mjs';
import {feed} from './stream.mjs';
import {age, clock, runTimers} from './time.mjs';
import {currentLanguage, plural, setLanguage, t, useLanguage} from './words.mjs';
import {Agents, Wall} from './agents.mjs';
import {Queues} from './queues.mjs';
import {Calls, Missed} from './calls.mjs';
import {Call} from './call.mjs';
import {AgentDay} from './agentday.mjs';
import {filtersOf, link, route} from './links.mjs';

const VIEWS = ['agents', 'queues', 'calls', 'missed'];
const THEMES = ['auto', 'light', 'dark', 'contrast'];

function useRoute() {
  const [parts, setParts] = useState(route());
  useEffect(() => {
    const change = () => {
      setParts(route());
      // Not from who types a search already: the browser tells of a new address a moment later.
      if (!document.activeElement?.matches('input')) document.getElementById('content')?.focus({preventScroll: true});
    };
    addEventListener('hashchange', change);
    return () => removeEventListener('hashchange', change);
  }, []);
  return parts;
}

function useFeed() {
  const [, set] = useState('');
  useEffect(() => {
    const call = () => { runTimers(feed.state === 'live'); set(`${feed.state} ${Math.floor(feed.ages().frame ?? -1)} ${store.held}`); };
    feed.listeners.add(call);
    return () => feed.listeners.delete(call);
  }, []);
  return feed.state;
}

function Clocks({state}) {
  const ages = feed.ages();
  return html`<div class=${`clocks feed-${state}`}><b>${state === 'live' ? '●' : '○'} ${t(`feed.${state}`)}</b>
    ${[['frame', 'clockFrame'], ['kafka', 'clockKafka'], ['event', 'clockEvent']].map(([name, word]) => html`<span key=${name} title=${t(`clockHints.${name}`)}>${t(word)} ${age(ages[name])}</span>`)}</div>`;
}

/** Who waits and who was missed must be seen from every view. */
function Badge({view}) {
  const [queues, missed] = [useRows('queues'), useRows('missed')];
  const [count, word] = view === 'queues' ? [queues.reduce((sum, row) => sum + row.waiting, 0), t('waitingNow')]
    : view === 'missed' ? [missed.filter(row => !row.called_back).length, t('notCalledBack')] : [0, ''];
  return count ? html` <span class="count" title=${`${count} ${word}`}>${count}<span class="hidden"> ${word}</span></span>` : null;
}

function Banner({state}) {
  if (state === 'live') return null;
  const truth = feed.truthAt ? clock(feed.truthAt) : '';
  return html`<div class="banner" data-banner=${state}>${t(`banner.${state}`)} ${truth}</div>`;
}

/** One polite region: connection changes only, and not more often than every 15 s. */
function Announcer({state}) {
  const [text, setText] = useState('');
  const last = useRef(0);
  useEffect(() => {
    const wait = Math.max(0, 15_000 - (performance.now() - last.current));
    const timer = setTimeout(() => { last.current = performance.now(); setText(t(`feed.${state}`)); }, last.current ? wait : 0);
    return () => clearTimeout(timer);
  }, [state]);
  return html`<div class="hidden" role="status">${text}</div>`;
}

function useTheme() {
  const [theme, setTheme] = useState(() => { try { return localStorage.getItem('theme') ?? 'auto'; } catch { return 'auto'; } });
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
    try { localStorage.setItem('theme', theme); } catch { /* a private window */ }
  }, [theme]);
  return [theme, setTheme];
}

function View({parts, search}) {
  const [name, ...rest] = parts;
  if (name === 'wall') return html`<${Wall} paused=${store.paused} />`;
  if (name === 'queues') return html`<${Queues} />`;
  if (name === 'calls') return html`<${Calls} search=${search} filters=${filtersOf(rest)} />`;
  if (name === 'missed') return html`<${Missed} search=${search} />`;
  if (name === 'call') return html`<${Call} key=${rest.slice(0, 2).join('/')} pbx=${rest[0]} id=${rest[1]} at=${filtersOf(rest).at} />`;
  if (name === 'agent') return html`<${AgentDay} key=${rest.slice(0, 2).join('/')} pbx=${rest[0]} agent=${rest[1]} date=${rest[2]} />`;
  return html`<${Agents} search=${search} />`;
}

function Board() {
  useLanguage();
  const state = useFeed();
  const parts = useRoute();
  const [search, setSearch] = useState('');
  const [theme, setTheme] = useTheme();
  const [paused, setPaused] = useState(false);
  const field = useRef();
  const wall = parts[0] === 'wall';
  const pause = () => { store.pause(!store.paused); setPaused(store.paused); };
  useEffect(() => {
    const press = event => {
      if (event.target.closest('input, select, textarea') || event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === '/') { field.current?.focus(); event.preventDefault(); }
      if (event.key.toLowerCase() === 'p') pause();
      if (VIEWS[Number(event.key) - 1]) location.hash = link.view(VIEWS[Number(event.key) - 1]);
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, []);
  const here = VIEWS.includes(parts[0]) ? parts[0] : parts[0] ? null : 'agents';
  return html`<a class="skip" href="#content" onClick=${event => { event.preventDefault(); document.getElementById('content')?.focus(); }}>${t('skip')}</a>
    <header class=${wall ? 'top wall-top' : 'top'}>
      ${wall ? null : html`<nav aria-label=${t('title')}>${VIEWS.map(each => html`<a key=${each} href=${link.view(each)} aria-current=${each === here ? 'page' : null}>${t(each)}<${Badge} view=${each} /></a>`)}<a href="#/wall">${t('wall')}</a></nav>
        <input ref=${field} type="search" class="search" placeholder=${t('search')} aria-label=${t('search')} value=${search} onInput=${event => setSearch(event.target.value)} />`}
      <${Clocks} state=${state} />
      <button type="button" aria-pressed=${paused} onClick=${pause}>${paused ? `▶ ${t('resume')}` : `‖ ${t('pause')}`}</button>${paused ? html`<span class="held">${plural('held', store.held)}</span>` : null}
      ${wall ? null : html`<label class="theme"><span class="hidden">${t('theme')}</span><select value=${theme} onChange=${event => setTheme(event.target.value)}>${THEMES.map(each => html`<option key=${each} value=${each}>${t('theme')}: ${t(`themes.${each}`)}</option>`)}</select></label>
      <button type="button" lang=${t('languageCode')} onClick=${() => setLanguage(currentLanguage() === 'cs' ? 'en' : 'cs')}>${t('language')}</button>`}
    </header>
    <${Banner} state=${state} /><${Announcer} state=${state} />
    <${View} parts=${parts} search=${search} />
    ${wall ? null : html`<footer class="dim">${t('help')}</footer>`}`;
}

render(html`<${Board} />`, document.getElementById('board'));
feed.start();
