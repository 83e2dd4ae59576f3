// The stream: own retry, resume, and the three clocks that say how fresh the picture is.
import {serverClock} from './time.mjs';
import {store} from './store.mjs';

const STALE_FRAME_S = 5;
const STALE_KAFKA_S = 10;
const UNKNOWN_S = 60;
const HIDDEN_S = 30;
const RETRY_S = [1, 15];

export class Feed {
  constructor() {
    this.listeners = new Set();
    this.lastId = null;
    this.source = null;
    this.frameAt = null;
    this.clocks = {kafka_age_s: null, event_age_s: null, ready: false};
    this.retries = 0;
    this.state = 'connecting';
    this.truthAt = null;
  }

  start() {
    this.open();
    setInterval(() => this.judge(), 500);
    document.addEventListener('visibilitychange', () => {
      clearTimeout(this.hiding);
      if (document.hidden) this.hiding = setTimeout(() => this.close(), HIDDEN_S * 1000);
      else if (!this.source) this.open();
    });
  }

  open() {
    clearTimeout(this.retrying);
    const since = this.lastId ? `?since=${encodeURIComponent(this.lastId)}` : '';
    const source = this.source = new EventSource(`/api/stream${since}`);
    this.openedAt = performance.now();
    const on = (event, take) => source.addEventListener(event, message => {
      if (source !== this.source) return;
      this.lastId = message.lastEventId || this.lastId;
      this.retries = 0;
      const body = JSON.parse(message.data);
      this.frameAt = performance.now();
      this.clocks = body;
      serverClock.set(body.now);
      take(body);
      this.judge();
    });
    on('snapshot', body => {
      // A wall reloads itself when the board was upgraded meanwhile.
      if (store.meta.boot && store.meta.boot !== body.boot && location.hash.startsWith('#/wall')) location.reload();
      store.snapshot(body);
    });
    on('change', body => store.change(body));
    on('heartbeat', () => {});
    source.onerror = () => { if (source === this.source) this.retry(); };
  }

  close() {
    this.source?.close();
    this.source = null;
    clearTimeout(this.retrying);
  }

  /** An EventSource that once got 503 is closed for ever: open a new one. */
  retry() {
    this.close();
    const [least, most] = RETRY_S;
    const wait = Math.min(most, least * 2 ** this.retries++) * (0.5 + Math.random() / 2);
    this.retrying = setTimeout(() => this.open(), wait * 1000);
    this.judge();
  }

  ages() {
    const frame = this.frameAt === null ? null : (performance.now() - this.frameAt) / 1000;
    const add = age => (age === null || frame === null ? null : age + frame);
    return {frame, kafka: add(this.clocks.kafka_age_s), event: add(this.clocks.event_age_s)};
  }

  judge() {
    const {frame, kafka} = this.ages();
    let state = 'live';
    if (frame === null) state = 'connecting';
    else if (!this.clocks.ready || kafka === null) state = frame > STALE_FRAME_S ? 'stale' : 'loading';
    else if (frame > UNKNOWN_S || kafka > UNKNOWN_S) state = 'unknown';
    else if (frame > STALE_FRAME_S || kafka > STALE_KAFKA_S) state = 'stale';
    if (state === 'live') this.truthAt = serverClock.now();
    // A stalled connection may hold minutes of old frames: leave it.
    const waited = (performance.now() - Math.max(this.openedAt ?? 0, this.frameAt ?? 0)) / 1000;
    if (this.source && waited > STALE_FRAME_S * 2) this.retry();
    const root = document.documentElement.dataset;
    if (root.feed !== state) root.feed = state;
    this.state = state;
    for (const call of this.listeners) call();
  }
}

export const feed = new Feed();
