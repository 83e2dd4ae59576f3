// A call as lanes: time to the right, a lane per leg, doubt drawn. Drawn sums are those of the drawn bars.
import {html} from './base.mjs';
import {clock, duration} from './time.mjs';
import {t} from './words.mjs';
import {RESULTS} from './marks.mjs';

const LANE = 26;
const HEAD = 150;
const WIDTH = 1000;

const ms = at => (at ? Date.parse(at) : null);

/** Bars of a leg: `{kind, from, to, inferred}` in ms; an open end is null. */
export function barsOf(leg, call) {
  const doubts = new Set(leg.inferred);
  const [ring, answered, ended] = [ms(leg.ring_started_at), ms(leg.answered_at), ms(leg.ended_at)];
  const bars = [];
  if (ring !== null && leg.role !== 'monitor') bars.push({kind: leg.role === 'consult' ? 'consult-ring' : 'ring', from: ring, to: answered ?? ended, inferred: doubts.has('answered_at') || (answered === null && doubts.has('ended_at'))});
  if (leg.role === 'monitor') bars.push({kind: 'monitor', from: ring ?? answered ?? ended, to: ended, inferred: doubts.has('ended_at')});
  else if (answered !== null) {
    const inferred = doubts.has('answered_at') || doubts.has('ended_at');
    if (leg.role === 'consult') bars.push({kind: 'consult', from: answered, to: ended, inferred});
    else {
      const got = gotCallerAt(leg, call, answered, ended);
      if (got > answered) bars.push({kind: 'consult', from: answered, to: got, inferred});
      if (leg.talk_s !== null || ended === null) bars.push({kind: 'talk', from: got, to: ended, inferred});
    }
  }
  return bars;
}

/** When a leg got the caller: a consulted colleague got him with the transfer. */
function gotCallerAt(leg, call, answered, ended) {
  if (leg.talk_s !== null && ended !== null) return Math.max(answered, Math.round(ended - leg.talk_s * 1000));
  const transfer = call.transfers.find(each => each.kind === 'attended' && each.to_line === leg.line && ms(each.at) > answered);
  return transfer && leg.role === 'agent' && leg.consult_s !== null ? ms(transfer.at) : answered;
}

/** Union of intervals in seconds. */
export function union(bars, now) {
  const sorted = bars.map(bar => [bar.from, bar.to ?? now]).filter(([from, to]) => to > from).sort((a, b) => a[0] - b[0]);
  let total = 0;
  let end = -Infinity;
  for (const [from, to] of sorted) {
    total += Math.max(0, to - Math.max(from, end));
    end = Math.max(end, to);
  }
  return total / 1000;
}

export function drawnSums(call, now) {
  // Open or timed-out intervals have no length in the document, so they add nothing here either.
  const legs = call.legs.filter(leg => leg.ended_at && leg.result !== 'timeout');
  const all = legs.flatMap(leg => barsOf(leg, call).map(bar => ({...bar, role: leg.role})));
  return {talk_s: union(all.filter(bar => bar.kind === 'talk' && talks(call, bar)), now), ring_s: union(all.filter(bar => bar.kind.endsWith('ring') && bar.role !== 'monitor'), now)};
}

const talks = (call, bar) => bar.role === 'agent' || (bar.role === 'caller' && !call.legs.some(leg => leg.role === 'agent'));

function ticks(from, to) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400].map(each => each * 1000);
  const step = steps.find(each => (to - from) / each <= 9) ?? 28_800_000;
  const found = [];
  for (let at = Math.ceil(from / step) * step; at <= to; at += step) found.push(at);
  return found;
}

