/**
 * The control file of a timeline (`safekeeper.control`), little endian.
 *
 *   0   u32  magic 0x4B534E54 ("TNSK")
 *   4   u32  version 2; version 1 is read too
 *   8   u32  length of the body
 *   12  body
 *       16 tenant id, 16 timeline id
 *       u32 membership generation
 *       u32 count, then per member:     u64 node id, u32 length, address in UTF-8
 *       u32 count, then per new member: the same
 *       u64 term
 *       u32 count, then per history entry: u64 term, u64 lsn
 *       u32 PG_VERSION_NUM, u64 system identifier, u32 segment size, u64 creation time (ms since 1970)
 *       u64 timeline start, local start, commit, backup, peer horizon, remote consistent
 *       from version 2 on:
 *       u64 evicted (end of WAL that is in the object store alone; 0 = WAL is on disk)
 *       u32 count, then per partial object: u32 status (1 uploading, 2 uploaded, 3 deleting), u64 term, u64 flush, u64 commit
 *   12 + length  u32 CRC-32C of everything before
 *
 * The file is replaced as a whole; it is never changed in place.
 */
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId, type TenantTimelineId } from '#shared/core/ids.js';
import { INVALID_LSN, lsn, type Lsn } from '#shared/core/lsn.js';
import { checkTermHistory, type TermHistory } from '#shared/consensus/term-history.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { checkSegmentSize } from '#shared/postgres/wal-layout.js';
import type { ControlState, Member, PartialObject } from './acceptor-types.js';
import { ByteReader, ByteWriter } from './bytes.js';

export const CONTROL_FILE_NAME = 'safekeeper.control';
const MAGIC = 0x4b534e54;
const VERSION = 2;
const VERSION_MIN = 1;
const PARTIAL_STATUS = ['uploading', 'uploaded', 'deleting'] as const;
const PARTIAL_BYTES = 28;
const HEADER_BYTES = 12;
const CRC_BYTES = 4;

export function encodeControlFile(state: ControlState): Uint8Array {
  const body = new ByteWriter()
    .bytes(Buffer.from(state.ttid.tenantId, 'hex'))
    .bytes(Buffer.from(state.ttid.timelineId, 'hex'))
    .u32(state.membership.generation);
  for (const members of [state.membership.members, state.membership.newMembers]) {
    body.u32(members.length);
    for (const member of members) body.u64(member.nodeId).text(member.grpcAddr);
  }
  body.u64(state.term).u32(state.history.length);
  for (const entry of state.history) body.u64(entry.term).u64(entry.lsn);
  body.u32(state.pgVersion).big(state.systemId).u32(state.segSize).u64(state.createdAtMs);
  for (const position of positionsOf(state)) body.u64(position);
  body.u64(state.evictedLsn).u32(state.partials.length);
  for (const { status, term, flushLsn, commitLsn } of state.partials) {
    body.u32(PARTIAL_STATUS.indexOf(status) + 1);
    body.u64(term).u64(flushLsn).u64(commitLsn);
  }
  const bytes = body.finish();
  const file = new ByteWriter().u32(MAGIC).u32(VERSION).u32(bytes.length).bytes(bytes);
  return file.u32(crc32c(file.finish())).finish();
}

/** Throws `corrupt`: bad magic, length, CRC or content; `unimplemented`: a version of the future. */
export function decodeControlFile(bytes: Uint8Array): ControlState {
  const header = new ByteReader(bytes, 'control file');
  const magic = header.u32();
  if (magic !== MAGIC) throw corrupt(`begins with ${magic.toString(16)}, not with its magic number`);
  const version = header.u32();
  if (version < VERSION_MIN || version > VERSION) {
    const known = `${VERSION_MIN} to ${VERSION}`;
    throw new StorageError('unimplemented', `control file has version ${version}; this software reads ${known}`);
  }
  const length = header.u32();
  if (length !== bytes.length - HEADER_BYTES - CRC_BYTES) throw corrupt(`has the wrong length ${bytes.length}`);
  const body = new ByteReader(header.bytes(length), 'control file');
  if (header.u32() !== crc32c(bytes, 0, HEADER_BYTES + length)) throw corrupt('fails its CRC');
  try {
    return decodeBody(body, version);
  } catch (cause) {
    if (cause instanceof StorageError && cause.kind !== 'corrupt') throw corrupt('has wrong content', cause);
    throw cause;
  }
}

function decodeBody(body: ByteReader, version: number): ControlState {
  const ttid: TenantTimelineId = {
    tenantId: parseTenantId(body.bytes(16).toString('hex')),
    timelineId: parseTimelineId(body.bytes(16).toString('hex')),
  };
  const membership = { generation: body.u32(), members: decodeMembers(body), newMembers: decodeMembers(body) };
  const term = body.u64();
  const history: TermHistory = Array.from({ length: body.count(16) }, () => ({
    term: body.u64(),
    lsn: lsn(body.u64()),
  }));
  checkTermHistory(history);
  if ((history.at(-1)?.term ?? 0) > term) throw corrupt(`is in term ${term}, below its history`);
  const pgVersion = body.u32();
  const systemId = body.big();
  const segSize = body.u32();
  checkSegmentSize(segSize);
  const createdAtMs = body.u64();
  const position = (): Lsn => lsn(body.u64());
  const state: ControlState = {
    ttid,
    membership,
    term,
    history,
    pgVersion,
    systemId,
    segSize,
    createdAtMs,
    timelineStartLsn: position(),
    localStartLsn: position(),
    commitLsn: position(),
    backupLsn: position(),
    peerHorizonLsn: position(),
    remoteConsistentLsn: position(),
    evictedLsn: version >= 2 ? position() : INVALID_LSN,
    partials: version >= 2 ? decodePartials(body) : [],
  };
  body.end();
  if (state.commitLsn < state.timelineStartLsn) throw corrupt('has a commit position before the timeline starts');
  return state;
}

function decodeMembers(body: ByteReader): Member[] {
  return Array.from({ length: body.count(12) }, () => ({ nodeId: body.u64(), grpcAddr: body.text() }));
}

function decodePartials(body: ByteReader): PartialObject[] {
  return Array.from({ length: body.count(PARTIAL_BYTES) }, () => {
    const status = PARTIAL_STATUS[body.u32() - 1];
    if (status === undefined) throw corrupt('has a partial object of unknown status');
    return { status, term: body.u64(), flushLsn: lsn(body.u64()), commitLsn: lsn(body.u64()) };
  });
}

function positionsOf(state: ControlState): Lsn[] {
  return [
    state.timelineStartLsn,
    state.localStartLsn,
    state.commitLsn,
    state.backupLsn,
    state.peerHorizonLsn,
    state.remoteConsistentLsn,
  ];
}

function corrupt(problem: string, cause?: unknown): StorageError {
  return new StorageError('corrupt', `control file ${problem}`, { cause });
}
