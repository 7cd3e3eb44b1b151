/**
 * Rebuilding a page: the newest image below the wanted LSN, and the values above it applied in order. Pure and synchronous;
 * nothing is read but the arguments.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, type Lsn } from '#shared/core/lsn.js';
import { clear, memory, PAGE, PAGE_BYTES } from './arena.js';
import { redoBrin } from './brin.js';
import { redoBtree } from './btree.js';
import { redoGeneric } from './generic.js';
import { redoGin } from './gin.js';
import { completeGistSplit, redoGist } from './gist.js';
import { redoHash } from './hash.js';
import { redoHeap } from './heap.js';
import { redoHeap2 } from './heap2.js';
import { redoNeonRecord } from './neon-records.js';
import { isNewPage, setPageLsn } from './page.js';
import {
  RM_BRIN,
  RM_BTREE,
  RM_GENERIC,
  RM_GIN,
  RM_GIST,
  RM_HASH,
  RM_HEAP,
  RM_HEAP2,
  RM_SEQ,
  RM_SPGIST,
  RM_XLOG,
  RMGR_NAMES,
  XLOG_FPI_FOR_HINT,
} from '#shared/postgres/rmgr.js';
import { redoSequence } from './sequence.js';
import {
  FLAG_GIST_CHILD,
  restoreImage,
  SlimRecord,
  slimWillInit,
  TAG_IMAGE,
  TAG_NEON_MIN,
  TAG_RECORD,
} from './slim-record.js';
import { redoSpgist } from './spgist.js';

export interface PageRecord {
  /** End of the WAL record: the page's LSN after it. */
  readonly endLsn: Lsn;
  /** From encodeSlimRecord or an encoder of neon-records.ts. */
  readonly value: Uint8Array;
}

export interface RedoOptions {
  /** The cluster has page checksums or wal_log_hints on; see redoHeap2. Off unless true. */
  readonly logHints?: boolean;
}

const current = new SlimRecord();

/**
 * `base` (8192 bytes; null: a page of zeros) with `records`, oldest first, applied: a new array of 8192 bytes. Records before the last
 * one that makes the page from nothing are passed over. Throws StorageError: `unimplemented` names a resource manager that is not
 * redone; `corrupt` says which record does not fit.
 */
export function reconstructPage(
  base: Uint8Array | null,
  records: readonly PageRecord[],
  options?: RedoOptions,
): Uint8Array {
  const logHints = options?.logHints === true;
  let first = records.length - 1;
  while (first > 0 && !slimWillInit(records[first]!.value)) first--;
  if (base === null || (first >= 0 && slimWillInit(records[first]!.value))) clear(PAGE, PAGE_BYTES);
  else if (base.length === PAGE_BYTES) memory.set(base, PAGE);
  else throw new StorageError('corrupt', `base image of ${base.length} bytes`);
  for (let i = Math.max(first, 0); i < records.length; i++) {
    const { endLsn, value } = records[i]!;
    try {
      current.load(value, endLsn);
      applyValue(current, logHints);
    } catch (error) {
      throw located(error, current, endLsn);
    }
  }
  return memory.slice(PAGE, PAGE + PAGE_BYTES);
}

function applyValue(record: SlimRecord, logHints: boolean): void {
  if (record.tag === TAG_RECORD) {
    applyRecord(record, logHints);
  } else if (record.tag === TAG_IMAGE) {
    restoreImage(PAGE, record);
    if (!isNewPage(PAGE)) setPageLsn(PAGE, record.endLsn);
    if (record.flags & FLAG_GIST_CHILD) completeGistSplit(record.endLsn);
  } else if (record.tag >= TAG_NEON_MIN) {
    redoNeonRecord(PAGE, record);
  } else {
    throw new StorageError('corrupt', `value with unknown tag ${record.tag}`);
  }
}

function applyRecord(record: SlimRecord, logHints: boolean): void {
  switch (record.rmid) {
    case RM_HEAP:
      return redoHeap(record);
    case RM_HEAP2:
      return redoHeap2(record, logHints);
    case RM_BTREE:
      return redoBtree(record);
    case RM_HASH:
      return redoHash(record);
    case RM_GIN:
      return redoGin(record);
    case RM_GIST:
      return redoGist(record);
    case RM_SPGIST:
      return redoSpgist(record);
    case RM_BRIN:
      return redoBrin(record);
    case RM_GENERIC:
      return redoGeneric(record);
    case RM_SEQ:
      return redoSequence(record);
    case RM_XLOG:
      if (record.info === XLOG_FPI_FOR_HINT) return;
      throw new StorageError('corrupt', 'full-page record without an image');
    default:
      throw new StorageError('unimplemented', `redo of resource manager ${rmgrName(record.rmid)} is not implemented`);
  }
}

/** As pg_waldump prints it. */
function rmgrName(rmid: number): string {
  return RMGR_NAMES[rmid] ?? `custom ${rmid}`;
}

function located(error: unknown, record: SlimRecord, endLsn: Lsn): unknown {
  if (!(error instanceof StorageError)) return error;
  const what =
    record.tag === TAG_RECORD
      ? `${rmgrName(record.rmid)} info ${record.info}, block id ${record.blockId}`
      : `tag ${record.tag}`;
  return new StorageError(error.kind, `${error.message} (redo of ${what}, record end ${formatLsn(endLsn)})`, {
    cause: error,
  });
}
