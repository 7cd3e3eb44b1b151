/**
 * From which safekeeper a timeline's WAL is received: pure, all times are given. The shell tells it what it hears from the broker and
 * from its connection, asks `decide` on every event and once a second, and does what it says.
 *
 * Rules: a candidate that was silent for laggingWalTimeoutMs is forgotten. One is eligible that knows a commit position, has an
 * address and is not in back-off. The best has the highest commit position (own availability zone first among equals). Connect when
 * nobody is connected; switch when
 *   silent     the connection gave no message for connectTimeoutMs;
 *   far ahead  the best is maxLsnWalLagBytes or more ahead of what the connection has shown;
 *   zone       the best is not behind, is in our availability zone, and the connection is not;
 *   stalled    no WAL came for laggingWalTimeoutMs although the best, or the connected one itself, has WAL that we lack.
 */
import type { Lsn } from '#shared/core/lsn.js';
import { INVALID_LSN, lsnMax } from '#shared/core/lsn.js';

export interface PolicyOptions {
  readonly connectTimeoutMs: number;
  readonly laggingWalTimeoutMs: number;
  readonly maxLsnWalLagBytes: number;
  readonly availabilityZone: string;
}

export const POLICY_DEFAULTS: PolicyOptions = {
  connectTimeoutMs: 10_000,
  laggingWalTimeoutMs: 10_000,
  maxLsnWalLagBytes: 1 << 30,
  availabilityZone: '',
};

const BACKOFF_FIRST_MS = 100;
const BACKOFF_FACTOR = 1.5;
const BACKOFF_MAX_MS = 15_000;
const DISCOVERY_FIRST_MS = 1_000;
const DISCOVERY_MAX_MS = 30_000;

/** What the broker says about one safekeeper of the timeline. */
export interface SafekeeperState {
  readonly safekeeperId: string;
  readonly commitLsn: Lsn;
  readonly grpcAddr: string;
  readonly availabilityZone: string;
}

export type SwitchReason = 'silent' | 'far-ahead' | 'zone' | 'stalled';

export type Decision =
  | { readonly kind: 'keep' }
  | { readonly kind: 'connect'; readonly to: SafekeeperState; readonly reason: 'first' | SwitchReason }
  /** Give the connection up and try anew; there is nobody better now. */
  | { readonly kind: 'disconnect'; readonly reason: 'silent' | 'stalled' };

interface Candidate {
  state: SafekeeperState;
  updatedMs: number;
}

interface Connection {
  readonly safekeeperId: string;
  readonly availabilityZone: string;
  /** Highest position that the safekeeper said it can send. */
  availableLsn: Lsn;
  lastMessageMs: number;
  /** Since when there is WAL that we lack while none comes; null = no such time. */
  missingSinceMs: number | null;
}

interface Retry {
  failureCount: number;
  notBeforeMs: number;
}

export class ReceiverPolicy {
  readonly #options: PolicyOptions;
  readonly #candidates = new Map<string, Candidate>();
  readonly #retries = new Map<string, Retry>();
  #connection: Connection | null = null;
  #discoveryDelayMs = DISCOVERY_FIRST_MS;
  #lastDiscoveryMs = -Infinity;

  constructor(options: PolicyOptions) {
    this.#options = options;
  }

  get candidateCount(): number {
    return this.#candidates.size;
  }

  noteInfo(state: SafekeeperState, nowMs: number): void {
    this.#candidates.set(state.safekeeperId, { state, updatedMs: nowMs });
    const connection = this.#connection;
    if (connection?.safekeeperId === state.safekeeperId) {
      connection.availableLsn = lsnMax(connection.availableLsn, state.commitLsn);
    }
  }

