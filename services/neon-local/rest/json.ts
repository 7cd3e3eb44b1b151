/** Messages as the JSON of the REST interface: snake_case names, LSNs as Postgres prints them, other whole numbers as numbers. Pure. */
import { formatLsn, INVALID_LSN, lsnFromWire } from '#shared/core/lsn.js';

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function bigintJson(name: string, value: bigint): unknown {
  if (!/lsn$/i.test(name)) return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
  const lsn = lsnFromWire(value);
  return lsn === INVALID_LSN ? null : formatLsn(lsn);
}

export function toJson(value: unknown, name = ''): unknown {
  if (typeof value === 'bigint') return bigintJson(name, value);
  if (Array.isArray(value)) return value.map((item) => toJson(item, name));
  if (value === null || typeof value !== 'object') return value;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([key, item]) => [snake(key), toJson(item, key)]));
}
