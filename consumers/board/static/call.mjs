// One call: lanes above, its events below, one selection for both.
import {html, useEffect, useMemo, useRef, useState} from './base.mjs';
import {isOpen, useRow} from './store.mjs';
import {Timer, clockExact, dayAndClock, duration, serverClock} from './time.mjs';
import {t} from './words.mjs';
import {Direction, Name, OUTCOMES, Quality} from './marks.mjs';
import {Drawing, drawnSums} from './drawing.mjs';
import {getJson} from './links.mjs';

function useCall(pbx, id) {
  const row = useRow('calls', `${pbx}/${id}`);
  const [loaded, setLoaded] = useState({});
  const revision = row?.revision;
  useEffect(() => {
    let current = true;
    getJson(`/api/calls/${encodeURIComponent(id)}?pbx=${encodeURIComponent(pbx)}`)
      .then(call => current && setLoaded({call}), error => current && setLoaded({error: error.message}));
    return () => { current = false; };
  }, [pbx, id, revision]);
  return loaded;
}

const Sum = ({name, drawn, printed}) => html`<span class="sum">${t(name)} <b data-sum=${name}>${duration(printed)}</b> ${drawn !== undefined && printed !== null && Math.abs(drawn - printed) > 1 ? html`<span role="alert">≠ ${duration(drawn)} ${t('drawn')}</span>` : null}</span>`;

