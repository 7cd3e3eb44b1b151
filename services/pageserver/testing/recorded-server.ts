/**
 * For tests: a whole page server in this process, fed by a recorded history of a real cluster. The tenant gets the system identifier of
 * that cluster, so that its WAL fits.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { parseTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { parseConfig } from '#shared/runtime/config.js';
import type { Logger } from '#shared/runtime/log.js';
import { silentLogger } from '#shared/runtime/log.js';
import { options } from '../config.js';
import type { PageServer } from '../context.js';
import { startPageServer } from '../context.js';
import type { RelTag } from '../core/keyspace.js';
import { BLOCK_BYTES, GLOBAL_TABLESPACE } from '../core/keyspace.js';
import type { RecordedHistory } from '../core/testing/recorded-history.js';
import { writeManifest } from '../tenant/manifest.js';
import { WalSource } from './wal-source.js';

export const TTID: TenantTimelineId = parseTtid({ tenantId: '11'.repeat(16), timelineId: '22'.repeat(16) });

/** `image.tar` of a cleanly stopped cluster, where startIn expects it. */
export function packImage(cluster: TempCluster, root: string): void {
  execFileSync('tar', ['-C', cluster.dataDir, '--exclude=./pg_wal/*', '-cf', path.join(root, 'image.tar'), '.']);
}

/** A page server on free ports with everything below `root`: work/, store/, image.tar. */
export function startIn(root: string, flags: readonly string[] = [], log: Logger = silentLogger): Promise<PageServer> {
  const argv = ['--workdir', `${root}/work`, '--remote-storage', `file://${root}/store`];
  argv.push('--initdb-image', `${root}/image.tar`);
  for (const name of ['pg', 'grpc', 'http']) argv.push(`--listen-${name}`, '127.0.0.1:0');
  return startPageServer(parseConfig({ name: 'pageserver', description: '' }, options, [...argv, ...flags], {}), log);
}

export class RecordedServer {
  readonly root = mkdtempSync(path.join(tmpdir(), 'neon-ps-'));
  readonly source: WalSource;
  readonly #history: RecordedHistory;
  #server: PageServer | null = null;

  private constructor(history: RecordedHistory) {
    this.#history = history;
    this.source = new WalSource(TTID, history.wal);
  }

  /** With tenant and root timeline made. */
  static async create(history: RecordedHistory): Promise<RecordedServer> {
    const made = new RecordedServer(history);
    packImage(history.base, made.root);
    const store = await openObjectStore(`file://${made.root}/store`);
    const { systemId } = history.control;
    await writeManifest(store, { tenantId: TTID.tenantId, systemId, generation: 1, deletedAtMs: null });
    await made.source.start();
    await made.start();
    await made.server.tenants.createTimeline(TTID, { kind: 'bootstrap', pgMajor: 15 });
    return made;
  }

  get server(): PageServer {
    if (this.#server === null) throw new Error('the page server is not running');
    return this.#server;
  }

  get timeline() {
    return this.server.tenants.find(TTID);
  }

  async start(flags: readonly string[] = [], log: Logger = silentLogger): Promise<void> {
    this.#server = await startIn(this.root, ['--broker-endpoint', this.source.addr, ...flags], log);
  }

  async stop(how: { isCrash: boolean; loseDisk?: boolean }): Promise<void> {
    await this.#server?.stop(how);
    this.#server = null;
    if (how.loseDisk === true) rmSync(`${this.root}/work`, { recursive: true });
  }

  async waitIngested(lsn: Lsn = this.#history.endLsn): Promise<void> {
    await this.timeline.reader.waitLsn(lsn, 60_000);
  }

  async destroy(): Promise<void> {
    await this.stop({ isCrash: true });
    await this.source.stop();
    rmSync(this.root, { recursive: true, force: true });
  }
}

/** The blocks of a relation fork in a stopped cluster's file; null when there is no file. */
export function fileBlocks(cluster: TempCluster, rel: RelTag): Buffer[] | null {
  const suffix = ['', '_fsm', '_vm', '_init'][rel.fork] ?? '';
  const directory = rel.spc === GLOBAL_TABLESPACE ? 'global' : `base/${rel.db}`;
  let bytes: Buffer;
  try {
    bytes = readFileSync(path.join(cluster.dataDir, directory, `${rel.rel}${suffix}`));
  } catch {
    return null;
  }
  return Array.from({ length: bytes.length / BLOCK_BYTES }, (_, block) =>
    bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES),
  );
}

/** Polls until it is true. */
export async function until(what: string, isTrue: () => boolean, timeoutMs = 30_000): Promise<void> {
  for (const end = Date.now() + timeoutMs; !isTrue(); await sleep(10)) {
    if (Date.now() > end) throw new Error(`waited too long until ${what}`);
  }
}
