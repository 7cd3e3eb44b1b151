/**
 * Logical messages that carry auxiliary files (resource manager 21), and replication origins (19).
 *
 *   message         u32 database, u8 transactional, pad, u64 length of the prefix with its zero, u64 length of the message,
 *                   then prefix and message
 *   origin set      u64 position in the origin's WAL, u16 origin, u8 also when it goes back
 *   origin drop     u16 origin
 */
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn } from '#shared/core/lsn.js';
import { MainDataReader } from '#shared/postgres/main-data-reader.js';
import { type WalRecord, XLR_RMGR_INFO_MASK } from '#shared/postgres/wal-record.js';
import { AUX_CONTENT_BYTES_MAX, AUX_PREFIX, isAuxPath } from '../aux-files.js';
import type { HeadState } from './head-state.js';

const LOGICAL_MESSAGE = 0x00;
const ORIGIN_SET = 0x00;
const ORIGIN_DROP = 0x10;
const AUX_PREFIX_BYTES = Buffer.from(AUX_PREFIX);

/**
 * Messages of other prefixes, and those that a session wrote (it has a database), are none of our business. One that names a path
 * which is not taken is left out with a warning: it is the compute's mistake and must not stop the timeline.
 */
export function ingestLogicalMessage(head: HeadState, record: WalRecord): void | Promise<void> {
  const reader = new MainDataReader(record);
  if ((record.info & XLR_RMGR_INFO_MASK) !== LOGICAL_MESSAGE) throw reader.corrupt('there is no such logical message');
  const database = reader.u32();
  const transactional = reader.u8() !== 0;
  reader.take(3);
  const prefixBytes = reader.u64();
  const messageBytes = reader.u64();
  const prefixAt = reader.take(prefixBytes);
  const messageAt = reader.take(messageBytes);
  if (database !== 0 || transactional) return;
  const prefix = Buffer.from(record.bytes.buffer, record.bytes.byteOffset + prefixAt, Math.max(0, prefixBytes - 1));
  if (!prefix.subarray(0, AUX_PREFIX_BYTES.length).equals(AUX_PREFIX_BYTES)) return;
  const path = prefix.subarray(AUX_PREFIX_BYTES.length).toString('utf8');
  if (!isAuxPath(path) || messageBytes > AUX_CONTENT_BYTES_MAX) {
    const fields = { path: path.slice(0, 100), bytes: messageBytes, lsn: formatLsn(record.startLsn) };
    head.log.warn(fields, 'left out an auxiliary file that is not taken');
    return;
  }
  const content = record.bytes.slice(messageAt, messageAt + messageBytes);
  return head.auxFiles.put(path, content, record.endLsn, record.startLsn);
}

export function ingestOrigin(head: HeadState, record: WalRecord): void {
  const reader = new MainDataReader(record);
  const operation = record.info & XLR_RMGR_INFO_MASK;
  if (operation === ORIGIN_SET) {
    const remoteLsn = reader.u64() as Lsn;
    const id = reader.u16();
    head.origins.advance(id, remoteLsn, record.endLsn, reader.u8() !== 0);
  } else if (operation === ORIGIN_DROP) {
    head.origins.drop(reader.u16(), record.endLsn);
  } else {
    throw reader.corrupt('there is no such record of a replication origin');
  }
}
