/** For tests: WAL records that no server wrote, as the decoder would present them. */
import { lsn } from '#shared/core/lsn.js';
import { BKPBLOCK_WILL_INIT, BLCKSZ, WalRecord } from '#shared/postgres/wal-record.js';
import type { RelTag } from '../keyspace.js';

export interface MadeBlock {
  readonly rel: RelTag;
  readonly block: number;
  readonly willInit?: boolean;
  /** A whole page. */
  readonly image?: Uint8Array;
}

export interface MadeRecord {
  readonly endLsn: number;
  readonly rmid: number;
  readonly info: number;
  readonly xid?: number;
  readonly originId?: number;
  readonly mainData?: Uint8Array;
  readonly blocks?: readonly MadeBlock[];
}

/** Takes 8 bytes of WAL as far as positions go. */
export function madeRecord(made: MadeRecord): WalRecord {
  const record = new WalRecord();
  const images = (made.blocks ?? []).map((block) => block.image ?? new Uint8Array(0));
  const bytes = Buffer.concat([...images, made.mainData ?? new Uint8Array(0)]);
  record.startLsn = lsn(made.endLsn - 8);
  record.endLsn = lsn(made.endLsn);
  record.totalLength = bytes.length;
  record.rmid = made.rmid;
  record.info = made.info;
  record.xid = made.xid ?? 0;
  record.originId = made.originId ?? 0;
  record.bytes = bytes;
  record.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  record.mainDataLength = made.mainData?.length ?? 0;
  record.mainDataOffset = bytes.length - record.mainDataLength;
  let at = 0;
  (made.blocks ?? []).forEach(({ rel, block, willInit, image }, id) => {
    record.maxBlockId = id;
    record.blockPresent[id] = 1;
    record.blockFlags[id] = willInit === true ? BKPBLOCK_WILL_INIT : 0;
    record.blockFork[id] = rel.fork;
    record.blockSpc[id] = rel.spc;
    record.blockDb[id] = rel.db;
    record.blockRel[id] = rel.rel;
    record.blockNumber[id] = block;
    record.blockHasImage[id] = record.blockApplyImage[id] = image === undefined ? 0 : 1;
    record.imageOffset[id] = at;
    record.imageLength[id] = image?.length ?? 0;
    record.imageHoleLength[id] = image === undefined ? 0 : BLCKSZ - image.length;
    at += image?.length ?? 0;
  });
  return record;
}

/** u32 fields, little endian: the main data of most records that ingest looks into. */
export function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => view.setUint32(i * 4, value, true));
  return bytes;
}
