// The latest rows, by name. A component subscribes to one row, or to the names of a collection; nothing else is drawn anew.
import {html, useLayoutEffect, useState} from './base.mjs';

const COLLECTIONS = ['calls', 'agents', 'queues', 'missed'];
const ENDED_KEPT = 500;
const ALL = '';

export class Store {
  constructor() {
    this.rows = Object.fromEntries(COLLECTIONS.map(name => [name, new Map()]));
    this.listeners = Object.fromEntries(COLLECTIONS.map(name => [name, new Map()]));
    this.meta = {timeZone: 'Europe/Prague', targetS: 20, date: null, boot: null, broken: []};
    this.paused = false;
    this.held = 0;
    this.waiting = null;
    this.changed = Object.fromEntries(COLLECTIONS.map(name => [name, new Set()]));
  }

  /** Replace everything: rows that are not in the snapshot are gone. */
  snapshot(body) {
    if (this.paused) { this.hold('snapshot', body); return; }
    this.meta = {timeZone: body.time_zone, targetS: body.target_s, date: body.date, boot: body.boot, broken: body.broken};
    for (const name of COLLECTIONS) {
      const gone = [...this.rows[name].keys()].filter(key => !(key in body[name]));
      this.apply(name, {...body[name], ...Object.fromEntries(gone.map(key => [key, null]))}, true);
    }
    this.notify();
  }

  change(body) {
    if (this.paused) { this.hold('change', body); return; }
    this.meta.date = body.date;
    for (const name of COLLECTIONS) if (body[name]) this.apply(name, body[name], false);
    this.notify();
  }

  /** Take rows; a row of a lower revision than the one held is older news. */
  apply(name, rows, replaces) {
    const held = this.rows[name];
    for (const [key, row] of Object.entries(rows)) {
      const old = held.get(key);
      if (!replaces && row && old && row.revision !== undefined && row.revision < old.revision) continue;
      if (row === null) { if (!held.delete(key)) continue; } else held.set(key, row);
      this.changed[name].add(key);
      if (!row || !old) this.changed[name].add(ALL);
    }
    if (name === 'calls') this.forget();
  }

  /** Keep all open calls and the newest ended ones; older ones are asked for page by page. */
  forget() {
    const ended = [...this.rows.calls].filter(([, row]) => !isOpen(row));
    if (ended.length <= ENDED_KEPT * 1.2) return;
    ended.sort((a, b) => compare(startOf(b[1]), startOf(a[1])));
    for (const [key] of ended.slice(ENDED_KEPT)) {
      this.rows.calls.delete(key);
      this.changed.calls.add(key).add(ALL);
    }
  }

  /** While paused, keep what came: of each row the last. */
  hold(kind, body) {
    this.held += 1;
    if (kind === 'snapshot' || !this.waiting) { this.waiting = {kind, body: {...body}}; return; }
    const held = this.waiting.body;
    held.date = body.date;
    for (const name of COLLECTIONS) if (body[name]) held[name] = {...held[name], ...body[name]};
  }

  pause(paused) {
    this.paused = paused;
    this.held = 0;
    const waiting = this.waiting;
    this.waiting = null;
    if (!paused && waiting) this[waiting.kind](waiting.body);
  }

  notify() {
    for (const name of COLLECTIONS) {
      const keys = this.changed[name];
      this.changed[name] = new Set();
      if (!keys.size) continue;
      for (const key of keys) for (const call of this.listeners[name].get(key) ?? []) call();
      for (const call of this.listeners[name].get('*') ?? []) call();
    }
  }

  listen(name, key, call) {
    const of = this.listeners[name];
    if (!of.has(key)) of.set(key, new Set());
    of.get(key).add(call);
    return () => {
      of.get(key).delete(call);
      if (!of.get(key).size) of.delete(key);
    };
  }
}

export const store = new Store();

function useListener(name, key, read) {
  const [, redraw] = useState(0);
  useLayoutEffect(() => store.listen(name, key, () => redraw(n => n + 1)), [name, key]);
  return read();
}

/** One row; undefined when it is gone. */
export const useRow = (name, key) => useListener(name, key, () => store.rows[name].get(key));
/** All rows, on every change: for lists that sort by what changes. */
export const useRows = name => useListener(name, '*', () => [...store.rows[name].values()]);
/** Names of the rows, on every change of membership; with *always* on every change. */
export const useNames = (name, always = false) => useListener(name, always ? '*' : ALL, () => [...store.rows[name].keys()]);

/** A component that draws its own row: its parent draws it anew only when *inputs* (a text) differ. */
export function Same({of, inputs, ...rest}) {
  this.shouldComponentUpdate = next => next.inputs !== this.props.inputs;
  return html`<${of} ...${rest} />`;
}

export const isOpen = row => row.status !== 'ended' && row.status !== 'stale';
export const startOf = row => row.started_at ?? row.updated_at;
export const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
export const nameOf = row => `${row.pbx}/${row.agent ?? row.call_id}`;
