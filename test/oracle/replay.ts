/**
 * The plain twin of ingest, for the oracle: holds every page that WAL has touched, on top of a snapshot of a stopped cluster, and
 * brings it forward record by record through slim values and reconstructPage, one record at a time.
 */
import { type Lsn } from '#shared/core/lsn.js';
import {
  CLOG_ZEROPAGE,
  RM_CLOG,
  RM_DBASE,
  RM_MULTIXACT,
  RM_SMGR,
  RM_XACT,
  XLOG_MULTIXACT_CREATE_ID,
  XLOG_MULTIXACT_TRUNCATE_ID,
  XLOG_MULTIXACT_ZERO_OFF_PAGE,
} from '#shared/postgres/rmgr.js';
import { SLRU_PAGES_PER_SEGMENT, slruSegmentName } from '#shared/postgres/slru.js';
import { XLR_RMGR_INFO_MASK, type WalRecord } from '#shared/postgres/wal-record.js';
import { isXactEnd, parseXactEnd, xactOperation } from '#shared/postgres/xact-record.js';
import { existsSync } from 'node:fs';
import path from 'node:path';
import {
  encodeVmTruncate,
  encodeZeroPage,
  VM_HEAP_BLOCKS_PER_PAGE,
} from '../../services/pageserver/core/redo/neon-records.js';
import {
  clogChanges,
  multixactMemberChanges,
  multixactOffsetChanges,
  vmChanges,
  type PageChange,
} from '../../services/pageserver/core/redo/page-effects.js';
import { reconstructPage, type PageRecord, type RedoOptions } from '../../services/pageserver/core/redo/redo.js';
import { changesNothing, encodeSlimRecord } from '../../services/pageserver/core/redo/slim-record.js';
import { FORK_INIT, FORK_MAIN, FORK_VM, forkName, readFork, readPages, type ForkTag } from './page-files.js';

const SMGR_CREATE = 0x10;
const SMGR_TRUNCATE = 0x20;
const TRUNCATE_HEAP = 0x01;
const TRUNCATE_VM = 0x02;
const DBASE_CREATE_FILE_COPY = 0x00;
const DBASE_DROP = 0x20;

export type SlruKind = 'pg_xact' | 'pg_multixact/offsets' | 'pg_multixact/members';

/** One fork: its pages, and for the check of whole chains what each page was built from. */
export class ForkPages {
  readonly tag: ForkTag;
  readonly pages: Uint8Array[];
  readonly chains: ({ base: Uint8Array | null; records: PageRecord[] } | undefined)[] = [];

  constructor(tag: ForkTag, pages: Uint8Array[]) {
    this.tag = tag;
    this.pages = pages;
  }
}

const ZERO_PAGE = new Uint8Array(8192);
/** A chain that grows beyond this begins anew. */
const CHAIN_MAX = 150;

export class Replay {
  readonly forks = new Map<string, ForkPages>();
  readonly slrus = new Map<SlruKind, Map<number, Uint8Array>>();
  readonly removed = new Set<string>();
  private readonly snapshotDir: string;
  private readonly redoOptions: RedoOptions;
  private readonly chainMax: number;
  private readonly droppedDatabases = new Set<number>();

  constructor(snapshotDir: string, redoOptions: RedoOptions = {}, chainMax = CHAIN_MAX) {
    this.snapshotDir = snapshotDir;
    this.chainMax = chainMax;
    this.redoOptions = redoOptions;
  }

  fork(tag: ForkTag): ForkPages {
    const name = forkName(tag);
    let fork = this.forks.get(name);
    if (fork === undefined) {
      const gone = this.removed.has(name) || this.droppedDatabases.has(tag.db);
      fork = new ForkPages(tag, gone ? [] : readFork(this.snapshotDir, tag));
      this.forks.set(name, fork);
    }
    return fork;
  }

