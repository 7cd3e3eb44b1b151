/** Reads and replaces the control file of a timeline. The old or the new content survives a crash, never a mixture. */
import path from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import type { ControlState } from '../core/acceptor-types.js';
import { CONTROL_FILE_NAME, decodeControlFile, encodeControlFile } from '../core/control-file.js';
import { isMissing, type Disk } from './disk.js';

/** A history of TERM_HISTORY_ENTRIES_MAX entries fits. */
const CONTROL_FILE_BYTES_MAX = 4 << 20;

/** Throws `not-found`, or `corrupt`. */
export async function readControlFile(disk: Disk, dir: string): Promise<ControlState> {
  const name = path.join(dir, CONTROL_FILE_NAME);
  const file = await disk.open(name, 'read').catch((error: unknown) => {
    if (isMissing(error)) throw new StorageError('not-found', `${name} does not exist`);
    throw error;
  });
  try {
    const sizeBytes = await file.sizeBytes();
    if (sizeBytes > CONTROL_FILE_BYTES_MAX) throw new StorageError('corrupt', `${name} has ${sizeBytes} bytes`);
    const bytes = Buffer.alloc(sizeBytes);
    await file.read(bytes, 0);
    return decodeControlFile(bytes);
  } finally {
    await file.close();
  }
}

export async function writeControlFile(disk: Disk, dir: string, control: ControlState): Promise<void> {
  const name = path.join(dir, CONTROL_FILE_NAME);
  const file = await disk.open(`${name}.tmp`, 'create');
  try {
    await file.write([encodeControlFile(control)], 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(`${name}.tmp`, name);
  await disk.syncDir(dir);
}
