/** Reads pages of a stopped cluster straight from its files. */
import { closeSync, existsSync, fstatSync, openSync, readdirSync, readSync } from 'node:fs';
import path from 'node:path';

export const PAGE_BYTES = 8192;
export const FORK_MAIN = 0;
export const FORK_FSM = 1;
export const FORK_VM = 2;
export const FORK_INIT = 3;
const FORK_SUFFIXES = ['', '_fsm', '_vm', '_init'];
const BLOCKS_PER_FILE = 131072;

const SPC_DEFAULT = 1663;
const SPC_GLOBAL = 1664;

export interface ForkTag {
  readonly spc: number;
  readonly db: number;
  readonly rel: number;
  readonly fork: number;
}

export function forkName(tag: ForkTag): string {
  return `${tag.spc}/${tag.db}/${tag.rel}/${tag.fork}`;
}

function databaseDir(dataDir: string, spc: number, db: number): string | null {
  if (spc === SPC_GLOBAL) return path.join(dataDir, 'global');
  if (spc === SPC_DEFAULT) return path.join(dataDir, 'base', String(db));
  const link = path.join(dataDir, 'pg_tblspc', String(spc));
  if (!existsSync(link)) return null;
  const version = readdirSync(link).find((name) => name.startsWith('PG_15_'));
  return version === undefined ? null : path.join(link, version, String(db));
}

/** All pages of one relation fork, from its 1 GiB files; empty when it does not exist. */
export function readFork(dataDir: string, tag: ForkTag): Uint8Array[] {
  const dir = databaseDir(dataDir, tag.spc, tag.db);
  if (dir === null) return [];
  const name = path.join(dir, `${tag.rel}${FORK_SUFFIXES[tag.fork] ?? ''}`);
  const pages: Uint8Array[] = [];
  for (let file = 0; ; file++) {
    const part = file === 0 ? name : `${name}.${file}`;
    if (!existsSync(part)) return pages;
    pages.push(...readPages(part));
    if (pages.length < (file + 1) * BLOCKS_PER_FILE) return pages;
  }
}

export function readPages(file: string): Uint8Array[] {
  const handle = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(fstatSync(handle).size);
    readSync(handle, bytes, 0, bytes.length, 0);
    const count = Math.floor(bytes.length / PAGE_BYTES);
    return Array.from(
      { length: count },
      (_, i) => new Uint8Array(bytes.subarray(i * PAGE_BYTES, (i + 1) * PAGE_BYTES)),
    );
  } finally {
    closeSync(handle);
  }
}

/** Every relation fork that has a file: permanent ones by their numeric names; temporary relations are left out. */
export function listForks(dataDir: string): ForkTag[] {
  const forks: ForkTag[] = listDir(path.join(dataDir, 'global'), SPC_GLOBAL, 0);
  for (const db of readdirSync(path.join(dataDir, 'base')).filter((name) => /^\d+$/.test(name))) {
    forks.push(...listDir(path.join(dataDir, 'base', db), SPC_DEFAULT, Number(db)));
  }
  return forks;
}

function listDir(dir: string, spc: number, db: number): ForkTag[] {
  return readdirSync(dir).flatMap((name) => {
    const match = /^(\d+)(_fsm|_vm|_init)?$/.exec(name);
    return match ? [{ spc, db, rel: Number(match[1]), fork: FORK_SUFFIXES.indexOf(match[2] ?? '') }] : [];
  });
}
