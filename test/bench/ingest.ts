/** Ingest rate of the page server: WAL piles up while it is stopped, then it catches up. The peer is the standby, treated alike. */
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { lsnFromWire, parseLsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { query, until, value } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import type { SyncPair } from './sync-pair.js';

const ROWS = 600_000;
const LOAD = `insert into ingest select i, i % 1000, md5(i::text) from generate_series(1, ${ROWS}) i`;
const MIB = 1 << 20;

async function lsnOf(url: string): Promise<number> {
  return parseLsn(await value(url, 'select pg_current_wal_flush_lsn()'));
}

async function catchUpMs(resume: () => void, reached: () => Promise<boolean>): Promise<number> {
  const began = performance.now();
  resume();
  await until('the reader to catch up', 300_000, reached);
  return performance.now() - began;
}

export async function benchIngest(stack: TestStack, compute: string, pair: SyncPair): Promise<string[]> {
  for (const url of [compute, pair.url]) {
    await query(
      url,
      'create table ingest (id int primary key, k int, text text); create index on ingest (k); select * from ingest',
    );
  }
  const pageserver = await stack.service('pageserver');
  process.kill(pageserver.pid, 'SIGSTOP');
  const ourStart = await lsnOf(compute);
  await query(compute, LOAD);
  const ourEnd = await lsnOf(compute);
  const { tenantId, timelineId } = await stack.compute('main');
  const client = createClient(ManagementServiceClient, pageserver.grpcAddr);
  const ours = await catchUpMs(
    () => process.kill(pageserver.pid, 'SIGCONT'),
    async () => {
      const request = { ttid: { tenantId, timelineId } };
      const { timeline } = await callUnary(client, client.getTimeline, request, { deadlineMs: 300_000 });
      return lsnFromWire(timeline?.lastRecordLsn ?? 0n) >= ourEnd;
    },
  );
  client.close();
  // The standby receives and flushes meanwhile, so that commits return; only its replay is held back.
  await query(pair.standbyUrl, 'select pg_wal_replay_pause()');
  const theirStart = await lsnOf(pair.url);
  await query(pair.url, LOAD);
  const theirEnd = await lsnOf(pair.url);
  const theirs = await catchUpMs(
    () => void query(pair.standbyUrl, 'select pg_wal_replay_resume()'),
    async () => parseLsn(await value(pair.standbyUrl, 'select pg_last_wal_replay_lsn()')) >= theirEnd,
  );
  const rate = (bytes: number, ms: number) => bytes / MIB / (ms / 1000);
  const [our, their] = [rate(ourEnd - ourStart, ours), rate(theirEnd - theirStart, theirs)];
  const mib = ((ourEnd - ourStart) / MIB).toFixed(0);
  return [
    `ingest of ${mib} MiB of WAL: page server ${our.toFixed(1)} MiB/s, standby replay ${their.toFixed(1)} MiB/s, ratio ${(our / their).toFixed(2)}`,
  ];
}
