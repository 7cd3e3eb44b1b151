/** Tenant and timeline ids: 128 bits, written as 32 lower-case hex digits. */
import { StorageError } from './errors.js';

declare const tenantBrand: unique symbol;
declare const timelineBrand: unique symbol;
export type TenantId = string & { readonly [tenantBrand]: true };
export type TimelineId = string & { readonly [timelineBrand]: true };

export interface TenantTimelineId {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
}

const ID = /^[0-9a-f]{32}$/;

function parseId(kind: string, text: string): string {
  const id = text.trim().toLowerCase();
  if (!ID.test(id)) throw new StorageError('invalid', `"${text}" is not a ${kind} id; it must be 32 hex digits`);
  return id;
}

export function parseTenantId(text: string): TenantId {
  return parseId('tenant', text) as TenantId;
}

export function parseTimelineId(text: string): TimelineId {
  return parseId('timeline', text) as TimelineId;
}

/** From a message; a missing one is `invalid`. */
export function parseTtid(ttid: { tenantId: string; timelineId: string } | undefined): TenantTimelineId {
  if (ttid === undefined) throw new StorageError('invalid', 'the request names no timeline (ttid is required)');
  return { tenantId: parseTenantId(ttid.tenantId), timelineId: parseTimelineId(ttid.timelineId) };
}

/** Key for maps and log fields: "tenant/timeline". */
export function formatTtid(ttid: TenantTimelineId): string {
  return `${ttid.tenantId}/${ttid.timelineId}`;
}

/** Makes an id of 16 random bytes given by the caller (core has no randomness). */
export function idFromBytes(bytes: Uint8Array): string {
  if (bytes.length !== 16) throw new StorageError('invalid', `an id has 16 bytes, got ${bytes.length}`);
  return Buffer.from(bytes).toString('hex');
}
