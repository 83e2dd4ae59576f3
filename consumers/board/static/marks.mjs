// States as colour, shape and word: colour never stands alone.
import {html} from './base.mjs';
import {t} from './words.mjs';

const STATES = {
  on_call: '▶', on_call_in: '▶', on_call_out: '▶', monitoring: '◉', consulting: '◆', ringing: '◐', paused: '‖', partially_paused: '◧', available: '●', implicit: '◍', offline: '○', unknown: '?',
};
export const STATE_ORDER = ['on_call', 'ringing', 'consulting', 'monitoring', 'available', 'implicit', 'paused', 'partially_paused', 'offline', 'unknown'];
export const RESULTS = {completed: '✓', transferred: '→', rejected: '✕', no_answer: '∅', busy: '⊘', answered_elsewhere: '⤳', unreachable: '⌀', cancelled: '⊖', failed: '!', timeout: '?'};
export const OUTCOMES = {answered: '✓', missed: '∅', no_answer: '∅', busy: '⊘', rejected: '✕', unreachable: '⌀', failed: '!', unknown: '?'};
const DIRECTIONS = {incoming: '↓', outgoing: '↑', incoming_local: '⇄', outgoing_local: '⇄', barge: '◉'};
const QUALITIES = {exact: '', estimated: '~', partial: '⁇'};

/** A state that no version knew is shown as text, without a shape of its own. */
export const stateGlyph = state => STATES[state] ?? '?';
export const stateClass = state => (state in STATES ? `state-${state.startsWith('on_call') ? 'on_call' : state}` : 'state-unknown');

export const Direction = ({of}) => html`<span class="glyph" title=${t(`directions.${of ?? 'none'}`)} aria-label=${t(`directions.${of ?? 'none'}`)} role="img">${DIRECTIONS[of] ?? '·'}</span>`;

export const Quality = ({of}) => of === 'exact' ? null
  : html`<span class=${`quality quality-${of}`} title=${t(`qualities.${of}`)} role="img" aria-label=${t(`qualities.${of}`)}>${QUALITIES[of] ?? '?'}</span>`;

/** Names of data: hostile ones are text, cut by width, and keep their direction to themselves. */
export const Name = ({children, title}) => html`<bdi class="name" title=${title ?? children}>${children}</bdi>`;
