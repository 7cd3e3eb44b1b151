/**
 * Postgres refuses to run as root: under root, compute_ctl runs it as the user "postgres", which then must be able to reach its data
 * directory. Where the stack's directory is closed to others (such as a root home), computes live below the system's temporary
 * directory instead: they are throw-away anyway.
 */
import { createHash } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { ensureDir } from '#shared/io/files.js';

/** Whether everybody may pass through the directory and its parents. */
async function openToAll(path: string): Promise<boolean> {
  for (let at = path; ; at = dirname(at)) {
    const info = await stat(at);
    if ((info.mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/** Directory for the computes of a stack, created. */
export async function computesDir(repoPath: string): Promise<string> {
  const usual = join(repoPath, 'computes');
  await ensureDir(usual);
  if (process.getuid?.() !== 0 || (await openToAll(usual))) return usual;
  const tag = createHash('sha256').update(repoPath).digest('hex').slice(0, 12);
  const elsewhere = join(tmpdir(), `neon-computes-${tag}`);
  await ensureDir(elsewhere);
  return elsewhere;
}
