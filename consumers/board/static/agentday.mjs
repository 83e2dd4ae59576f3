// An agent's day: presence and pauses from events, calls from legs; drawn sums beside the printed ones.
import {html, useEffect, useState} from './base.mjs';
import {store, useRow} from './store.mjs';
import {Timer, clock, clockShort, duration} from './time.mjs';
import {t} from './words.mjs';
import {Name, stateClass, stateGlyph} from './marks.mjs';
import {union} from './drawing.mjs';
import {getJson, link} from './links.mjs';

const WIDTH = 1000;
const HEAD = 130;
const DAY_MS = 86_400_000;

function shifted(date, days) {
  return new Date(Date.parse(`${date}T12:00:00Z`) + days * DAY_MS).toISOString().slice(0, 10);
}

/** Talk of a day as drawn: the union of the legs that talk, cut at the ends of the day; open ones count up to `updated_at`, as in the printed sums. */
export function drawnTalk(day) {
  const [from, to, now] = [day.begin, day.end, day.updated_at].map(Date.parse);
  const bars = day.legs.filter(leg => (leg.role === 'agent' || leg.role === 'caller') && leg.talk_started_at && leg.result !== 'timeout')
    .map(leg => ({from: Math.max(from, Date.parse(leg.talk_started_at)), to: Math.min(to, leg.ended_at ? Date.parse(leg.ended_at) : now)}));
  return union(bars, now);
}

export function AgentDay({pbx, agent, date}) {
  const row = useRow('agents', `${pbx}/${agent}`);
  const shown = date || store.meta.date;
  const [loaded, setLoaded] = useState({});
  const revision = shown === store.meta.date ? row?.revision : 0;
  useEffect(() => {
    if (!shown) return undefined;
    let current = true;
    getJson(`/api/agents/${encodeURIComponent(agent)}/days/${shown}?pbx=${encodeURIComponent(pbx)}`)
      .then(day => current && setLoaded({day}), error => current && setLoaded({error: error.message}));
    return () => { current = false; };
  }, [pbx, agent, shown, revision]);
  const {day, error} = loaded;
  if (error) return html`<main id="content" tabindex="-1"><p role="alert">${error === '404' ? t('gone') : t('loadFailed')}</p></main>`;
  return html`<main id="content" class="day" tabindex="-1">
    <header><h2><span class="glyph" aria-hidden="true">${stateGlyph(row?.state)}</span> <${Name}>${row?.login ?? row?.line ?? agent}<//> ${row ? html`<span class=${`badge ${stateClass(row.state)}`}>${t(`states.${row.state}`)} <${Timer} since=${row.since} /></span>` : null}</h2>
      <nav aria-label=${t('today')}><a href=${link.day({pbx, agent}, shifted(shown ?? '2026-01-01', -1))} aria-label=${t('earlier')}>‹</a> ${shown} <a href=${link.day({pbx, agent}, shifted(shown ?? '2026-01-01', 1))} aria-label=${t('later')}>›</a> ${store.meta.timeZone}</nav></header>
    ${day ? html`<${Lanes} day=${day} implicit=${row?.presence === 'implicit'} /><${Sums} day=${day} /><${Legs} day=${day} />` : html`<p class="dim">${t('feed.loading')}</p>`}
  </main>`;
}

