// Times by the server's clock and in the PBX's time zone; one writer for all running timers.
import {html, useEffect, useLayoutEffect, useRef, useState} from './base.mjs';
import {store} from './store.mjs';

const WINDOW_MS = 60_000;

class ServerClock {
  constructor() { this.samples = []; }

  /** The smallest difference of a minute is the one with the least delay. */
  set(now) {
    const at = performance.now();
    const last = this.samples.at(-1);
    // After a sleep performance.now() may have stood still.
    if (last && at - last.at > 5000) this.samples = [];
    this.samples.push({at, offset: Date.parse(now) - at});
    this.samples = this.samples.filter(each => at - each.at < WINDOW_MS);
    this.offset = Math.max(...this.samples.map(each => each.offset));
  }

  now() { return this.offset === undefined ? null : performance.now() + this.offset; }
}

export const serverClock = new ServerClock();

/** `4:12`, `1:02:03`, `3 d 04:00`. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return '–';
  const whole = Math.max(0, Math.floor(seconds + 1e-6));
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = n => String(n).padStart(2, '0');
  if (h >= 48) return `${Math.floor(h / 24)} d ${two(h % 24)}:${two(m)}`;
  return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** How old something is, coarser the older: `4 s`, `7 min`, `3 h`. */
export function age(seconds) {
  if (seconds === null || seconds === undefined) return '–';
  const whole = Math.max(0, Math.floor(seconds));
  return whole < 100 ? `${whole} s` : whole < 6000 ? `${Math.floor(whole / 60)} min` : `${Math.floor(whole / 3600)} h`;
}

const formats = new Map();
function format(options) {
  const key = JSON.stringify(options) + store.meta.timeZone;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat('cs-CZ', {...options, timeZone: store.meta.timeZone, hourCycle: 'h23'}));
  return formats.get(key);
}

/** Wall time of the PBX's zone: `14:03:11`. */
export const clock = at => (at ? format({hour: '2-digit', minute: '2-digit', second: '2-digit'}).format(new Date(at)) : '–');
export const clockShort = at => (at ? format({hour: '2-digit', minute: '2-digit'}).format(new Date(at)) : '–');
/** With milliseconds, for the events of a call. */
export const clockExact = at => (at ? `${clock(at)}.${at.slice(20, 23)}` : '–');
export const day = at => format({day: 'numeric', month: 'numeric'}).format(new Date(at));
/** `2026-03-02` of the PBX's zone. */
export function dateOf(at) {
  const parts = Object.fromEntries(format({year: 'numeric', month: '2-digit', day: '2-digit'}).formatToParts(new Date(at)).map(each => [each.type, each.value]));
  return `${parts.year}-${parts.month}-${parts.day}`;
}
export const dayAndClock = at => (at ? (dateOf(at) === store.meta.date ? clock(at) : `${day(at)} ${clock(at)}`) : '–');

/** Most calls change nothing: a timer is written when its second is over. */
function write(element) {
  const now = serverClock.now();
  const seconds = now === null || !element.since ? null : Math.floor((now - element.since) / 1000);
  if (seconds === element.shown) return;
  element.shown = seconds;
  // Of an element's text a new node would be made each second, a thousand of them.
  if (element.firstChild) element.firstChild.data = duration(seconds);
  else element.textContent = duration(seconds);
  if (element.limit) element.classList.toggle('over', seconds !== null && seconds > element.limit);
}

let running = true;
/** Timers stand while the picture is not known to be true. */
export const runTimers = run => { running = run; };
setInterval(() => {
  if (!running || document.hidden) return;
  // Nothing here may ask for layout: after each write it would be computed anew, a thousand times. What is off screen has none.
  for (const element of document.querySelectorAll('.timer')) write(element);
}, 1000);

const SLOW_MS = 5000;
/** Draw anew every five seconds, for bars that grow. */
export function useSlowTick(running) {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!running) return undefined;
    const timer = setInterval(() => document.hidden || tick(n => n + 1), SLOW_MS);
    return () => clearInterval(timer);
  }, [running]);
}

/** A running timer; `limit` in seconds marks it. */
export function Timer({since, limit}) {
  const element = useRef();
  useLayoutEffect(() => {
    Object.assign(element.current, {since: Date.parse(since), limit, shown: undefined});
    element.current.classList.remove('over');
    write(element.current);
  }, [since, limit]);
  return html`<span class="timer" ref=${element}></span>`;
}
