/** Chunks of pulls that were interrupted: `.neon/pull/<sha256>`. They are checked when they are used, and go with the pull's success. */
import { createHash } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ensureDir, removeDurable } from '#shared/io/files.js';
import type { ChunkCache } from './image-store.js';

export async function openChunkCache(repoPath: string): Promise<ChunkCache & { remove(): Promise<void> }> {
  const dir = join(repoPath, 'pull');
  await ensureDir(dir);
  return {
    async get(hash) {
      const bytes = await readFile(join(dir, hash)).catch(() => null);
      return bytes !== null && createHash('sha256').update(bytes).digest('hex') === hash ? bytes : null;
    },
    async put(hash, chunk) {
      const path = join(dir, hash);
      // Not durable: one that is lost is read again.
      await writeFile(`${path}.tmp`, chunk, { mode: 0o600 });
      await rename(`${path}.tmp`, path);
    },
    remove: () => removeDurable(dir),
  };
}
