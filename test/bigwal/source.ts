/**
 * A real cluster that writes WAL in rounds, and a hot standby whose files say, at the end of each round, what pages must be: it does
 * nothing but redo, so that a page server must have the same bytes.
 */
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { join } from 'node:path';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn, parseLsn } from '#shared/core/lsn.js';
import { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import type { RelTag } from '../../services/pageserver/core/keyspace.js';

const PAGE_BYTES = 8192;
const CONFIG = [
  ...['wal_keep_size = 100GB', 'max_wal_size = 4GB', 'checkpoint_timeout = 1h', 'autovacuum = off', 'fsync = off'],
  ...['shared_buffers = 256MB', 'max_wal_senders = 5', 'hot_standby = on', 'bgwriter_lru_maxpages = 0'],
];

/** A page as it was at an LSN. */
export interface KnownPage {
  readonly at: Lsn;
  readonly rel: RelTag;
  readonly block: number;
  readonly digest: string;
}

export function digestOf(page: Uint8Array): string {
  return createHash('sha256').update(page).digest('hex');
}

export class LoadedCluster {
  readonly primary: TempCluster;
  readonly standby: TempCluster;
  readonly pages: KnownPage[] = [];
  readonly startLsn: Lsn;
  round = 0;

  private constructor(primary: TempCluster, standby: TempCluster, startLsn: Lsn) {
    this.primary = primary;
    this.standby = standby;
    this.startLsn = startLsn;
  }

  /** `onImage`: the cleanly stopped directory, with which the page server begins. */
  static async create(onImage: (cluster: TempCluster) => void): Promise<LoadedCluster> {
    const primary = await TempCluster.create({ config: CONFIG, tcp: true });
    onImage(primary);
    await primary.start();
    const startLsn = await headOf(primary);
    const standby = await TempCluster.empty();
    const where = ['-h', '127.0.0.1', '-p', String(primary.port), '-U', primary.user];
    await standby.run('pg_basebackup', ['-D', standby.dataDir, '-R', '-c', 'fast', ...where]);
    // It sends its WAL to nobody.
    standby.configure([...CONFIG, 'wal_keep_size = 0']);
    await standby.own();
    await standby.start();
    return new LoadedCluster(primary, standby, startLsn);
  }

  head(): Promise<Lsn> {
    return headOf(this.primary);
  }

  /** Begins the tables: about `scale` * 16 MB. */
  async begin(scale: number): Promise<void> {
    await this.primary.run('pgbench', ['-i', '-q', '-s', String(scale), ...this.primary.connectArgs(), 'postgres']);
    await this.primary.psql('create table loaded (id bigint, k int, text text); create index on loaded (k)');
    await this.primary.psql('create table loaded_wide (id bigint, text text); create index on loaded_wide (id)');
  }

  /** Updates by pgbench, a bulk load, a bulk delete and a vacuum. */
  async writeRound(transactions: number, rows: number): Promise<void> {
    this.round++;
    const clients = ['-n', '-N', '-c', '4', '-j', '2', '-t', String(Math.ceil(transactions / 4))];
    await this.primary.run('pgbench', [...clients, ...this.primary.connectArgs(), 'postgres']);
    await this.primary.psql(`
      copy (select i, i % 997, md5((i * ${this.round})::text) from generate_series(1, ${rows}) i) to '${this.primary.root}/rows';
      copy loaded from '${this.primary.root}/rows'; delete from loaded where k % 3 = ${this.round % 3};
      vacuum loaded; vacuum pgbench_accounts; update pgbench_accounts set abalance = abalance + 1 where aid % 50 = ${this.round % 50};`);
  }

  /** New rows of about a kilobyte and nothing else: the database grows as the WAL does. */
  async growRound(rows: number): Promise<void> {
    this.round++;
    await this.primary.psql(
      `insert into loaded_wide select i, repeat(md5((i * ${this.round})::text), 30) from generate_series(1, ${rows}) i`,
    );
  }

  /** Notes some pages as the standby has them at the present head. */
  async notePages(count: number, random: (below: number) => number): Promise<void> {
    const { primary, standby } = this;
    await primary.psql('checkpoint');
    const at = await headOf(primary);
    while ((await standby.psql(`select pg_last_wal_replay_lsn() >= '${hex(at)}'`)) !== 't');
    await standby.psql('checkpoint');
    const names = await primary.psql(`select d.oid || ' ' || pg_relation_filenode(c.oid) from pg_class c, pg_database d
      where d.datname = current_database() and c.relkind in ('r', 'i') and (c.relname like 'pgbench%' or c.relname like 'loaded%')`);
    const rels = names.split('\n').map((line) => line.split(' ').map(Number) as [number, number]);
    for (let i = 0; i < count; i++) {
      const [db, rel] = rels[random(rels.length)]!;
      const file = join(standby.dataDir, 'base', String(db), String(rel));
      const blocks = statSync(file).size / PAGE_BYTES;
      if (blocks === 0) continue;
      const block = random(blocks);
      this.pages.push({ at, rel: { spc: 1663, db, rel, fork: 0 }, block, digest: digestOf(readPage(file, block)) });
    }
  }

  async destroy(): Promise<void> {
    await this.standby.destroy();
    await this.primary.destroy();
  }
}

function readPage(file: string, block: number): Buffer {
  const page = Buffer.alloc(PAGE_BYTES);
  const fd = openSync(file, 'r');
  try {
    readSync(fd, page, 0, PAGE_BYTES, block * PAGE_BYTES);
  } finally {
    closeSync(fd);
  }
  return page;
}

function hex(at: Lsn): string {
  return `${Math.floor(at / 0x1_0000_0000).toString(16)}/${(at >>> 0).toString(16)}`;
}

async function headOf(cluster: TempCluster): Promise<Lsn> {
  return lsn(parseLsn(await cluster.psql('select pg_current_wal_flush_lsn()')));
}
