/**
 * Much WAL through a page server with little memory and disk: `npm run bigwal -- --size 200M [--memory 256M] [--disk 1G] [--seed 1]`.
 *
 * A real cluster writes the WAL; a hot standby, which only redoes it, says what pages must be at the end of each round. The page server
 * gets the WAL as from a safekeeper. Then random pages at random past LSNs are read and compared, history is given up but for a branch
 * point, old history merged, and head and branch read again. Printed: peaks of memory and disk, write and space amplification.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { HistoryServiceClient } from '#gen/neon/pageserver/v1/history.js';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import { parseTtid } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import { openObjectStore } from '#shared/io/object-store.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { readFileSync } from 'node:fs';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import { writeManifest } from '../../services/pageserver/tenant/manifest.js';
import { PagestreamClient } from '../../services/pageserver/testing/pagestream-client.js';
import { WalSource } from '../../services/pageserver/testing/wal-source.js';
import { bytesBelow, LimitedServer } from './server.js';
import type { KnownPage } from './source.js';
import { digestOf, LoadedCluster } from './source.js';
import { walFiles } from './wal-files.js';

const MIB = 1 << 20;
/** Of memory, what the process needs beside layers and caches. */
const BASE_BYTES = 192 * MIB;
const CALL = { deadlineMs: 3_600_000 };
const TTID = parseTtid({ tenantId: 'b1'.repeat(16), timelineId: 'a1'.repeat(16) });
const BRANCH = parseTtid({ tenantId: TTID.tenantId, timelineId: 'a2'.repeat(16) });

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '200M' },
    memory: { type: 'string', default: '256M' },
    disk: { type: 'string', default: '1G' },
    seed: { type: 'string', default: '1' },
    reads: { type: 'string', default: '300' },
  },
});

function bytesOf(text: string): number {
  const match = /^(\d+)([MG])$/.exec(text);
  if (match === null) throw new Error(`"${text}" is no size: write 200M or 5G`);
  return Number(match[1]) * (match[2] === 'G' ? 1024 * MIB : MIB);
}

const say = (line: string): void => void process.stdout.write(`${line}\n`);
const mib = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;

function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}

const root = mkdtempSync(join(tmpdir(), 'neon-bigwal-'));
const random = seeded(Number(values.seed));
const size = bytesOf(values.size);

async function load(): Promise<{ cluster: LoadedCluster; end: Lsn }> {
  const cluster = await LoadedCluster.create((image) => {
    execFileSync('tar', ['-C', image.dataDir, '--exclude=./pg_wal/*', '-cf', join(root, 'image.tar'), '.']);
  });
  await cluster.begin(Math.max(1, Math.min(20, Math.round(size / (100 * MIB)))));
  while ((await cluster.head()) - cluster.startLsn < size) {
    await cluster.writeRound(4000, 60_000);
    await cluster.notePages(20, random);
  }
  const end = await cluster.head();
  const kept = cluster.pages.length;
  say(`${mib(end - cluster.startLsn)} of WAL in ${cluster.round} rounds, ${kept} pages noted`);
  return { cluster, end };
}

async function checkPages(pg: string, id: string, pages: readonly KnownPage[]): Promise<void> {
  const client = await PagestreamClient.open(pg, `pagestream_v3 ${TTID.tenantId} ${id}`);
  for (const { at, rel, block, digest } of pages) {
    const answer = await client.getPage(rel, block, { requestLsn: at, notModifiedSince: at });
    const what = `block ${block} of ${rel.rel} at ${formatLsn(at)}`;
    if (answer.tag !== 102) throw new Error(`${what}: ${answer.body.toString('latin1')}`);
    if (digestOf(answer.body) !== digest) throw new Error(`${what} differs from the standby's`);
  }
  client.close();
}

async function measure(cluster: LoadedCluster, end: Lsn): Promise<void> {
  const memory = bytesOf(values.memory);
  const control = decodeControlFile(readFileSync(join(cluster.primary.dataDir, 'global/pg_control')));
  const store = await openObjectStore(`file://${root}/store`);
  await writeManifest(store, { tenantId: TTID.tenantId, systemId: control.systemId, generation: 1, deletedAtMs: null });
  const pgWal = join(cluster.primary.dataDir, 'pg_wal');
  const source = new WalSource(TTID, walFiles(pgWal, control.segSize, cluster.startLsn, end));
  source.chunkBytes = 128 * 1024;
  await source.start();
  const flags = ['--remote-storage', `file://${root}/store`, '--initdb-image', join(root, 'image.tar')];
  // What a job needs at one time comes on top of the limit.
  flags.push('--broker-endpoint', source.addr, '--local-layer-bytes-max', String(Math.floor(bytesOf(values.disk) / 2)));
  flags.push(
    '--memory-max',
    String(Math.max(32 * MIB, memory - BASE_BYTES)),
    '--checkpoint-distance',
    String(64 * MIB),
  );
  const server = await LimitedServer.start(root, flags, 80);
  try {
    await drive(server, cluster, end);
    const verdict = (value: number, limit: number): string => `${mib(value)} of ${mib(limit)}`;
    say(`peak memory ${verdict(server.rssMax, memory)}, peak disk ${verdict(server.diskMax, bytesOf(values.disk))}`);
    if (server.rssMax > memory || server.diskMax > bytesOf(values.disk)) throw new Error('a bound was not kept');
  } finally {
    await server.stop();
    await source.stop();
  }
}

