/** Looks at the machine and at a stack's directory, and says what is wrong and what to do. Changes nothing. */
import { execFile } from 'node:child_process';
import { access, constants, readFile, stat, statfs } from 'node:fs/promises';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { errorKind, errorText } from '#shared/core/errors.js';
import { fileURLToPath } from 'node:url';
import type { Catalog } from '../core/catalog-schema.js';
import type { StackConfig } from '../core/stack-config.js';
import { openStorage } from './open-storage.js';
import { findLeftovers } from './pid-files.js';
import type { RepoDir } from './repo-dir.js';

const run = promisify(execFile);
const NODE_MAJOR = 24;
const PG_MAJOR = 15;
const FREE_BYTES_MIN = 1 << 30;
const FREE_MEMORY_BYTES_MIN = 512 << 20;
/** A compute and its clients easily need some hundreds. */
const OPEN_FILES_MIN = 4096;
const STORAGE_LIMIT_MS = 10_000;

export interface Finding {
  readonly verdict: 'ok' | 'warning' | 'failure';
  readonly subject: string;
  readonly text: string;
}

type Check = () => Promise<Finding>;

function finding(
  subject: string,
  isGood: boolean,
  text: string,
  advice: string,
  verdict: Finding['verdict'] = 'failure',
): Finding {
  return isGood ? { verdict: 'ok', subject, text } : { verdict, subject, text: `${text}; ${advice}` };
}

async function guarded(subject: string, advice: string, act: () => Promise<Finding>): Promise<Finding> {
  try {
    return await act();
  } catch (error) {
    return { verdict: 'failure', subject, text: `${errorText(error)}; ${advice}` };
  }
}

function machineChecks(pgBin: string): Check[] {
  return [
    () => {
      const isGood = Number(process.versions.node.split('.')[0]) >= NODE_MAJOR;
      return Promise.resolve(
        finding('node', isGood, `Node ${process.versions.node}`, `Node ${NODE_MAJOR} or newer is needed`),
      );
    },
    () =>
      guarded('postgres', 'install PostgreSQL 15, or name its programs by PG_BIN', async () => {
        const { stdout } = await run(join(pgBin, 'postgres'), ['--version']);
        const isGood = new RegExp(`\\b${PG_MAJOR}\\.`).test(stdout);
        return finding(
          'postgres',
          isGood,
          stdout.trim(),
          `PostgreSQL ${PG_MAJOR} is needed; name its programs by PG_BIN`,
        );
      }),
    () =>
      guarded('extension', 'install it with "npm run setup"', async () => {
        const { stdout } = await run(join(pgBin, 'pg_config'), ['--pkglibdir']);
        const path = join(stdout.trim(), 'neon.so');
        await access(path, constants.R_OK);
        return finding('extension', true, path, '');
      }),
    () => {
      const free = freemem();
      const text = `${Math.round(free / (1 << 20))} MB of memory free`;
      return Promise.resolve(
        finding('memory', free >= FREE_MEMORY_BYTES_MIN, text, 'a stack needs about 600 MB', 'warning'),
      );
    },
    () =>
      guarded('open files', '', async () => {
        const limits = await readFile('/proc/self/limits', 'utf8');
        const limit = Number(/Max open files\s+(\d+)/.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
        return finding(
          'open files',
          limit >= OPEN_FILES_MIN,
          `at most ${limit}`,
          `raise it with "ulimit -n ${OPEN_FILES_MIN}"`,
          'warning',
        );
      }),
  ];
}

function directoryChecks(repo: RepoDir, config: StackConfig): Check[] {
  return [
    () =>
      guarded('directory', `make ${repo.path} writable for this user`, async () => {
        await access(repo.path, constants.R_OK | constants.W_OK | constants.X_OK);
        return finding('directory', true, repo.path, '');
      }),
    () =>
      guarded('disk', '', async () => {
        const { bavail, bsize } = await statfs(repo.path);
        const free = bavail * bsize;
        return finding(
          'disk',
          free >= FREE_BYTES_MIN,
          `${Math.round(free / (1 << 20))} MB free`,
          'free some space',
          'warning',
        );
      }),
    () =>
      guarded('initdb image', 'make it with "npm run setup"', async () => {
        const { size } = await stat(config.initdbImage);
        return finding('initdb image', size > 0, config.initdbImage, 'it is empty');
      }),
  ];
}

function catalogChecks(repo: RepoDir, catalog: Catalog, isRunning: boolean): Check[] {
  const counts = `${catalog.storages.length} storages, ${catalog.branches.length} branches, ${catalog.computes.length} computes, ${catalog.snapshots.length} snapshots`;
  return [
    () => Promise.resolve(finding('catalog', true, counts, '')),
    () => {
      const count = catalog.unfinished.length;
      const advice = isRunning ? 'the daemon is about to delete them' : '"neon start" deletes them';
      return Promise.resolve(
        finding('unfinished', count === 0, `${count} timelines without a name`, advice, 'warning'),
      );
    },
    async () => {
      const left = isRunning ? [] : await findLeftovers(repo.runDir);
      const text = left.length === 0 ? 'none' : left.map(({ name, pid }) => `${name} (${pid})`).join(', ');
      return finding(
        'leftover processes',
        left.length === 0,
        text,
        'they are ending, and "neon start" waits for them',
        'warning',
      );
    },
    ...catalog.storages.map((storage): Check => {
      const subject = `storage ${storage.name}`;
      const advice =
        storage.type === 's3'
          ? 'check that the server is up, that the bucket exists, and the keys'
          : 'check that the directory is there and writable';
      return () =>
        guarded(subject, advice, async () => {
          if (storage.type === 'native') {
            const root = fileURLToPath(storage.url);
            const isThere = await access(root, constants.R_OK | constants.W_OK).then(
              () => true,
              (error: NodeJS.ErrnoException) => error.code !== 'ENOENT',
            );
            const isUnused = storage.createdAtMs === 0 && catalog.branches.length === 0;
            return finding(subject, isThere || isUnused, storage.url, advice);
          }
          const store = await openStorage(repo, storage);
          await store.listPrefixes('', AbortSignal.timeout(STORAGE_LIMIT_MS));
          return finding(subject, true, storage.url, '');
        });
    }),
  ];
}

/** All findings, in the order of the checks. */
export async function examine(
  repo: RepoDir,
  pgBin: string,
  daemon: { readonly isRunning: boolean; readonly pid: number },
): Promise<Finding[]> {
  const findings = await Promise.all(machineChecks(pgBin).map((check) => check()));
  if (!(await repo.isInitialised())) {
    return [
      ...findings,
      { verdict: 'warning', subject: 'stack', text: `there is none in ${repo.path}; make it with "neon init"` },
    ];
  }
  const state = daemon.isRunning ? `running, pid ${daemon.pid}` : 'not running; start it with "neon start"';
  findings.push({ verdict: 'ok', subject: 'daemon', text: state });
  try {
    const [config, catalog] = [await repo.config(), await repo.catalog()];
    const checks = [...directoryChecks(repo, config), ...catalogChecks(repo, catalog, daemon.isRunning)];
    findings.push(...(await Promise.all(checks.map((check) => check()))));
  } catch (error) {
    const advice = errorKind(error) === 'corrupt' ? '; put back a copy of the file' : '';
    findings.push({ verdict: 'failure', subject: 'stack', text: errorText(error) + advice });
  }
  return findings;
}
