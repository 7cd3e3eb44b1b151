/** The commands of the Postgres replication protocol that a safekeeper answers, and how a connection names its timeline. */
import { StorageError } from '#shared/core/errors.js';
import { parseTtid, type TenantTimelineId } from '#shared/core/ids.js';
import { parseLsn, type Lsn } from '#shared/core/lsn.js';

export type ReplicationCommand =
  | { readonly kind: 'identify-system' }
  | { readonly kind: 'timeline-status' }
  | { readonly kind: 'start'; readonly startLsn: Lsn }
  | { readonly kind: 'show'; readonly name: string }
  | { readonly kind: 'set' };

/** There is one: a timeline's WAL is one history, whichever compute wrote it. */
export const TIMELINE_NUMBER = 1;

const START =
  /^START_REPLICATION(?:\s+SLOT\s+(?:"[^"]+"|\w+))?(?:\s+PHYSICAL)?\s+([0-9A-F]{1,8}\/[0-9A-F]{1,8})(?:\s+TIMELINE\s+(\d+))?$/i;

/** Throws StorageError `invalid`, `not-found` (another timeline's number) or `unimplemented`. */
export function parseReplicationCommand(text: string): ReplicationCommand {
  const command = text.trim().replace(/;$/, '').trim();
  if (/^IDENTIFY_SYSTEM$/i.test(command)) return { kind: 'identify-system' };
  if (/^TIMELINE_STATUS$/i.test(command)) return { kind: 'timeline-status' };
  if (/^SET\s/i.test(command)) return { kind: 'set' };
  const show = /^SHOW\s+(\w+)$/i.exec(command);
  if (show !== null) return { kind: 'show', name: (show[1] ?? '').toLowerCase() };
  const start = START.exec(command);
  if (start !== null) {
    if (start[2] !== undefined && Number(start[2]) !== TIMELINE_NUMBER) {
      throw new StorageError('not-found', `there is no timeline ${start[2]} in this history, only ${TIMELINE_NUMBER}`);
    }
    return { kind: 'start', startLsn: parseLsn((start[1] ?? '').toUpperCase()) };
  }
  if (/^TIMELINE_HISTORY\s+\d+$/i.test(command)) {
    throw new StorageError('not-found', 'there is no history file: all WAL is of timeline 1');
  }
  throw new StorageError(
    'unimplemented',
    `a safekeeper does not know the command ${JSON.stringify(command.slice(0, 60))}`,
  );
}

/**
 * The timeline from the start-up packet's `options`, such as `-c tenant_id=… -c timeline_id=…` or, in the older form,
 * `-c ztenantid=… -c ztimelineid=…`. Throws StorageError `invalid` when one of them is missing or malformed.
 */
export function timelineOfOptions(options: string): TenantTimelineId {
  const values = new Map<string, string>();
  for (const [, name = '', value = ''] of options.matchAll(/(?:^|\s)(?:-c\s*|--)?(\w+)=(\S+)/g))
    values.set(name, value);
  const tenantId = values.get('tenant_id') ?? values.get('ztenantid');
  const timelineId = values.get('timeline_id') ?? values.get('ztimelineid');
  if (tenantId === undefined || timelineId === undefined) {
    throw new StorageError(
      'invalid',
      'name the timeline in the connection’s options: "-c tenant_id=… -c timeline_id=…" (or ztenantid, ztimelineid)',
    );
  }
  return parseTtid({ tenantId, timelineId });
}