  /** A connection attempt begins; it counts as a failure until its first message. */
  noteConnecting(to: SafekeeperState, nowMs: number): void {
    const retry = this.#retries.get(to.safekeeperId) ?? { failureCount: 0, notBeforeMs: 0 };
    const delayMs = Math.min(BACKOFF_FIRST_MS * BACKOFF_FACTOR ** retry.failureCount, BACKOFF_MAX_MS);
    this.#retries.set(to.safekeeperId, { failureCount: retry.failureCount + 1, notBeforeMs: nowMs + delayMs });
    this.#connection = {
      safekeeperId: to.safekeeperId,
      availabilityZone: to.availabilityZone,
      availableLsn: to.commitLsn,
      lastMessageMs: nowMs,
      missingSinceMs: null,
    };
  }

  /** WAL or a keepalive came. */
  noteMessage(message: { readonly availableLsn: Lsn; readonly hasWal: boolean }, nowMs: number): void {
    const connection = this.#connection;
    if (connection === null) return;
    this.#retries.delete(connection.safekeeperId);
    this.#discoveryDelayMs = DISCOVERY_FIRST_MS;
    connection.lastMessageMs = nowMs;
    connection.availableLsn = lsnMax(connection.availableLsn, message.availableLsn);
    if (message.hasWal) connection.missingSinceMs = null;
  }

  noteDisconnected(): void {
    this.#connection = null;
  }

  decide(lastRecordLsn: Lsn, nowMs: number): Decision {
    this.#forgetSilent(nowMs);
    const connection = this.#connection;
    const best = this.#best(nowMs, connection?.safekeeperId);
    if (connection === null) return best === null ? { kind: 'keep' } : { kind: 'connect', to: best, reason: 'first' };
    if (nowMs - connection.lastMessageMs >= this.#options.connectTimeoutMs) {
      return best === null ? { kind: 'disconnect', reason: 'silent' } : { kind: 'connect', to: best, reason: 'silent' };
    }
    return this.#compare(connection, best, lastRecordLsn, nowMs);
  }

  /**
   * Whether to ask all safekeepers of the timeline to make themselves known; idle ones say nothing by themselves. `urgent`: a reader
   * waits; `idle`: it would be good to know, so ever more rarely.
   */
  discoveryDue(need: 'none' | 'idle' | 'urgent', nowMs: number): boolean {
    if (need === 'none' || this.#connection !== null) return false;
    const sinceMs = nowMs - this.#lastDiscoveryMs;
    if (sinceMs < (need === 'urgent' ? DISCOVERY_FIRST_MS : this.#discoveryDelayMs)) return false;
    this.#discoveryDelayMs = Math.min(this.#discoveryDelayMs * (sinceMs === Infinity ? 1 : 2), DISCOVERY_MAX_MS);
    this.#lastDiscoveryMs = nowMs;
    return true;
  }

  #compare(connection: Connection, best: SafekeeperState | null, lastRecordLsn: Lsn, nowMs: number): Decision {
    const { maxLsnWalLagBytes, availabilityZone, laggingWalTimeoutMs } = this.#options;
    if (best !== null && best.commitLsn - connection.availableLsn >= maxLsnWalLagBytes) {
      return { kind: 'connect', to: best, reason: 'far-ahead' };
    }
    const zoneHelps = availabilityZone !== '' && connection.availabilityZone !== availabilityZone;
    if (zoneHelps && best?.availabilityZone === availabilityZone && best.commitLsn >= connection.availableLsn) {
      return { kind: 'connect', to: best, reason: 'zone' };
    }
    if (lsnMax(best?.commitLsn ?? INVALID_LSN, connection.availableLsn) <= lastRecordLsn) {
      connection.missingSinceMs = null;
      return { kind: 'keep' };
    }
    connection.missingSinceMs ??= nowMs;
    if (nowMs - connection.missingSinceMs < laggingWalTimeoutMs) return { kind: 'keep' };
    if (best === null || best.commitLsn <= lastRecordLsn) return { kind: 'disconnect', reason: 'stalled' };
    return { kind: 'connect', to: best, reason: 'stalled' };
  }

  #forgetSilent(nowMs: number): void {
    for (const [id, candidate] of this.#candidates) {
      if (nowMs - candidate.updatedMs < this.#options.laggingWalTimeoutMs) continue;
      this.#candidates.delete(id);
      if (this.#connection?.safekeeperId !== id) this.#retries.delete(id);
    }
  }

  /** Best eligible candidate other than the connected one. */
  #best(nowMs: number, connectedId: string | undefined): SafekeeperState | null {
    let best: SafekeeperState | null = null;
    for (const [id, { state }] of this.#candidates) {
      if (id === connectedId || state.commitLsn === 0 || state.grpcAddr === '') continue;
      if (nowMs < (this.#retries.get(id)?.notBeforeMs ?? 0)) continue;
      if (best === null || this.#isBetter(state, best)) best = state;
    }
    return best;
  }

  #isBetter(a: SafekeeperState, b: SafekeeperState): boolean {
    if (a.commitLsn !== b.commitLsn) return a.commitLsn > b.commitLsn;
    const zone = this.#options.availabilityZone;
    const nearA = a.availabilityZone === zone;
    const nearB = b.availabilityZone === zone;
    if (nearA !== nearB) return nearA;
    return a.safekeeperId < b.safekeeperId;
  }
}
