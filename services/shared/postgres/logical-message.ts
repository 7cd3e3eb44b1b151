/**
 * Logical messages (resource manager 21): u32 database, u8 transactional, 3 bytes pad, u64 length of the prefix with its zero, u64 length
 * of the message, prefix, message.
 */
import type { Lsn } from '../core/lsn.js';
import { RM_LOGICALMSG } from './rmgr.js';
import { encodeRecord } from './wal-synthesis.js';

const HEADER_BYTES = 24;
const LOGICAL_MESSAGE = 0x00;

/** A record with a message that is not transactional and of no database: no session can write one like it. */
export function encodeLogicalMessage(message: {
  readonly prefix: string;
  readonly content: Uint8Array;
  readonly prevLsn: Lsn;
}): Uint8Array {
  const prefix = Buffer.from(`${message.prefix}\0`, 'utf8');
  const head = new Uint8Array(HEADER_BYTES);
  const view = new DataView(head.buffer);
  view.setBigUint64(8, BigInt(prefix.length), true);
  view.setBigUint64(16, BigInt(message.content.length), true);
  const mainData = Buffer.concat([head, prefix, message.content]);
  return encodeRecord({ rmid: RM_LOGICALMSG, info: LOGICAL_MESSAGE, prevLsn: message.prevLsn, mainData });
}