export function Call({pbx, id, at}) {
  const {call, error} = useCall(pbx, id);
  const [selected, setSelected] = useState(Number(at) || 0);
  const [zoom, setZoom] = useState([0, 1]);
  const [inferred, setInferred] = useState(true);
  const [, tick] = useState(0);
  const table = useRef();
  useEffect(() => {
    if (!call || !isOpen(call)) return undefined;
    const timer = setInterval(() => tick(n => n + 1), 1000);
    return () => clearInterval(timer);
  }, [call]);
  const count = call?.events?.length ?? 0;
  useEffect(() => {
    const press = event => {
      if (event.target.closest('input, select, textarea')) return;
      const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
      if (step) { setSelected(held => Math.max(0, Math.min(count - 1, held + step))); event.preventDefault(); }
      const pan = {a: [-0.1, 1], d: [0.1, 1], w: [0, 0.8], s: [0, 1.25]}[event.key.toLowerCase()] ?? {'+': [0, 0.8], '-': [0, 1.25]}[event.key];
      if (pan) setZoom(held => moved(held, ...pan));
    };
    addEventListener('keydown', press);
    return () => removeEventListener('keydown', press);
  }, [count]);
  useEffect(() => { table.current?.querySelector('[aria-selected=true]')?.scrollIntoView({block: 'nearest'}); }, [selected]);
  const now = serverClock.now() ?? Date.now();
  const bounds = useMemo(() => call?.events && boundsOf(call, now), [call, isOpen(call ?? {status: 'ended'}) ? Math.floor(now / 1000) : 0]);
  if (error) return html`<main id="content" tabindex="-1"><p role="alert">${error === '404' ? t('gone') : t('loadFailed')}</p></main>`;
  if (!call) return html`<main id="content" tabindex="-1"><p class="dim">${t('feed.loading')}</p></main>`;
  if (call.broken) return html`<main id="content" tabindex="-1"><h2>${t('broken')}: ${call.broken}</h2><pre>${call.raw}</pre></main>`;
  const span = bounds[1] - bounds[0];
  const view = [bounds[0] + zoom[0] * span, bounds[0] + zoom[1] * span];
  const sums = drawnSums(call, now);
  return html`<main id="content" class="call" tabindex="-1" data-call=${`${pbx}/${id}`} data-revision=${call.revision}>
    <header class="call-head"><h2><${Direction} of=${call.direction} /> <${Name}>${(call.direction === 'outgoing' ? call.to : call.from) ?? id}<//> <span class="dim">${id}</span></h2>
      <p>${dayAndClock(call.started_at)} · <span class="glyph" aria-hidden="true">${isOpen(call) ? '▶' : OUTCOMES[call.outcome] ?? '?'}</span> ${isOpen(call) ? html`${t(`statuses.${call.status}`)} <${Timer} since=${call.started_at ?? call.updated_at} />` : `${call.status === 'stale' ? t('statuses.stale') : t(`outcomes.${call.outcome}`)} ${duration(call.duration_s)}`} · <${Sum} name="wait" printed=${call.wait_s} /> · <${Sum} name="talk" printed=${call.talk_s} drawn=${isOpen(call) ? undefined : sums.talk_s} /> · <${Sum} name="ring" printed=${call.ring_s} drawn=${isOpen(call) ? undefined : sums.ring_s} /> · <${Sum} name="consult" printed=${call.consult_s} /> · ${t(`qualities.${call.quality}`)} <${Quality} of=${call.quality} /> · ${t('revision')} ${call.revision}</p>
      ${call.anomalies.length ? html`<p>${t('anomalies')}: ${call.anomalies.map(each => t(`anomaly.${each}`)).join(', ')}</p>` : null}</header>
    <div class="filters">
      <label><input type="checkbox" checked=${inferred} onChange=${event => setInferred(event.target.checked)} /> ${t('showInferred')}</label>
      <button type="button" onClick=${() => setZoom(moved(zoom, 0, 0.8))} aria-label=${t('zoomIn')}>+</button><button type="button" onClick=${() => setZoom(moved(zoom, 0, 1.25))} aria-label=${t('zoomOut')}>−</button>
      <button type="button" onClick=${() => setZoom(moved(zoom, -0.1, 1))} aria-label=${t('earlier')}>◀</button><button type="button" onClick=${() => setZoom(moved(zoom, 0.1, 1))} aria-label=${t('later')}>▶</button>
      <button type="button" onClick=${() => navigator.clipboard?.writeText(`${location.href.replace(/\/at=\d+$/, '')}/at=${selected}`)}>${t('copyLink')}</button>
    </div>
    <div class="scroll" tabindex="0" role="region" aria-label=${t('legs')}><${Drawing} call=${call} now=${now} selected=${selected} select=${setSelected} view=${view} inferred=${inferred} /></div>
    <h3 id="events-head">${t('events')}</h3>
    <div class="scroll" tabindex="0" role="region" aria-labelledby="events-head"><table class="events" ref=${table}><thead><tr><th scope="col">#</th><th scope="col">${t('at')}</th><th scope="col">${t('event')}</th><th scope="col">${t('line')}</th><th scope="col">${t('effect')}</th><th scope="col">${t('note')}</th></tr></thead>
      <tbody>${(call.events ?? []).map((event, n) => html`<tr key=${event.event_id} aria-selected=${n === selected} class=${n === selected ? 'selected' : ''} onClick=${() => setSelected(n)}><td>${n + 1}</td><td>${clockExact(event.at)}</td><td>${event.event_name}</td><td>${event.line ?? ''}</td><td>${t(`effects.${event.effect}`)}</td><td lang="en">${event.note ?? ''}</td></tr>`)}</tbody></table></div>
  </main>`;
}

function boundsOf(call, now) {
  const times = [call.started_at, call.ended_at, ...call.events.map(event => event.at), ...call.legs.flatMap(leg => [leg.ring_started_at, leg.ended_at])].filter(Boolean).map(Date.parse);
  if (isOpen(call)) times.push(now);
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const margin = Math.max(500, (to - from) * 0.03);
  return [from - margin, to + margin];
}

function moved([from, to], by, factor) {
  const middle = (from + to) / 2 + by * (to - from);
  const half = Math.min(1, (to - from) * factor) / 2;
  const start = Math.max(0, Math.min(1 - 2 * half, middle - half));
  return [start, start + 2 * half];
}
