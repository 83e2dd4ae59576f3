// Czech and English. Names of queues, pauses and agents are data and never translated.
import {useLayoutEffect, useState} from './base.mjs';

const CS = {
  title: 'Přehled', agents: 'Operátoři', queues: 'Fronty', calls: 'Hovory', missed: 'Zmeškané', wall: 'Velká obrazovka', language: 'English', languageCode: 'en',
  theme: 'Vzhled', themes: {auto: 'systém', light: 'světlý', dark: 'tmavý', contrast: 'vysoký kontrast'},
  pause: 'Pozastavit', resume: 'Pokračovat', held: {one: '{n} změna čeká', few: '{n} změny čekají', many: '{n} změny čeká', other: '{n} změn čeká'},
  feed: {connecting: 'připojuje se', loading: 'načítá se', live: 'živě', stale: 'zastaralé', unknown: 'neznámé'},
  clockFrame: 'stáří', clockKafka: 'Kafka', clockEvent: 'událost', never: '–', clockHints: {frame: 'Jak staré jsou údaje na této stránce. Nad 5 s zešednou.', kafka: 'Kdy přehled naposledy věděl, že přečetl vše. Nad 10 s údaje zešednou.', event: 'Jak stará je poslední událost z ústředny. Ticho je normální.'},
  banner: {stale: 'Údaje jsou zastaralé. Naposledy platily v', unknown: 'Stav není znám. Údaje naposledy platily v', connecting: 'Připojuje se k serveru', loading: 'Načítá se'},
  states: {on_call: 'hovoří', on_call_in: 'hovoří (příchozí)', on_call_out: 'hovoří (odchozí)', monitoring: 'naslouchá', consulting: 'konzultuje', ringing: 'zvoní', paused: 'pauza', partially_paused: 'částečná pauza', available: 'volný', implicit: 'bez přihlášení', offline: 'odhlášen', unknown: 'neznámo'},
  needsLook: 'Stojí za pozornost', nobody: 'Žádní operátoři.', noCalls: 'Žádné hovory.', noMissed: 'Žádné zmeškané hovory.', nothing: 'nic',
  search: 'jméno, linka, číslo', allQueues: 'všechny fronty', noQueue: '(bez fronty)', queue: 'fronta',
  agentCount: {one: '{n} operátor', few: '{n} operátoři', many: '{n} operátora', other: '{n} operátorů'},
  today: 'dnes', noEvent: 'bez události', page: 'strana', next: 'Další', previous: 'Předchozí',
  statuses: {new: 'nový', ringing: 'zvoní', talking: 'hovor', waiting: 'čeká', ended: 'ukončen', stale: 'bez konce'},
  outcomes: {answered: 'přijat', missed: 'zmeškán', no_answer: 'bez odpovědi', busy: 'obsazeno', rejected: 'odmítnut', unreachable: 'nedostupný', failed: 'selhal', unknown: 'neznámo'},
  qualities: {exact: 'přesně', estimated: 'odhad', partial: 'neúplné'},
  directions: {incoming: 'příchozí', outgoing: 'odchozí', incoming_local: 'interní', outgoing_local: 'interní', barge: 'náslech', none: 'směr neznámý'},
  results: {completed: 'dokončeno', transferred: 'předáno', no_answer: 'nezvedl', busy: 'obsazeno', rejected: 'odmítl', unreachable: 'nedostupný', answered_elsewhere: 'vzal jiný', cancelled: 'zrušeno', failed: 'selhalo', timeout: 'bez konce', open: 'trvá'},
  kinds: {attended: 'přepojení s konzultací', cancelled: 'konzultace zrušena', blind_inferred: 'předání (odvozeno)', handover_inferred: 'převzetí (odvozeno)'},
  confidence: {high: 'jisté', medium: 'asi', low: 'možná'},
  live: 'živé', ended: 'ukončené', notCalledBack: 'nezavoláno zpět', calledBack: 'zavoláno zpět', every: 'vše', outcome: 'výsledek', quality: 'jistota',
  newAbove: {one: '{n} nový nahoře, stiskněte N', few: '{n} nové nahoře, stiskněte N', many: '{n} nového nahoře, stiskněte N', other: '{n} nových nahoře, stiskněte N'}, older: 'Starší',
  start: 'začátek', who: 'kdo', what: 'co', length: 'délka', wait: 'čekal', talk: 'hovor', consult: 'konzultace', ring: 'zvonění', revision: 'verze',
  caller: 'volající', waiting: 'čeká', withWhom: 'mluví s', showInferred: 'ukázat odvozené', inferred: 'odvozeno', reported: 'hlášeno', drawn: 'nakresleno', printed: 'v dokumentu',
  effects: {opened: 'začal hovor', rang: 'zvoní', parallel: 'další přístroj', answered: 'přijal', left: 'skončil', ended: 'konec hovoru', transferred: 'předal', cancelled: 'konec konzultace', cdr: 'CDR', filled: 'doplnění', none: 'nic'},
  anomaly: {no_new_call: 'bez NewCall', answered_without_ring: 'přijat bez zvonění', ring_after_answer: 'zvonění po přijetí', hangup_without_leg: 'zavěsila neznámá linka', unknown_event: 'neznámá událost', unknown_reason: 'neznámý důvod', clock_skew: 'nesouhlasí hodiny', end_inferred: 'konec odvozen', reopened: 'znovu otevřen', late_event: 'pozdní událost'},
  events: 'Události', event: 'událost', at: 'čas', line: 'linka', effect: 'účinek', note: 'proč', back: 'Zpět', legs: 'Účastníci', zoomIn: 'Přiblížit', zoomOut: 'Oddálit', earlier: 'Dříve', later: 'Později', copyLink: 'Kopírovat odkaz', startUnknown: 'začátek neznámý', endUnknown: 'konec neznámý', anomalies: 'zvláštnosti', transfers: 'předání',
  presence: 'přihlášení', pauses: 'pauzy', callsLane: 'hovory', login: 'přihlášen', missedRings: 'zmeškaná zvonění', answered: 'přijaté', answeredOut: 'spojené odchozí', noPresence: 'Do front se nepřihlašuje.', noEvents: 'Události už nejsou k dispozici.', sumsEqual: 'součty sedí', sumsDiffer: 'součty nesedí, nakresleno', callsPerQuarter: 'hovory za 15 min',
  loggedIn: 'přihlášení', free: 'volní', talking: 'hovoří', paused: 'v pauze', seenWaiting: 'čeká (hlášeno)', longest: 'nejdéle', missedCount: 'zmeškané', within: 'do {n} s', meanWait: 'průměrné čekání', lastHour: 'poslední hodina', unsure: 'odhady', formula: 'Jak se to počítá',
  tries: {one: '{n} pokus', few: '{n} pokusy', many: '{n} pokusu', other: '{n} pokusů'}, number: 'číslo', lastTry: 'naposledy', attempts: 'pokusy', waitingNow: 'čeká', withoutNumber: 'bez čísla', by: 'kdo', lost: 'ztracen po hovoru',
  broken: 'Nelze nakreslit', gone: 'Tento záznam už tu není.', loadFailed: 'Nepodařilo se načíst.', help: 'Klávesy: 1–4 pohledy, / hledat, P pozastavit, N nové, ←→ události, WASD měřítko',
  skip: 'Přejít k obsahu', per: 'za', min: 'min', definitions: {
    logged: 'operátoři přihlášení do fronty podle událostí; statické členy PBX nehlásí, a nejsou započteni',
    free: 'z nich přihlášení, bez pauzy v této frontě a bez hovoru', talking: 'z nich ti, kdo hovoří, v kterékoli frontě', paused: 'z nich ti, kdo mají v této frontě pauzu',
    waiting: 'příchozí hovory fronty ve stavu nový, zvoní nebo čeká; o kterých PBX neřekla, ty započteny nejsou', longest_since: 'začátek toho z nich, který začal první',
    answered: 'dnes začaté příchozí hovory, které někdo přijal', missed: 'dnes začaté příchozí hovory, které skončily nepřijaté',
    within: 'podíl přijatých do cílové doby ze všech přijatých a zmeškaných; otevřené hovory se nepočítají', wait_s: 'průměrné čekání přijatých, u nichž je znám začátek',
    estimated: 'z přijatých a zmeškaných ty, v nichž je něco odvozeno', last_hour: 'příchozí hovory za každých deset minut poslední hodiny: přijaté a nepřijaté'},
};

