/** Ids of PostgreSQL 15's resource managers, and the operations (xl_info & 0xF0) that more than one part of the storage looks at. */

export const RM_XLOG = 0;
export const RM_XACT = 1;
export const RM_SMGR = 2;
export const RM_CLOG = 3;
export const RM_DBASE = 4;
export const RM_TBLSPC = 5;
export const RM_MULTIXACT = 6;
export const RM_RELMAP = 7;
export const RM_STANDBY = 8;
export const RM_HEAP2 = 9;
export const RM_HEAP = 10;
export const RM_BTREE = 11;
export const RM_HASH = 12;
export const RM_GIN = 13;
export const RM_GIST = 14;
export const RM_SEQ = 15;
export const RM_SPGIST = 16;
export const RM_BRIN = 17;
export const RM_COMMIT_TS = 18;
export const RM_REPLORIGIN = 19;
export const RM_GENERIC = 20;
export const RM_LOGICALMSG = 21;
export const RM_BUILTIN_MAX = 21;
export const RM_CUSTOM_MIN = 128;

/** By id, as pg_waldump prints them. */
export const RMGR_NAMES: readonly string[] = [
  ...[
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
  ],
  ...[
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
  ],
];

export const XLOG_CHECKPOINT_SHUTDOWN = 0x00;
export const XLOG_CHECKPOINT_ONLINE = 0x10;
export const XLOG_NOOP = 0x20;
export const XLOG_NEXTOID = 0x30;
export const XLOG_SWITCH = 0x40;
export const XLOG_BACKUP_END = 0x50;
export const XLOG_PARAMETER_CHANGE = 0x60;
export const XLOG_RESTORE_POINT = 0x70;
export const XLOG_FPW_CHANGE = 0x80;
export const XLOG_END_OF_RECOVERY = 0x90;
export const XLOG_FPI_FOR_HINT = 0xa0;
export const XLOG_FPI = 0xb0;
export const XLOG_OVERWRITE_CONTRECORD = 0xd0;

/** Transaction records use three bits for the operation; the fourth says that an xinfo word is there. */
export const XLOG_XACT_OPMASK = 0x70;
export const XLOG_XACT_HAS_INFO = 0x80;
export const XLOG_XACT_COMMIT = 0x00;
export const XLOG_XACT_PREPARE = 0x10;
export const XLOG_XACT_ABORT = 0x20;
export const XLOG_XACT_COMMIT_PREPARED = 0x30;
export const XLOG_XACT_ABORT_PREPARED = 0x40;
export const XLOG_XACT_ASSIGNMENT = 0x50;
export const XLOG_XACT_INVALIDATIONS = 0x60;

export const CLOG_ZEROPAGE = 0x00;
export const CLOG_TRUNCATE = 0x10;

export const XLOG_MULTIXACT_ZERO_OFF_PAGE = 0x00;
export const XLOG_MULTIXACT_ZERO_MEM_PAGE = 0x10;
export const XLOG_MULTIXACT_CREATE_ID = 0x20;
export const XLOG_MULTIXACT_TRUNCATE_ID = 0x30;

export const XLOG_STANDBY_LOCK = 0x00;
export const XLOG_RUNNING_XACTS = 0x10;

export const COMMIT_TS_ZEROPAGE = 0x00;
export const COMMIT_TS_TRUNCATE = 0x10;
