/** Times and durations as people write them. Pure: the present is given by the caller. */
import { StorageError } from '#shared/core/errors.js';

const UNIT_S: Readonly<Record<string, number>> = { ms: 0.001, s: 1, m: 60, min: 60, h: 3600, d: 86_400, w: 604_800 };
const UNIT_BYTES: Readonly<Record<string, number>> = {
  ...{ '': 1, b: 1, k: 2 ** 10, kb: 2 ** 10, kib: 2 ** 10, m: 2 ** 20, mb: 2 ** 20, mib: 2 ** 20 },
  ...{ g: 2 ** 30, gb: 2 ** 30, gib: 2 ** 30, t: 2 ** 40, tb: 2 ** 40, tib: 2 ** 40 },
};

/** Seconds of "90", "90s", "5m", "1.5h", "7d", "2w". Throws StorageError `invalid`. */
export function parseDurationS(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const unit = UNIT_S[(match?.[2] ?? '').toLowerCase() || 's'];
  if (!match || unit === undefined) {
    throw new StorageError('invalid', `"${text}" is no duration; write such as 30s, 5m, 12h, 7d`);
  }
  return Number(match[1]) * unit;
}

/** Bytes of "1048576", "64MB", "1GiB" (units of 1024). Throws StorageError `invalid`. */
export function parseBytes(text: string): number {
  const match = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text);
  const unit = UNIT_BYTES[(match?.[2] ?? '').toLowerCase()];
  if (!match || unit === undefined) {
    throw new StorageError('invalid', `"${text}" is no size; write such as 500MB or 1GB`);
  }
  return Math.round(Number(match[1]) * unit);
}

/**
 * Milliseconds since the Unix epoch of "2026-11-29T03:15:00Z", "2026-11-29 03:15:00" (UTC), "-5m" or "5m ago". Throws StorageError
 * `invalid`.
 */
export function parseTimeMs(text: string, nowMs: number): number {
  const trimmed = text.trim();
  const ago = /^(?:-\s*(.+)|(.+?)\s+ago)$/i.exec(trimmed);
  if (ago) return nowMs - parseDurationS(ago[1] ?? ago[2] ?? '') * 1000;
  const hasZone = /(?:z|[+-]\d\d:?\d\d|[+-]\d\d)$/i.test(trimmed.replace(/^\d{4}-\d\d-\d\d/, ''));
  const iso = trimmed.replace(' ', 'T').replace(/([+-]\d\d)$/, hasZone ? '$1:00' : '$1');
  const timeMs = /^\d{4}-\d\d-\d\d/.test(trimmed)
    ? Date.parse(hasZone ? iso : `${iso.includes('T') ? iso : `${iso}T00:00`}Z`)
    : NaN;
  if (Number.isNaN(timeMs)) {
    throw new StorageError('invalid', `"${text}" is no time; write such as "2026-11-29 03:15:00", or "5m ago"`);
  }
  return timeMs;
}