  /** Block `id` of the record, brought forward; null when the record does not change it. */
  applyBlock(record: WalRecord, id: number): Uint8Array | null {
    if (changesNothing(record, id)) return null;
    const fork = this.fork(blockTag(record, id));
    return this.put(fork, record.blockNumber[id]!, record.endLsn, encodeSlimRecord(record, id));
  }

  /** What the record does to pages that it does not name. */
  applyEffects(record: WalRecord): void {
    for (const change of vmChanges(record)) {
      const fork = this.fork({ ...blockTag(record, change.blockId), fork: FORK_VM });
      if (change.mapBlock < fork.pages.length) this.put(fork, change.mapBlock, record.endLsn, change.value);
    }
    const info = record.info & XLR_RMGR_INFO_MASK;
    if (record.rmid === RM_XACT && isXactEnd(xactOperation(record))) this.endTransaction(record);
    else if (record.rmid === RM_SMGR) this.changeStorage(record, info);
    else if (record.rmid === RM_DBASE) this.changeDatabase(record, info);
    else if (record.rmid === RM_CLOG && info === CLOG_ZEROPAGE) {
      this.putSlru('pg_xact', record.endLsn, { pageNumber: mainU32(record, 0), value: encodeZeroPage() });
    } else if (record.rmid === RM_MULTIXACT) this.changeMultixacts(record, info);
  }

  private put(fork: ForkPages, block: number, endLsn: Lsn, value: Uint8Array): Uint8Array {
    while (fork.pages.length < block) fork.pages.push(ZERO_PAGE);
    const base = fork.pages[block] ?? null;
    const step = { endLsn, value };
    const page = reconstructPage(base, [step], this.redoOptions);
    fork.pages[block] = page;
    const chain = fork.chains[block];
    if (chain === undefined || chain.records.length >= this.chainMax) fork.chains[block] = { base, records: [step] };
    else chain.records.push(step);
    return page;
  }

  /** Rebuilds each page from its chain in one call; returns how many, and which differ from the page built step by step. */
  checkChains(): { count: number; different: string[] } {
    const different: string[] = [];
    let count = 0;
    for (const [name, fork] of this.forks) {
      fork.chains.forEach((chain, block) => {
        if (chain === undefined) return;
        count++;
        const page = reconstructPage(chain.base, chain.records, this.redoOptions);
        if (Buffer.compare(page, fork.pages[block]!) !== 0) different.push(`${name}/${block}`);
      });
    }
    return { count, different };
  }

  slruPage(kind: SlruKind, pageNumber: number): Uint8Array {
    return this.slruPages(kind).get(pageNumber) ?? this.snapshotSlruPage(kind, pageNumber) ?? ZERO_PAGE;
  }

  private slruPages(kind: SlruKind): Map<number, Uint8Array> {
    let pages = this.slrus.get(kind);
    if (pages === undefined) {
      pages = new Map<number, Uint8Array>();
      this.slrus.set(kind, pages);
    }
    return pages;
  }

  private snapshotSlruPage(kind: SlruKind, pageNumber: number): Uint8Array | null {
    const segment = Math.floor(pageNumber / SLRU_PAGES_PER_SEGMENT);
    const file = path.join(this.snapshotDir, kind, slruSegmentName(segment));
    return existsSync(file) ? (readPages(file)[pageNumber % SLRU_PAGES_PER_SEGMENT] ?? null) : null;
  }

  private putSlru(kind: SlruKind, endLsn: Lsn, change: PageChange): void {
    const base = this.slruPage(kind, change.pageNumber);
    const page = reconstructPage(base, [{ endLsn, value: change.value }], this.redoOptions);
    this.slruPages(kind).set(change.pageNumber, page);
  }

  private endTransaction(record: WalRecord): void {
    const end = parseXactEnd(record);
    if (end.xid !== 0) {
      const changes = clogChanges([end.xid, ...end.subxids], end.kind === 'commit', end.timeUs);
      for (const change of changes) this.putSlru('pg_xact', record.endLsn, change);
    }
    for (const relation of end.droppedRelations) {
      for (let fork = FORK_MAIN; fork <= FORK_INIT; fork++) this.remove({ ...relation, fork });
    }
  }

