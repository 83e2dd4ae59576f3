// Queues: every number opens the calls behind it, every head says its formula.
import {html} from './base.mjs';
import {useRows} from './store.mjs';
import {Timer, duration} from './time.mjs';
import {collate, percent, t} from './words.mjs';
import {store} from './store.mjs';
import {Name} from './marks.mjs';
import {link} from './links.mjs';

const WAIT_LIMIT_S = 60;

const heads = () => [
  ['logged', t('loggedIn')], ['free', t('free')], ['talking', t('talking')], ['paused', t('paused')],
  ['waiting', t('seenWaiting')], ['longest_since', t('longest')],
  ['answered', t('answered')], ['missed', t('missedCount')], ['within', t('within', {n: store.meta.targetS})], ['wait_s', t('meanWait')], ['estimated', t('unsure')],
  ['last_hour', t('lastHour')],
];

const known = value => (value === null || value === undefined ? '–' : value);

function Bars({bars}) {
  const most = Math.max(1, ...bars.map(([answered, missed]) => answered + missed));
  const text = bars.map(([answered, missed]) => `${answered}+${missed}`).join(', ');
  return html`<svg class="bars" viewBox="0 0 60 20" role="img" aria-label=${`${t('lastHour')}: ${text}`}><title>${text}</title>
    <line class="base" x1="0" x2="60" y1="19.5" y2="19.5" />
    ${bars.map(([answered, missed], n) => html`<rect class="bar-answered" x=${n * 10 + 1} width="8" y=${20 - answered / most * 20} height=${answered / most * 20} /><rect class="bar-missed" x=${n * 10 + 1} width="8" y=${20 - (answered + missed) / most * 20} height=${missed / most * 20} />`)}
  </svg>`;
}

const Count = ({value, to}) => value ? html`<a href=${to}>${value}</a>` : known(value);

function Row({row}) {
  const calls = filters => link.calls({pbx: row.pbx, queue: row.queue, direction: 'incoming', ...filters});
  return html`<tr data-queue=${row.queue}>
    <th scope="row">${row.queue ? html`<${Name}>${row.queue}<//>` : html`<span class="nowrap">${t('noQueue')}</span>`}</th>
    <td>${known(row.logged)}</td><td>${known(row.free)}</td><td>${known(row.talking)}</td><td>${known(row.paused)}</td>
    <td><${Count} value=${row.waiting} to=${calls({status: 'waiting'})} /></td>
    <td>${row.longest_since ? html`<${Timer} since=${row.longest_since} limit=${WAIT_LIMIT_S} />` : '–'}</td>
    <td><${Count} value=${row.answered} to=${calls({outcome: 'answered', since: 'today'})} /></td>
    <td><${Count} value=${row.missed} to=${calls({outcome: 'missed', since: 'today'})} /></td>
    <td>${percent(row.within)}</td><td>${row.wait_s === null ? '–' : duration(row.wait_s)}</td>
    <td><${Count} value=${row.estimated} to=${calls({outcome: 'counted', quality: 'estimated', since: 'today'})} /></td>
    <td><${Bars} bars=${row.last_hour} /></td>
  </tr>`;
}

export function Queues() {
  const rows = useRows('queues').sort((a, b) => (a.queue === '') - (b.queue === '') || collate(a.queue, b.queue));
  return html`<main id="content" tabindex="-1"><div class="scroll" tabindex="0" role="region" aria-label=${t('queues')}><table class="queues">
    <thead><tr><th scope="col">${t('queue')}</th>${heads().map(([name, word]) => html`<th scope="col" key=${name}><details class="formula"><summary>${word}</summary><p>${t(`definitions.${name}`)}</p></details></th>`)}</tr></thead>
    <tbody>${rows.map(row => html`<${Row} key=${`${row.pbx}/${row.queue}`} row=${row} />`)}</tbody>
  </table></div></main>`;
}
