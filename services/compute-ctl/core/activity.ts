/**
 * When a compute was last used, from what Postgres says of its sessions. Work that Postgres does for itself (autovacuum, checkpoints) and
 * our own connections are no use; a session that merely stays connected counts until its last statement ended.
 */

/** One look at the server. */
export interface ActivitySample {
  /** When it was taken, milliseconds since 1970. */
  readonly nowMs: number;
  /** Client sessions but ours that execute a statement or hold a transaction open. */
  readonly busySessions: number;
  /** When the idle ones among them became idle, the newest; null: there are none. */
  readonly idleSinceMs: number | null;
  /** Replicas and logical subscribers that read from us, but for the walproposer. */
  readonly walSenders: number;
  /** Workers that apply changes of subscriptions. */
  readonly subscriptionWorkers: number;
  /** Sessions that ever began on this server, less those that were ours: finds what came and went between two looks. */
  readonly sessionsBegun: number;
}

export interface Activity {
  readonly lastActiveMs: number | null;
  readonly sessionsBegun: number | null;
}

export const NO_ACTIVITY: Activity = { lastActiveMs: null, sessionsBegun: null };

export function noteActivity(before: Activity, sample: ActivitySample): Activity {
  const { nowMs, busySessions, idleSinceMs, walSenders, subscriptionWorkers, sessionsBegun } = sample;
  // A session that is ours may be counted late, never early: the number falls for a moment and comes back. A statistics reset lowers it.
  const known = before.sessionsBegun ?? sessionsBegun;
  const cameAndWent = sessionsBegun > known;
  const busy = busySessions + walSenders + subscriptionWorkers > 0 || cameAndWent;
  const seenMs = busy ? nowMs : idleSinceMs;
  const lastActiveMs = seenMs === null ? before.lastActiveMs : Math.max(seenMs, before.lastActiveMs ?? 0);
  const wasReset = sessionsBegun < known - RESET_MARGIN;
  return { lastActiveMs, sessionsBegun: wasReset ? sessionsBegun : Math.max(sessionsBegun, known) };
}

/** More than compute_ctl ever has connections under way at one time. */
const RESET_MARGIN = 50;
