/**
 * Ingest rate of the page server: it is killed with much WAL in memory only, so that after its restart it streams all of it again
 * from the safekeepers. The peer is a hot standby whose replay was held back over the same load.
 */
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { lsnFromWire, parseLsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { query, until, value } from '../harness/stack.js';
import type { TestStack } from '../harness/stack.js';
import type { SyncPair } from './sync-pair.js';

const ROWS = 600_000;
const LOAD = `insert into ingest select i, i % 1000, md5(i::text) from generate_series(1, ${ROWS}) i`;
const MIB = 1 << 20;
const TIMEOUT_MS = 300_000;

interface Measured {
  readonly bytes: number;
  readonly ms: number;
}

async function lsnOf(url: string): Promise<number> {
  return parseLsn(await value(url, 'select pg_current_wal_flush_lsn()'));
}

async function measureOurs(stack: TestStack, compute: string): Promise<Measured> {
  await query(compute, LOAD);
  const end = await lsnOf(compute);
  const { tenantId, timelineId } = await stack.compute('main');
  const { restartCount, grpcAddr } = await stack.service('pageserver');
  const client = createClient(ManagementServiceClient, grpcAddr);
  const position = async () => {
    const request = { ttid: { tenantId, timelineId } };
    const { timeline } = await callUnary(client, client.getTimeline, request, { deadlineMs: 5_000 });
    return lsnFromWire(timeline?.lastRecordLsn ?? 0n);
  };
  try {
    await until('the page server to have the load', TIMEOUT_MS, async () => (await position()) >= end);
    await stack.killService('pageserver');
    await stack.waitRestarted('pageserver', restartCount + 1);
    // The clock starts when streaming has begun; what came before counts on neither side.
    const first = await until('streaming to begin', TIMEOUT_MS, () => position().catch(() => null));
    const began = performance.now();
    await until('the page server to catch up', TIMEOUT_MS, async () => (await position().catch(() => 0)) >= end);
    return { bytes: end - first, ms: performance.now() - began };
  } finally {
    client.close();
  }
}

async function measureStandby(pair: SyncPair): Promise<Measured> {
  // The standby goes on receiving and flushing, so that commits return; only its replay is held back.
  await query(pair.standbyUrl, 'select pg_wal_replay_pause()');
  const start = parseLsn(await value(pair.standbyUrl, 'select pg_last_wal_replay_lsn()'));
  await query(pair.url, LOAD);
  const end = await lsnOf(pair.url);
  const began = performance.now();
  await query(pair.standbyUrl, 'select pg_wal_replay_resume()');
  await until('the standby to catch up', TIMEOUT_MS, async () => {
    return parseLsn(await value(pair.standbyUrl, 'select pg_last_wal_replay_lsn()')) >= end;
  });
  return { bytes: end - start, ms: performance.now() - began };
}

export async function benchIngest(stack: TestStack, compute: string, pair: SyncPair): Promise<string[]> {
  for (const url of [compute, pair.url]) {
    await query(url, 'create table ingest (id int primary key, k int, text text); create index on ingest (k)');
  }
  const rate = ({ bytes, ms }: Measured) => bytes / MIB / (ms / 1000);
  const ours = await measureOurs(stack, compute);
  const theirs = await measureStandby(pair);
  const [our, their] = [rate(ours), rate(theirs)];
  const mib = (ours.bytes / MIB).toFixed(0);
  return [
    `ingest of ${mib} MiB of WAL: page server ${our.toFixed(1)} MiB/s, standby replay ${their.toFixed(1)} MiB/s, ratio ${(our / their).toFixed(2)}`,
  ];
}