  private remove(tag: ForkTag): void {
    this.forks.delete(forkName(tag));
    this.removed.add(forkName(tag));
  }

  /** create: u32 tablespace, database, relation, i32 fork; truncate: u32 blocks, then u32 tablespace, database, relation, i32 flags. */
  private changeStorage(record: WalRecord, info: number): void {
    if (info === SMGR_CREATE) {
      this.fork({
        spc: mainU32(record, 0),
        db: mainU32(record, 4),
        rel: mainU32(record, 8),
        fork: mainU32(record, 12),
      });
      return;
    }
    if (info !== SMGR_TRUNCATE) return;
    const blocks = mainU32(record, 0);
    const relation = { spc: mainU32(record, 4), db: mainU32(record, 8), rel: mainU32(record, 12) };
    const flags = mainU32(record, 16);
    if (flags & TRUNCATE_HEAP) this.cut(this.fork({ ...relation, fork: FORK_MAIN }), blocks);
    if (flags & TRUNCATE_VM) this.cutMap(this.fork({ ...relation, fork: FORK_VM }), blocks, record.endLsn);
  }

  private cut(fork: ForkPages, blocks: number): void {
    fork.pages.length = Math.min(fork.pages.length, blocks);
    fork.chains.length = Math.min(fork.chains.length, blocks);
  }

  private cutMap(map: ForkPages, heapBlocks: number, endLsn: Lsn): void {
    const whole = Math.floor(heapBlocks / VM_HEAP_BLOCKS_PER_PAGE);
    const partial = heapBlocks % VM_HEAP_BLOCKS_PER_PAGE !== 0;
    if (partial && whole < map.pages.length) this.put(map, whole, endLsn, encodeVmTruncate(heapBlocks));
    this.cut(map, whole + (partial ? 1 : 0));
  }

  /** file copy: u32 database, tablespace, source database, source tablespace; drop: u32 database. */
  private changeDatabase(record: WalRecord, info: number): void {
    if (info === DBASE_DROP) {
      const db = mainU32(record, 0);
      this.droppedDatabases.add(db);
      for (const [name, fork] of this.forks) if (fork.tag.db === db) this.forks.delete(name);
    } else if (info === DBASE_CREATE_FILE_COPY) {
      throw new Error('the oracle does not follow CREATE DATABASE with STRATEGY file_copy');
    }
  }

  /** create: u32 multixact, first member, count, then u32 xid, status for each. */
  private changeMultixacts(record: WalRecord, info: number): void {
    if (info === XLOG_MULTIXACT_TRUNCATE_ID) return;
    if (info !== XLOG_MULTIXACT_CREATE_ID) {
      const kind = info === XLOG_MULTIXACT_ZERO_OFF_PAGE ? 'pg_multixact/offsets' : 'pg_multixact/members';
      this.putSlru(kind, record.endLsn, { pageNumber: mainU32(record, 0), value: encodeZeroPage() });
      return;
    }
    const [multi, first, count] = [mainU32(record, 0), mainU32(record, 4), mainU32(record, 8)];
    const members = Array.from({ length: count }, (_, i) => ({
      xid: mainU32(record, 12 + 8 * i),
      status: mainU32(record, 16 + 8 * i),
    }));
    for (const change of multixactOffsetChanges(multi, first, count)) {
      this.putSlru('pg_multixact/offsets', record.endLsn, change);
    }
    for (const change of multixactMemberChanges(first, members)) {
      this.putSlru('pg_multixact/members', record.endLsn, change);
    }
  }
}

export function blockTag(record: WalRecord, id: number): ForkTag {
  return {
    spc: record.blockSpc[id]!,
    db: record.blockDb[id]!,
    rel: record.blockRel[id]!,
    fork: record.blockFork[id]!,
  };
}

function mainU32(record: WalRecord, at: number): number {
  return record.view.getUint32(record.mainDataOffset + at, true);
}
