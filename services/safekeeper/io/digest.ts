/** Hash of a range of a timeline's WAL, to compare safekeepers with each other. */
import { createHash } from 'node:crypto';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, lsn, lsnMin, type Lsn } from '#shared/core/lsn.js';
import type { Timeline } from './timeline.js';

const READ_BYTES = 1 << 20;

/** SHA-256 in hexadecimal of durable WAL. Throws `invalid` when it is not all here. */
export async function digestOf(timeline: Timeline, from: Lsn, until: Lsn): Promise<string> {
  await timeline.ensureResident();
  const { flushLsn } = timeline.view;
  if (from < timeline.readableFrom || from > until || until > flushLsn) {
    const range = `${formatLsn(timeline.readableFrom)} to ${formatLsn(flushLsn)}`;
    throw new StorageError('invalid', `the range ${formatLsn(from)} to ${formatLsn(until)} is not within ${range}`);
  }
  const hash = createHash('sha256');
  const reader = timeline.openReader();
  try {
    for (let at = from; at < until;) {
      const bytes = await reader.read(at, lsnMin(until, lsn(at + READ_BYTES)));
      hash.update(bytes);
      at = lsn(at + bytes.length);
    }
  } finally {
    await reader.close();
  }
  return hash.digest('hex');
}
