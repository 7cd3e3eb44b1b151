/** What ingest knows about the head of a timeline, so that it reads nothing from the store while records go by. */
import type { Lsn } from '#shared/core/lsn.js';
import { compareKeys } from '../key.js';
import {
  AUX_FILE_RANGE,
  DATABASE_RANGE,
  type KeyRange,
  METADATA_RANGE,
  ORIGIN_RANGE,
  parseTwoPhaseKey,
  RELATION_SIZE_RANGE,
  SLRU_SIZE_RANGE,
  TWO_PHASE_RANGE,
  twoPhaseKey,
} from '../keyspace.js';
import { type ScanEntry, type TimelineStore, VALUE_IMAGE, VALUE_TOMBSTONE } from '../storage/store.js';
import { AuxFileTable, OriginTable } from './aux-tables.js';
import { DatabaseTable } from './databases.js';
import { RelationTable } from './relations.js';
import { SlruTable } from './slrus.js';

/** A pino logger will do. */
export interface IngestLog {
  warn(fields: Record<string, unknown>, text: string): void;
}

export const SILENT: IngestLog = { warn: () => undefined };

export interface HeadState {
  readonly store: TimelineStore;
  readonly relations: RelationTable;
  readonly databases: DatabaseTable;
  readonly slrus: SlruTable;
  readonly auxFiles: AuxFileTable;
  readonly origins: OriginTable;
  /** Prepared transactions. */
  readonly twoPhase: Set<number>;
  readonly log: IngestLog;
}

/** By one scan at `at`: each layer is gone through once for all of it. */
export async function loadHeadState(store: TimelineStore, at: Lsn, log: IngestLog): Promise<HeadState> {
  const head: HeadState = {
    store,
    relations: new RelationTable(store),
    databases: new DatabaseTable(store),
    slrus: new SlruTable(store),
    auxFiles: new AuxFileTable(store),
    origins: new OriginTable(store),
    twoPhase: new Set(),
    log,
  };
  const entries = await store.scan(METADATA_RANGE.start, METADATA_RANGE.end, at);
  head.relations.load(within(RELATION_SIZE_RANGE, entries), at);
  head.databases.load(within(DATABASE_RANGE, entries));
  head.slrus.load(within(SLRU_SIZE_RANGE, entries));
  head.auxFiles.load(within(AUX_FILE_RANGE, entries));
  head.origins.load(within(ORIGIN_RANGE, entries));
  for (const { key } of within(TWO_PHASE_RANGE, entries)) head.twoPhase.add(parseTwoPhaseKey(key));
  return head;
}

function within({ start, end }: KeyRange, entries: readonly ScanEntry[]): ScanEntry[] {
  return entries.filter(({ key }) => compareKeys(start, key) <= 0 && compareKeys(key, end) < 0);
}

/** `state`: main data of the PREPARE record; becomes the store's. */
export function putTwoPhase(head: HeadState, xid: number, lsn: Lsn, state: Uint8Array): void {
  head.twoPhase.add(xid);
  head.store.put(twoPhaseKey(xid), lsn, VALUE_IMAGE, state);
}

export function dropTwoPhase(head: HeadState, xid: number, lsn: Lsn): void {
  if (!head.twoPhase.delete(xid)) return;
  head.store.put(twoPhaseKey(xid), lsn, VALUE_TOMBSTONE, new Uint8Array(0));
}