async function drive(server: LimitedServer, cluster: LoadedCluster, end: Lsn): Promise<void> {
  const management = createClient(ManagementServiceClient, server.grpc);
  const history = createClient(HistoryServiceClient, server.grpc);
  const walBytes = end - cluster.startLsn;
  const create = { ttid: TTID, mode: { $case: 'bootstrap', value: { pgMajorVersion: 15 } } } as const;
  const startedMs = performance.now();
  await callUnary(management, management.createTimeline, create, CALL);
  const head = async (): Promise<number> => {
    const { timeline } = await callUnary(management, management.getTimeline, { ttid: TTID }, CALL);
    return Number(timeline?.lastRecordLsn ?? 0n);
  };
  let readCount = 0;
  for (let at = await head(); at < end; at = await head()) {
    // Reads go on meanwhile, of what is there.
    const there = cluster.pages.filter((page) => page.at <= at);
    if (there.length > 0)
      await checkPages(server.pg, TTID.timelineId, [there[random(there.length)]!]).then(() => readCount++);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const seconds = (performance.now() - startedMs) / 1000;
  await callUnary(management, management.checkpoint, { ttid: TTID }, CALL);
  say(
    `ingested at ${(walBytes / MIB / seconds).toFixed(1)} MiB/s with ${readCount} reads beside, ${server.cpuSeconds().toFixed(0)} s of CPU`,
  );
  await callUnary(management, management.runCompaction, { ttid: TTID, forceMerge: false, forceImages: false }, CALL);
  say(
    `write amplification ${(server.writtenBytes() / walBytes).toFixed(2)} (all bytes written, uploads included, to bytes of WAL)`,
  );
  const chosen = Array.from({ length: Number(values.reads) }, () => cluster.pages[random(cluster.pages.length)]!);
  await checkPages(server.pg, TTID.timelineId, chosen);
  say(`${chosen.length} random pages at random past LSNs are right`);
  const stored = () => bytesBelow(join(root, 'store'));
  say(`stored with all history: ${mib(stored())}, ${(stored() / walBytes).toFixed(2)} of the WAL`);
  await giveUpHistory({ management, history, server, cluster, end });
  const { syntheticSizeBytes, timelines } = await callUnary(
    history,
    history.getTenantSizes,
    { tenantId: TTID.tenantId },
    CALL,
  );
  const logical = Number(timelines.find(({ timelineId }) => timelineId === TTID.timelineId)?.logicalSizeBytes ?? 0n);
  say(
    `after giving up history: ${mib(stored())} stored for ${mib(logical)} logical, ${mib(Number(syntheticSizeBytes))} synthetic`,
  );
  say(
    `space amplification ${(stored() / logical).toFixed(2)} (compressed layers to relation sizes, with a branch point)`,
  );
  management.close();
  history.close();
}

interface Parts {
  readonly management: ManagementServiceClient;
  readonly history: HistoryServiceClient;
  readonly server: LimitedServer;
  readonly cluster: LoadedCluster;
  readonly end: Lsn;
}

/** All but the head and one branch point; then both must still be right, and the rest refused. */
async function giveUpHistory({ management, history, server, cluster, end }: Parts): Promise<void> {
  const at = cluster.pages[Math.floor(cluster.pages.length / 2)]!.at;
  const point = { ancestorTimelineId: TTID.timelineId, ancestorStartLsn: BigInt(at) };
  await callUnary(
    management,
    management.createTimeline,
    { ttid: BRANCH, mode: { $case: 'branch', value: point } },
    CALL,
  );
  await callUnary(management, management.runCompaction, { ttid: TTID, forceMerge: true, forceImages: false }, CALL);
  const request = { ttid: TTID, gcHorizonBytes: 0n, pitrIntervalS: 0 };
  const { cutoffLsn } = await callUnary(management, management.runGc, request, CALL);
  if (Number(cutoffLsn) < end) throw new Error(`the cutoff is ${formatLsn(lsn(Number(cutoffLsn)))}`);
  const done = await callUnary(history, history.compactHistory, { ttid: TTID, force: true }, CALL);
  say(
    `merged old history: ${done.imageLayers} image layers, ${done.layersRemoved} removed, ${done.layersTrimmed} trimmed`,
  );
  await checkPages(
    server.pg,
    BRANCH.timelineId,
    cluster.pages.filter((page) => page.at === at),
  );
  const last = cluster.pages.at(-1)!.at;
  await checkPages(
    server.pg,
    TTID.timelineId,
    last >= Number(cutoffLsn) ? cluster.pages.filter((page) => page.at === last) : [],
  );
}

try {
  const { cluster, end } = await load();
  try {
    await measure(cluster, end);
  } finally {
    await cluster.destroy();
  }
} catch (error) {
  process.exitCode = 1;
  say(String(error instanceof Error ? error.stack : error));
} finally {
  rmSync(root, { recursive: true, force: true });
}
