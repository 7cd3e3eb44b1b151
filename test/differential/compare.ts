/**
 * Differences between two texts, and the list of those that are explained. `explained.md` has a section `## NAME, NAME …` for scripts or
 * checks with an explained difference, with the reason in prose and the exact changed lines in a fenced block marked `diff`
 * (- plain, + compute). A difference is explained only while it is exactly that.
 */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const DIFF_BYTES_MAX = 64 << 20;

export interface Difference {
  /** With some lines of context, to read. */
  readonly text: string;
  /** Only the lines that differ, with - (expected) or + (judged) before them. */
  readonly changed: readonly string[];
}

/** Null when both are equal. */
export async function difference(expected: string, judged: string): Promise<Difference | null> {
  if (expected === judged) return null;
  const dir = await mkdtemp(join(tmpdir(), 'neon-differ-'));
  try {
    await writeFile(join(dir, 'plain'), expected);
    await writeFile(join(dir, 'compute'), judged);
    const text = await new Promise<string>((resolve, reject) => {
      const args = ['-a', '-U4', '--label', 'plain', '--label', 'compute', 'plain', 'compute'];
      execFile('diff', args, { cwd: dir, maxBuffer: DIFF_BYTES_MAX }, (error, stdout) =>
        // Exit code 1 says that there are differences; anything else is a failure.
        error !== null && error.code !== 1 ? reject(error) : resolve(stdout),
      );
    });
    const changed = text
      .split('\n')
      .slice(2)
      .filter((line) => /^[-+]/.test(line));
    return { text, changed };
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

export type Explained = ReadonlyMap<string, readonly string[]>;

export async function readExplained(path: string): Promise<Explained> {
  const found = new Map<string, string[]>();
  for (const section of (await readFile(path, 'utf8')).split(/^## /m).slice(1)) {
    const names = (section.split('\n', 1)[0] ?? '').split(',').map((name) => name.trim());
    const blocks = [...section.matchAll(/^```diff\n([\s\S]*?)^```$/gm)].map((match) => match[1] ?? '');
    const lines = blocks.flatMap((block) => block.split('\n').filter((line) => line !== ''));
    for (const name of names) found.set(name, lines);
  }
  return found;
}

export function isExplained(explained: Explained, name: string, found: Difference): boolean {
  const listed = explained.get(name);
  return listed !== undefined && listed.join('\n') === found.changed.join('\n');
}
