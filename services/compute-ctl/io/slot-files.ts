/**
 * State files of replication slots, pg_replslot/NAME/state, little endian: u32 magic, u32 CRC-32C of all from byte 8 on, u32 version 2,
 * u32 length 184, name[64], u32 database (0: physical) at 80, …, u64 restart_lsn at 96.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import { crc32c } from '#shared/postgres/crc32c.js';
import { readLsn } from '#shared/postgres/wal-layout.js';

const MAGIC = 0x1051ca1;
const FILE_BYTES = 200;
const CRC_START = 8;
const DATABASE_AT = 80;
const RESTART_LSN_AT = 96;

export interface LogicalSlot {
  readonly name: string;
  readonly restartLsn: Lsn;
}

/** Damaged files are passed over: the server refuses them at its start, saying why. */
export async function logicalSlots(pgdata: string): Promise<LogicalSlot[]> {
  const dir = join(pgdata, 'pg_replslot');
  const slots: LogicalSlot[] = [];
  for (const name of await readdir(dir).catch(() => [])) {
    const state = await readFile(join(dir, name, 'state')).catch(() => null);
    if (state === null || state.length !== FILE_BYTES) continue;
    const view = new DataView(state.buffer, state.byteOffset, state.length);
    const intact = view.getUint32(0, true) === MAGIC && view.getUint32(4, true) === crc32c(state, CRC_START);
    if (intact && view.getUint32(DATABASE_AT, true) !== 0) {
      slots.push({ name, restartLsn: readLsn(view, RESTART_LSN_AT) });
    }
  }
  return slots;
}