const EN = {
  title: 'Board', agents: 'Agents', queues: 'Queues', calls: 'Calls', missed: 'Missed', wall: 'Wall', language: 'Česky', languageCode: 'cs',
  theme: 'Theme', themes: {auto: 'system', light: 'light', dark: 'dark', contrast: 'high contrast'},
  pause: 'Pause', resume: 'Resume', held: {one: '{n} change waits', other: '{n} changes wait'},
  feed: {connecting: 'connecting', loading: 'loading', live: 'live', stale: 'stale', unknown: 'unknown'},
  clockFrame: 'age', clockKafka: 'Kafka', clockEvent: 'event', never: '–', clockHints: {frame: 'How old the picture on this page is. Above 5 s it turns grey.', kafka: 'When the board last knew that it had read everything. Above 10 s it turns grey.', event: 'How old the last event of the PBX is. Silence is normal.'},
  banner: {stale: 'The picture is stale. Last true at:', unknown: 'The state is unknown. Last true at:', connecting: 'Connecting to the server', loading: 'Loading'},
  states: {on_call: 'on a call', on_call_in: 'on a call (in)', on_call_out: 'on a call (out)', monitoring: 'monitoring', consulting: 'consulting', ringing: 'ringing', paused: 'paused', partially_paused: 'partly paused', available: 'available', implicit: 'never logs in', offline: 'offline', unknown: 'unknown'},
  needsLook: 'Needs a look', nobody: 'No agents.', noCalls: 'No calls.', noMissed: 'No missed callers.', nothing: 'nothing',
  search: 'name, line, number', allQueues: 'all queues', noQueue: '(no queue)', queue: 'queue',
  agentCount: {one: '{n} agent', other: '{n} agents'},
  today: 'today', noEvent: 'no event for', page: 'page', next: 'Next', previous: 'Previous',
  statuses: {new: 'new', ringing: 'ringing', talking: 'talking', waiting: 'waiting', ended: 'ended', stale: 'no end'},
  outcomes: {answered: 'answered', missed: 'missed', no_answer: 'no answer', busy: 'busy', rejected: 'rejected', unreachable: 'unreachable', failed: 'failed', unknown: 'unknown'},
  qualities: {exact: 'exact', estimated: 'estimated', partial: 'partial'},
  directions: {incoming: 'incoming', outgoing: 'outgoing', incoming_local: 'internal', outgoing_local: 'internal', barge: 'barge', none: 'direction unknown'},
  results: {completed: 'completed', transferred: 'transferred', no_answer: 'no answer', busy: 'busy', rejected: 'rejected', unreachable: 'unreachable', answered_elsewhere: 'answered elsewhere', cancelled: 'cancelled', failed: 'failed', timeout: 'no end', open: 'goes on'},
  kinds: {attended: 'attended transfer', cancelled: 'consultation cancelled', blind_inferred: 'transfer (inferred)', handover_inferred: 'hand-over (inferred)'},
  confidence: {high: 'sure', medium: 'likely', low: 'maybe'},
  live: 'live', ended: 'ended', notCalledBack: 'not called back', calledBack: 'called back', every: 'all', outcome: 'outcome', quality: 'certainty',
  newAbove: {one: '{n} new above, press N', other: '{n} new above, press N'}, older: 'Older',
  start: 'start', who: 'who', what: 'what', length: 'length', wait: 'waited', talk: 'talk', consult: 'consult', ring: 'ring', revision: 'revision',
  caller: 'caller', waiting: 'waiting', withWhom: 'with', showInferred: 'show inferred', inferred: 'inferred', reported: 'reported', drawn: 'drawn', printed: 'in the document',
  effects: {opened: 'opened', rang: 'rang', parallel: 'another device', answered: 'answered', left: 'left', ended: 'ended', transferred: 'transferred', cancelled: 'cancelled', cdr: 'CDR', filled: 'details', none: 'nothing'},
  anomaly: {no_new_call: 'no NewCall', answered_without_ring: 'answered without a ring', ring_after_answer: 'rang after the answer', hangup_without_leg: 'hangup of an unknown line', unknown_event: 'unknown event', unknown_reason: 'unknown reason', clock_skew: 'clocks differ', end_inferred: 'end inferred', reopened: 'reopened', late_event: 'late event'},
  events: 'Events', event: 'event', at: 'time', line: 'line', effect: 'effect', note: 'why', back: 'Back', legs: 'Legs', zoomIn: 'Zoom in', zoomOut: 'Zoom out', earlier: 'Earlier', later: 'Later', copyLink: 'Copy link', startUnknown: 'start unknown', endUnknown: 'end unknown', anomalies: 'anomalies', transfers: 'transfers',
  presence: 'presence', pauses: 'pauses', callsLane: 'calls', login: 'logged in', missedRings: 'missed rings', answered: 'answered', answeredOut: 'outgoing', noPresence: 'Never logs in.', noEvents: 'The events of this day are missing.', sumsEqual: 'sums agree', sumsDiffer: 'sums differ, drawn', callsPerQuarter: 'calls per 15 min',
  loggedIn: 'logged in', free: 'free', talking: 'talking', paused: 'paused', seenWaiting: 'seen waiting', longest: 'longest', missedCount: 'missed', within: 'within {n} s', meanWait: 'mean wait', lastHour: 'last hour', unsure: 'estimates', formula: 'How it is computed',
  tries: {one: '{n} try', other: '{n} tries'}, number: 'number', lastTry: 'last try', attempts: 'tries', waitingNow: 'waiting', withoutNumber: 'no number', by: 'by', lost: 'lost after a talk',
  broken: 'Cannot be drawn', gone: 'This record is no longer here.', loadFailed: 'Could not be loaded.', help: 'Keys: 1–4 views, / search, P pause, N new, ←→ events, WASD zoom',
  skip: 'Skip to content', per: 'per', min: 'min', definitions: {
    logged: 'agents logged in to the queue, by agent events; the PBX reports no static members, and they are not counted',
    free: 'of these, logged in, not paused in this queue, and without a call', talking: 'of these, with a call, in whatever queue', paused: 'of these, paused in this queue',
    waiting: 'incoming calls of this queue with status new, ringing or waiting; callers that the PBX has not reported are not counted', longest_since: 'start of the one of these that began first',
    answered: 'incoming calls begun today that somebody answered', missed: 'incoming calls begun today that ended unanswered',
    within: 'share answered within the target time, of all answered and missed ones; open calls are left out', wait_s: 'mean wait of the answered ones whose start is known',
    estimated: 'of the answered and missed ones, those with anything inferred', last_hour: 'incoming calls in each ten minutes of the last hour: answered, and not'},
};

