/** The schemas of two branches as pg_dump prints them, compared by diff. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { StorageError } from '#shared/core/errors.js';

const run = promisify(execFile);
const DUMP_BYTES_MAX = 64 << 20;
const DUMP_LIMIT_MS = 120_000;

interface Side {
  readonly name: string;
  readonly url: string;
}

/** Without what differs between two dumps of the same schema: comments, and the restrict key of newer pg_dump. */
function cleaned(dump: string): string {
  return dump
    .split('\n')
    .filter((line) => !line.startsWith('--') && !/^\\(un)?restrict /.test(line))
    .join('\n')
    .replace(/\n{3,}/g, '\n\n');
}

async function dumpSchema(pgBin: string, { name, url }: Side): Promise<string> {
  try {
    const { stdout } = await run(join(pgBin, 'pg_dump'), ['--schema-only', '--no-comments', url], {
      maxBuffer: DUMP_BYTES_MAX,
      timeout: DUMP_LIMIT_MS,
    });
    return cleaned(stdout);
  } catch (cause) {
    throw new StorageError('unavailable', `could not dump the schema of branch "${name}"`, { cause });
  }
}

/** A unified diff; empty when there is no difference. */
export async function schemaDiff(pgBin: string, sides: { left: Side; right: Side }): Promise<string> {
  const [left, right] = await Promise.all([dumpSchema(pgBin, sides.left), dumpSchema(pgBin, sides.right)]);
  if (left === right) return '';
  const dir = await mkdtemp(join(tmpdir(), 'neon-diff-'));
  try {
    const paths = [join(dir, 'left'), join(dir, 'right')] as const;
    await Promise.all([writeFile(paths[0], left), writeFile(paths[1], right)]);
    const labels = ['--label', sides.left.name, '--label', sides.right.name];
    const result = await run('diff', ['-u', ...labels, ...paths], { maxBuffer: DUMP_BYTES_MAX }).catch(
      (error: { code?: unknown; stdout?: unknown }) => {
        // diff ends with 1 when there are differences.
        if (error.code === 1 && typeof error.stdout === 'string') return { stdout: error.stdout };
        throw new StorageError('unavailable', 'could not run diff', { cause: error });
      },
    );
    return result.stdout;
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
