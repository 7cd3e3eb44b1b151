/** The node id in `safekeeper.id`: a safekeeper must never come up as another one, whose votes it did not give. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { writeFileDurable } from '#shared/io/files.js';
import { isMissing } from './disk.js';

const NAME = 'safekeeper.id';

/** Throws `precondition` when the configured id is not that of the data directory, `invalid` when there is none at all. */
export async function claimNodeId(dataDir: string, configured: number | undefined): Promise<number> {
  const file = path.join(dataDir, NAME);
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (isMissing(error)) return null;
    throw error;
  });
  if (text === null) {
    if (configured === undefined) throw new StorageError('invalid', `${dataDir} is new; give the node id by --id`);
    await writeFileDurable(file, Buffer.from(`${configured}\n`));
    return configured;
  }
  const known = /^[1-9]\d{0,15}\s*$/.test(text) ? Number(text) : NaN;
  if (!Number.isSafeInteger(known)) throw new StorageError('corrupt', `${file} does not hold a node id`);
  if (configured !== undefined && configured !== known) {
    throw new StorageError('precondition', `${dataDir} belongs to safekeeper ${known}, not to ${configured}`);
  }
  return known;
}
