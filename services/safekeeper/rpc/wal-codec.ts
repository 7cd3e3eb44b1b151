/**
 * Codecs of the two messages that carry WAL, by hand: the generated ones copy the bytes twice. Same bytes on the wire.
 *
 * A decoded append shares memory with the message it came in; whoever keeps it keeps that message.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import {
  ConsensusServiceService,
  ProposeRequest,
  WalServiceService,
  type AppendRequest,
  type StreamWalResponse,
} from '#gen/neon/safekeeper/v1/safekeeper.js';

const PROPOSE_APPEND_TAG = (4 << 3) | WireType.LengthDelimited;
const NO_BYTES = Buffer.alloc(0);

export function decodeProposeRequest(bytes: Buffer): ProposeRequest {
  if (bytes[0] !== PROPOSE_APPEND_TAG) return ProposeRequest.decode(bytes);
  const outer = new BinaryReader(bytes);
  outer.tag();
  const inner = outer.bytes();
  // Several fields in one message: not what our peers send, but allowed.
  if (outer.pos !== outer.len) return ProposeRequest.decode(bytes);
  return { message: { $case: 'append', value: decodeAppend(inner) } };
}

function decodeAppend(bytes: Uint8Array): AppendRequest {
  const out = { generation: 0, term: 0n, beginLsn: 0n, commitLsn: 0n, truncateLsn: 0n, walData: NO_BYTES as Buffer };
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field >= 1 && field <= 5 && wireType === WireType.Varint) {
      if (field === 1) out.generation = reader.uint32();
      else if (field === 2) out.term = big(reader.uint64());
      else if (field === 3) out.beginLsn = big(reader.uint64());
      else if (field === 4) out.commitLsn = big(reader.uint64());
      else out.truncateLsn = big(reader.uint64());
    } else if (field === 6 && wireType === WireType.LengthDelimited) {
      const data = reader.bytes();
      out.walData = Buffer.from(data.buffer as ArrayBuffer, data.byteOffset, data.length);
    } else {
      reader.skip(wireType, field);
    }
  }
  return out;
}

/** The library gives a text where bigint is missing. */
function big(value: bigint | string): bigint {
  return typeof value === 'bigint' ? value : BigInt(value);
}

export function encodeStreamWalResponse(message: StreamWalResponse): Buffer {
  const head = new BinaryWriter();
  if (message.startLsn !== 0n) head.uint32(8).uint64(message.startLsn);
  if (message.availableLsn !== 0n) head.uint32(16).uint64(message.availableLsn);
  const { walData } = message;
  if (walData.length > 0) head.uint32((3 << 3) | WireType.LengthDelimited).uint32(walData.length);
  const start = head.finish();
  const out = Buffer.allocUnsafe(start.length + walData.length);
  out.set(start);
  out.set(walData, start.length);
  return out;
}

export const FastConsensusService = {
  propose: { ...ConsensusServiceService.propose, requestDeserialize: decodeProposeRequest },
} as const;

export const FastWalService = {
  streamWal: { ...WalServiceService.streamWal, responseSerialize: encodeStreamWalResponse },
} as const;
