/** What ingest knows about the head of a timeline, so that it reads nothing from the store while records go by. */
import type { Lsn } from '#shared/core/lsn.js';
import {
  AUX_FILE_RANGE,
  DATABASE_RANGE,
  ORIGIN_RANGE,
  parseTwoPhaseKey,
  RELATION_SIZE_RANGE,
  SLRU_SIZE_RANGE,
  TWO_PHASE_RANGE,
  twoPhaseKey,
} from '../keyspace.js';
import { type TimelineStore, VALUE_IMAGE, VALUE_TOMBSTONE } from '../storage/store.js';
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

/** By scans at `at`. */
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
  head.relations.load(await store.scan(RELATION_SIZE_RANGE.start, RELATION_SIZE_RANGE.end, at), at);
  head.databases.load(await store.scan(DATABASE_RANGE.start, DATABASE_RANGE.end, at));
  head.slrus.load(await store.scan(SLRU_SIZE_RANGE.start, SLRU_SIZE_RANGE.end, at));
  head.auxFiles.load(await store.scan(AUX_FILE_RANGE.start, AUX_FILE_RANGE.end, at));
  head.origins.load(await store.scan(ORIGIN_RANGE.start, ORIGIN_RANGE.end, at));
  for (const { key } of await store.scan(TWO_PHASE_RANGE.start, TWO_PHASE_RANGE.end, at)) {
    head.twoPhase.add(parseTwoPhaseKey(key));
  }
  return head;
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
