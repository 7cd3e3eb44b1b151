/** Numbers and names of PostgreSQL's resource managers, and how much of a record's main data redo of a page reads. */

export const RM_XLOG = 0;
export const RM_XACT = 1;
export const RM_SMGR = 2;
export const RM_CLOG = 3;
export const RM_MULTIXACT = 6;
export const RM_HEAP2 = 9;
export const RM_HEAP = 10;
export const RM_BTREE = 11;
export const RM_HASH = 12;
export const RM_GIN = 13;
export const RM_GIST = 14;
export const RM_SEQ = 15;
export const RM_SPGIST = 16;
export const RM_BRIN = 17;
export const RM_GENERIC = 20;

const NAMES = [
  'XLOG',
  'Transaction',
  'Storage',
  'CLOG',
  'Database',
  'Tablespace',
  'MultiXact',
  'RelMap',
  'Standby',
  'Heap2',
  'Heap',
  'Btree',
  'Hash',
  'Gin',
  'Gist',
  'Sequence',
  'SPGist',
  'BRIN',
  'CommitTs',
  'ReplicationOrigin',
  'Generic',
  'LogicalMessage',
];

export const XLOG_FPI_FOR_HINT = 0xa0;
export const XLOG_FPI = 0xb0;

/** As pg_waldump prints it. */
export function rmgrName(rmid: number): string {
  return NAMES[rmid] ?? `custom ${rmid}`;
}

const HEAP_OPCODES = 0x70;
const HEAP_DELETE = 0x10;
const HEAP_UPDATE = 0x20;
const HEAP_HOT_UPDATE = 0x40;
const DELETE_BYTES = 8;
const UPDATE_BYTES = 14;

/** Bytes of main data that redo of a block reads. With wal_level=logical the old row follows; storage has no use for it. */
export function mainBytesNeeded(rmid: number, info: number): number {
  if (rmid !== RM_HEAP) return Infinity;
  const opcode = info & HEAP_OPCODES;
  if (opcode === HEAP_DELETE) return DELETE_BYTES;
  return opcode === HEAP_UPDATE || opcode === HEAP_HOT_UPDATE ? UPDATE_BYTES : Infinity;
}