export function Drawing({call, now, selected, select, view, inferred}) {
  const [from, to] = view;
  const scale = (WIDTH - HEAD - 20) / Math.max(1, to - from);
  const x = at => HEAD + (Math.max(from, Math.min(to, at)) - from) * scale;
  const end = ms(call.ended_at);
  const lanes = call.legs;
  const height = (lanes.length + 2) * LANE + 20;
  const partial = call.quality === 'partial';
  const began = ms(call.started_at) ?? ms(call.events[0]?.at) ?? from;
  const bar = (each, y, key, label) => {
    if (each.inferred && !inferred && each.kind !== 'talk') return null;
    const [a, b] = [x(each.from), x(each.to ?? now)];
    return html`<rect key=${key} class=${`bar bar-${each.kind}${each.inferred ? ' doubtful' : ''}${each.to === null ? ' unended' : ''}`} x=${a} y=${y + 4} width=${Math.max(1.5, b - a)} height=${LANE - 8} role="img" aria-label=${`${label}: ${t(each.kind.includes('ring') ? 'ring' : each.kind.startsWith('consult') ? 'consult' : each.kind === 'talk' ? 'talk' : 'states.monitoring')} ${duration(((each.to ?? now) - each.from) / 1000)}${each.inferred ? `, ${t('inferred')}` : ''}`}><title>${duration(((each.to ?? now) - each.from) / 1000)}${each.inferred ? ` (${t('inferred')})` : ''}</title></rect>`;
  };
  const holders = lanes.flatMap(leg => barsOf(leg, call).filter(each => each.kind === 'talk').map(each => ({...each, who: leg.login ?? leg.line})));
  return html`<svg class="drawing" viewBox=${`0 0 ${WIDTH} ${height}`} role="group" aria-label=${t('legs')}>
    <defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line class="hatch" x1="0" y1="0" x2="0" y2="6" /></pattern>
      <pattern id="dots" width="5" height="5" patternUnits="userSpaceOnUse"><circle class="dot" cx="2.5" cy="2.5" r="1.3" /></pattern></defs>
    ${ticks(from, to).map(at => html`<g key=${at}><line class="grid" x1=${x(at)} x2=${x(at)} y1="16" y2=${height} />${x(at) < WIDTH - 50 ? html`<text class="axis" x=${x(at)} y="12">${clock(at)}</text>` : null}</g>`)}
    <text class="lane-name" x="4" y=${LANE + 12}>${t('caller')}</text>
    <line class=${`waiting${partial ? ' torn' : ''}`} x1=${x(began)} x2=${x(end ?? now)} y1=${LANE + 8} y2=${LANE + 8} />
    ${holders.map((each, n) => bar(each, LANE - 5, `holder${n}`, `${t('caller')} ${t('withWhom')} ${each.who}`))}
    ${holders.map((each, n) => (x(each.to ?? now) - x(each.from)) > 60 && each.who ? html`<text key=${`who${n}`} class="who" aria-hidden="true" x=${x(each.from) + 5} y=${LANE + 12}>${each.who.slice(0, Math.floor((x(each.to ?? now) - x(each.from)) / 9))}</text>` : null)}
    ${partial ? html`<text class="torn-mark" x=${x(began) - 12} y=${LANE + 13} role="img" aria-label=${t('startUnknown')}>⁇</text>` : null}
    ${call.transfers.filter(each => inferred || !each.kind.endsWith('_inferred')).map((each, n) => {
      // Of a line that rang several times, the leg that began last before the transfer; who took over may ring after it.
      const begun = leg => ms(leg.ring_started_at ?? leg.answered_at ?? leg.ended_at);
      const before = line => lanes.findLastIndex(leg => leg.line === line && begun(leg) <= ms(each.at) && leg.answered_at);
      const target = line => { const held = before(line); return held >= 0 && (ms(lanes[held].ended_at) ?? Infinity) > ms(each.at) ? held : lanes.findIndex(leg => leg.line === line && begun(leg) >= ms(each.at)); };
      const [a, b] = [before(each.from_line), target(each.to_line)];
      if (a < 0) return null;
      const y = m => (m + 1) * LANE + 18 + LANE / 2;
      const label = `${t(`kinds.${each.kind}`)}, ${t(`confidence.${each.confidence}`)}`;
      return html`<g key=${n} class=${`connector${each.kind.endsWith('_inferred') || each.confidence !== 'high' ? ' doubtful' : ''}`} role="img" aria-label=${label}><title>${label}</title><line x1=${x(ms(each.at))} x2=${x(ms(each.at))} y1=${y(a)} y2=${b < 0 ? y(a) + 10 : y(b)} /><text class="axis" x=${x(ms(each.at)) + 3} y=${(y(a) + (b < 0 ? y(a) : y(b))) / 2}>${each.confidence === 'high' ? '' : t(`confidence.${each.confidence}`)}</text></g>`;
    })}
    ${lanes.map((leg, n) => {
      const y = (n + 1) * LANE + 18;
      const bars = barsOf(leg, call);
      const last = Math.max(...bars.map(each => each.to ?? now), ms(leg.ended_at) ?? 0);
      const name = `${leg.role === 'consult' ? '└ ' : ''}${leg.line ?? ''} ${leg.login ?? ''}`;
      const shown = inferred || !leg.inferred.includes('ended_at');
      return html`<g key=${leg.leg} class=${`lane role-${leg.role}`}>
        <foreignObject x=${leg.role === 'consult' ? 14 : 4} y=${y} width=${HEAD - 18} height=${LANE}><div class="lane-label" xmlns="http://www.w3.org/1999/xhtml"><bdi title=${name}>${name}</bdi></div></foreignObject>
        ${bars.map((each, m) => bar(each, y, m, name))}
        ${leg.parallel_rings ? html`<text class="axis" x=${x(bars[0]?.from ?? from) + 2} y=${y + 17}>×${leg.parallel_rings + 1}</text>` : null}
        ${leg.result && shown ? html`<text class=${`result${leg.inferred.includes('ended_at') ? ' doubtful' : ''}`} x=${x(last) + 4} y=${y + 18} role="img" aria-label=${`${t(`results.${leg.result}`)}${leg.inferred.includes('ended_at') ? `, ${t('inferred')}` : ''}`}>${RESULTS[leg.result] ?? '?'}${leg.inferred.includes('ended_at') ? '~' : ''}</text>` : null}
      </g>`;
    })}
    ${call.events.map((event, n) => html`<line key=${event.event_id} class=${`event-tick${n === selected ? ' selected' : ''}`} x1=${x(ms(event.at))} x2=${x(ms(event.at))} y1=${height - 14} y2=${height - (n === selected ? height - 18 : 2)} onClick=${() => select(n)}><title>${clock(event.at)} ${event.event_name}</title></line>`)}
  </svg>`;
}
