/**
 * Serialises messages to safekeepers. Appends carry nearly all bytes and go to every safekeeper: they are written by hand with one copy of
 * the WAL, and the last one is kept, since safekeepers in step are sent the very same.
 *
 *   ProposeRequest { append = 4 { generation = 1, term = 2, begin_lsn = 3, commit_lsn = 4, truncate_lsn = 5: varints; wal_data = 6 } }
 *
 * As everywhere in proto3, a field that is zero or empty is left out.
 */
import { ProposeRequest } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { AppendRequest, ProposerMessage } from '../core/messages.js';
import { proposerMessageToWire } from './consensus-codec.js';

const APPEND_TAG = 0x22;
const WAL_DATA_TAG = 0x32;
const NUMBER_FIELDS = ['generation', 'term', 'beginLsn', 'commitLsn', 'truncateLsn'] as const;

/** Bytes that a whole number below 2^53 takes as a varint. */
function varintBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) count += 1;
  return count;
}

function writeVarint(out: Buffer, at: number, value: number): number {
  let rest = value;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out[at++] = (rest % 128) | 0x80;
  out[at++] = rest;
  return at;
}

function encodeAppend(append: AppendRequest): Buffer {
  const { walData } = append;
  let body = walData.length === 0 ? 0 : 1 + varintBytes(walData.length) + walData.length;
  for (const field of NUMBER_FIELDS) if (append[field] !== 0) body += 1 + varintBytes(append[field]);
  const out = Buffer.allocUnsafe(1 + varintBytes(body) + body);
  out[0] = APPEND_TAG;
  let at = writeVarint(out, 1, body);
  for (const [index, field] of NUMBER_FIELDS.entries()) {
    if (append[field] === 0) continue;
    out[at] = (index + 1) << 3;
    at = writeVarint(out, at + 1, append[field]);
  }
  if (walData.length > 0) {
    out[at] = WAL_DATA_TAG;
    at = writeVarint(out, at + 1, walData.length);
    out.set(walData, at);
  }
  return out;
}

/** One for all connections of a proposer. */
export class ProposerEncoder {
  private last: AppendRequest | null = null;
  private lastBytes: Buffer = Buffer.alloc(0);

  encode(message: ProposerMessage): Buffer {
    if (message.kind !== 'append') return Buffer.from(ProposeRequest.encode(proposerMessageToWire(message)).finish());
    if (message.walData.length === 0) return encodeAppend(message);
    if (this.last === null || !isSame(this.last, message)) {
      this.lastBytes = encodeAppend(message);
      this.last = message;
    }
    return this.lastBytes;
  }
}

/** The very same piece of memory: WAL once written there never changes. */
function isSame(a: AppendRequest, b: AppendRequest): boolean {
  return (
    NUMBER_FIELDS.every((field) => a[field] === b[field]) &&
    a.walData.buffer === b.walData.buffer &&
    a.walData.byteOffset === b.walData.byteOffset &&
    a.walData.length === b.walData.length
  );
}