function Lanes({day, implicit}) {
  const [from, to] = [Date.parse(day.begin), Date.parse(day.end)];
  const x = at => HEAD + (Math.max(from, Math.min(to, at)) - from) / (to - from) * (WIDTH - HEAD - 10);
  const hours = [];
  for (let at = from; at <= to; at += 3 * 3_600_000) hours.push(at);
  const until = Date.parse(day.until);
  const quarters = new Map();
  for (const leg of day.legs) { const n = Math.floor((Date.parse(leg.began_at) - from) / 900_000); if (n >= 0) quarters.set(n, (quarters.get(n) ?? 0) + 1); }
  const most = Math.max(1, ...quarters.values());
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t('callsLane')}><svg class="drawing" viewBox=${`0 0 ${WIDTH} 130`} role="group" aria-label=${day.date}>
    ${hours.map(at => html`<g key=${at}><line class="grid" x1=${x(at)} x2=${x(at)} y1="16" y2="130" />${x(at) < WIDTH - 30 ? html`<text class="axis" x=${x(at)} y="12">${clockShort(at)}</text>` : null}</g>`)}
    <text class="lane-name" x="4" y="36">${t('presence')}</text>
    ${day.presence.length ? day.presence.map((each, n) => {
      const end = n + 1 < day.presence.length ? Date.parse(day.presence[n + 1].since) : until;
      return each.state === 'offline' ? null : html`<rect key=${each.since} class=${`bar presence ${stateClass(each.state)}`} x=${x(Date.parse(each.since))} y="22" width=${Math.max(1, x(end) - x(Date.parse(each.since)))} height="20" role="img" aria-label=${`${t(`states.${each.state}`)} ${clockShort(each.since)}`}><title>${t(`states.${each.state}`)} ${clockShort(each.since)}–${clockShort(end)}</title></rect>`;
    }) : html`<text class="axis" x=${HEAD + 6} y="36">${t(implicit ? 'noPresence' : 'noEvents')}</text>`}
    <text class="lane-name" x="4" y="66">${t('callsLane')}</text>
    ${day.legs.map(leg => {
      const [began, ended] = [Date.parse(leg.began_at), leg.ended_at ? Date.parse(leg.ended_at) : until];
      const answered = leg.answered_at ? Date.parse(leg.answered_at) : ended;
      const doubt = leg.inferred.length || leg.quality !== 'exact' ? ' doubtful' : '';
      const torn = began < from || ended > to ? ' torn' : '';
      return html`<a key=${`${leg.call_id}/${leg.leg}`} href=${link.call({pbx: day.pbx, call_id: leg.call_id})} aria-label=${`${clockShort(leg.began_at)} ${t(`results.${leg.result ?? 'open'}`)}`}>
        <rect class=${`bar bar-ring${doubt}${torn}`} x=${x(began)} y="52" width=${Math.max(1, x(answered) - x(began))} height="20" />
        ${leg.answered_at ? html`<rect class=${`bar bar-${leg.role === 'consult' ? 'consult' : 'talk'}${doubt}${torn}`} x=${x(answered)} y="52" width=${Math.max(1, x(ended) - x(answered))} height="20"><title>${clockShort(leg.began_at)} ${duration((ended - began) / 1000)}</title></rect>` : null}</a>`;
    })}
    <text class="lane-name" x="4" y="110">${t('callsPerQuarter')}</text>
    ${[...quarters].map(([n, count]) => html`<rect key=${n} class="bar-answered" x=${x(from + n * 900_000)} width=${Math.max(1, (WIDTH - HEAD) / 100)} y=${124 - count / most * 36} height=${count / most * 36}><title>${count}</title></rect>`)}
  </svg></div>`;
}

function Sums({day}) {
  const sums = day.sums;
  if (!sums) return html`<p class="dim">${t('nothing')}</p>`;
  const drawn = drawnTalk(day);
  const equal = Math.abs(drawn - sums.talk_s) <= 1;
  return html`<dl class="sums">
    ${[['login', duration(sums.login_s)], ['talk', duration(sums.talk_s)], ['pauses', `${sums.pauses} · ${duration(sums.paused_s)}`], ['answered', sums.answered_in], ['answeredOut', sums.answered_out], ['missedRings', sums.missed_rings]].map(([name, value]) => html`<div key=${name}><dt>${t(name)}</dt><dd data-sum=${name}>${value}</dd></div>`)}
    ${Object.entries(sums.pause_s).map(([name, value]) => html`<div key=${`pause ${name}`}><dt>‖ <${Name}>${name || '–'}<//></dt><dd>${duration(value)}</dd></div>`)}
    <div><dt>Σ</dt><dd data-equal=${equal}>${equal ? `✓ ${t('sumsEqual')} (${clock(day.updated_at)})` : html`<span role="alert">${t('sumsDiffer')}: ${duration(drawn)}</span>`}</dd></div>
  </dl>`;
}

function Legs({day}) {
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${t('calls')}><table class="calls"><thead><tr><th scope="col">${t('start')}</th><th scope="col">${t('number')}</th><th scope="col">${t('queue')}</th><th scope="col">${t('what')}</th></tr></thead><tbody>${day.legs.toReversed().map(leg => html`<tr key=${`${leg.call_id}/${leg.leg}`}>
    <td><a href=${link.call({pbx: day.pbx, call_id: leg.call_id})}>${clockShort(leg.began_at)}</a></td><td><${Name}>${(leg.role === 'caller' ? leg.to : leg.from) ?? '–'}<//></td><td><${Name}>${leg.queue ?? '–'}<//></td><td>${t(`results.${leg.result ?? 'open'}`)}</td></tr>`)}</tbody></table></div>`;
}