export const CATALOGUES = {cs: CS, en: EN};

const saved = (() => { try { return localStorage.getItem('language'); } catch { return null; } })();
let language = saved in CATALOGUES ? saved : navigator.language?.startsWith('cs') ? 'cs' : 'en';
let redraw = () => {};

export const currentLanguage = () => language;
/** A word by its path: `t('states.ringing')`; a value that no catalogue knows is shown as it is. */
export function t(path, values) {
  const found = path.split('.').reduce((words, name) => words?.[name], CATALOGUES[language]);
  let text = typeof found === 'string' ? found : path.slice(path.indexOf('.') + 1);
  for (const [name, value] of Object.entries(values ?? {})) text = text.replace(`{${name}}`, value);
  return text;
}
/** A word with a number, in the plural form of the language. */
export function plural(path, n) {
  const forms = CATALOGUES[language][path];
  return (forms[new Intl.PluralRules(language).select(n)] ?? forms.other).replace('{n}', n);
}
// Making one takes a thousand times as long as comparing.
const collators = Object.fromEntries(Object.keys(CATALOGUES).map(name => [name, new Intl.Collator(name, {numeric: true})]));
export const collate = (a, b) => collators[language].compare(a, b);
/** A share in the notation of the language; null is a dash. */
export const percent = share => (share === null || share === undefined ? '–' : new Intl.NumberFormat(language, {style: 'percent'}).format(share));

export function useLanguage() {
  const [, set] = useState(0);
  redraw = () => set(n => n + 1);
  // Only when it changes: any write of `lang`, also of the same, styles and lays out the whole page anew.
  useLayoutEffect(() => {
    document.documentElement.lang = language;
    document.title = t('title');
  }, [language]);
}
export function setLanguage(next) {
  language = next;
  try { localStorage.setItem('language', next); } catch { /* a private window */ }
  redraw();
}
