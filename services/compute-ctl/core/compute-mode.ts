/** What a compute is: it writes, it follows the one that writes, or it stays at one position of history. */
import { StorageError } from '#shared/core/errors.js';
import { parseLsn, type Lsn } from '#shared/core/lsn.js';

export type ComputeMode =
  { readonly kind: 'primary' } | { readonly kind: 'replica' } | { readonly kind: 'static'; readonly lsn: Lsn };

/** `"Primary"`, `"Replica"` or `{ "Static": "0/16F9A00" }`, as in Neon's specs. Throws StorageError `invalid`. */
export function parseComputeMode(mode: unknown): ComputeMode {
  if (mode === 'Primary') return { kind: 'primary' };
  if (mode === 'Replica') return { kind: 'replica' };
  const lsn = typeof mode === 'object' && mode !== null ? (mode as Record<string, unknown>)['Static'] : undefined;
  if (typeof lsn === 'string') return { kind: 'static', lsn: parseLsn(lsn) };
  throw new StorageError(
    'invalid',
    `the spec has the mode ${JSON.stringify(mode)}; use "Primary", "Replica" or {"Static": "<LSN>"}`,
  );
}

/** libpq connection string by which a replica streams: the first safekeeper that takes the connection is used, and the next if it goes. */
export function primaryConninfo(options: {
  readonly safekeepers: readonly string[];
  readonly tenantId: string;
  readonly timelineId: string;
  readonly name: string;
}): string {
  const hosts = options.safekeepers.map((addr) => addr.slice(0, addr.lastIndexOf(':')).replace(/^\[|\]$/g, ''));
  const ports = options.safekeepers.map((addr) => addr.slice(addr.lastIndexOf(':') + 1));
  const quote = (text: string): string => `'${text.replace(/\\/g, '\\\\').replace(/'/g, "\\'")}'`;
  return [
    `host=${quote(hosts.join(','))}`,
    `port=${quote(ports.join(','))}`,
    'user=replica',
    'sslmode=disable',
    'connect_timeout=5',
    `application_name=${quote(options.name)}`,
    `options=${quote(`-c tenant_id=${options.tenantId} -c timeline_id=${options.timelineId}`)}`,
  ].join(' ');
}
