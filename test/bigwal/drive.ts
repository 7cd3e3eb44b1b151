/** What a run does with the page server: ingest with reads and branches beside, reads of the past, giving up history. */
import { HistoryServiceClient } from '#gen/neon/pageserver/v1/history.js';
import { ManagementServiceClient } from '#gen/neon/pageserver/v1/management.js';
import type { TimelineInfo } from '#gen/neon/pageserver/v1/management.js';
import { parseTtid } from '#shared/core/ids.js';
import { formatLsn, lsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { PagestreamClient } from '../../services/pageserver/testing/pagestream-client.js';
import type { WalSource } from '../../services/pageserver/testing/wal-source.js';
import { BranchTimes } from './branch-times.js';
import type { Recording } from './recording.js';
import type { LimitedServer } from './server.js';
import { bytesBelow } from './server.js';
import type { KnownPage } from './source.js';
import { digestOf } from './source.js';

const MIB = 1 << 20;
const POLL_MS = 100;
/** A server that uses as little processor in as long has done all that there was to do. */
const REST_MS = 1000;
const REST_CPU_S = 0.05;
const TAG_PAGE = 102;
const CALL = { deadlineMs: 3_600_000 };
export const TTID = parseTtid({ tenantId: 'b1'.repeat(16), timelineId: 'a1'.repeat(16) });
const BRANCH = parseTtid({ tenantId: TTID.tenantId, timelineId: 'a2'.repeat(16) });

export const say = (line: string): void => void process.stdout.write(`${line}\n`);
export const mib = (bytes: number): string => `${(bytes / MIB).toFixed(0)} MiB`;

export interface Parts {
  readonly server: LimitedServer;
  readonly source: WalSource;
  readonly recording: Recording;
  readonly random: (below: number) => number;
  /** Pages read when all WAL is in. */
  readonly readCount: number;
  readonly storeDir: string;
}

export async function checkPages(pg: string, timelineId: string, pages: readonly KnownPage[]): Promise<void> {
  const client = await PagestreamClient.open(pg, `pagestream_v3 ${TTID.tenantId} ${timelineId}`);
  for (const { at, rel, block, digest } of pages) {
    const answer = await client.getPage(rel, block, { requestLsn: at, notModifiedSince: at });
    const what = `block ${block} of ${rel.rel} at ${formatLsn(at)}`;
    if (answer.tag !== TAG_PAGE) throw new Error(`${what}: ${answer.body.toString('latin1')}`);
    if (digestOf(answer.body) !== digest) throw new Error(`${what} differs from the standby's`);
  }
  client.close();
}

export async function drive(parts: Parts): Promise<void> {
  using clients = openClients(parts.server.grpc);
  const walBytes = parts.recording.endLsn - parts.recording.startLsn;
  await ingest(parts, clients);
  const { management, history } = clients;
  await callUnary(management, management.runCompaction, { ttid: TTID, forceMerge: false, forceImages: false }, CALL);
  const { server, recording, random, readCount, storeDir } = parts;
  const amplification = (server.writtenBytes() / walBytes).toFixed(2);
  say(`write amplification ${amplification} (all bytes written, uploads included, to bytes of WAL)`);
  const { pages } = recording;
  const startedMs = performance.now();
  await checkPages(
    server.pg,
    TTID.timelineId,
    Array.from({ length: readCount }, () => pages[random(pages.length)]!),
  );
  const msARead = ((performance.now() - startedMs) / readCount).toFixed(1);
  say(`${readCount} random pages at random past LSNs are right, ${msARead} ms each`);
  const stored = () => bytesBelow(storeDir);
  say(`stored with all history: ${mib(stored())}, ${(stored() / walBytes).toFixed(2)} of the WAL`);
  await giveUpHistory(parts, clients);
  const sizes = await callUnary(history, history.getTenantSizes, { tenantId: TTID.tenantId }, CALL);
  const own = sizes.timelines.find(({ timelineId }) => timelineId === TTID.timelineId);
  const logical = Number(own?.logicalSizeBytes ?? 0n);
  const synthetic = mib(Number(sizes.syntheticSizeBytes));
  say(`after giving up history: ${mib(stored())} stored for ${mib(logical)} logical, ${synthetic} synthetic`);
  const space = (stored() / logical).toFixed(2);
  say(`space amplification ${space} (compressed layers to relation sizes, with a branch point)`);
}

interface Clients extends Disposable {
  readonly management: ManagementServiceClient;
  readonly history: HistoryServiceClient;
}

function openClients(grpc: string): Clients {
  const management = createClient(ManagementServiceClient, grpc);
  const history = createClient(HistoryServiceClient, grpc);
  const close = (): void => {
    management.close();
    history.close();
  };
  return { management, history, [Symbol.dispose]: close };
}

async function timelineOf({ management }: Clients): Promise<TimelineInfo> {
  const { timeline } = await callUnary(management, management.getTimeline, { ttid: TTID }, CALL);
  if (timeline === undefined) throw new Error('the page server says nothing of the timeline');
  return timeline;
}

/** Until all WAL is in and uploaded; reads of what is there go on meanwhile, and branches are made as the database grows. */
async function ingest({ server, source, recording, random }: Parts, clients: Clients): Promise<void> {
  const { management } = clients;
  const { startLsn, endLsn, pages } = recording;
  const walBytes = endLsn - startLsn;
  using branches = new BranchTimes(server.grpc, TTID);
  const create = { ttid: TTID, mode: { $case: 'bootstrap', value: { pgMajorVersion: 15 } } } as const;
  const startedMs = performance.now();
  await callUnary(management, management.createTimeline, create, CALL);
  let readCount = 0;
  for (;;) {
    const timeline = await timelineOf(clients);
    const at = Number(timeline.lastRecordLsn);
    const sizeBytes = Number(timeline.logicalSizeBytes);
    const there = pages.filter((page) => page.at <= at);
    if (branches.isDue(sizeBytes) || at >= endLsn) {
      await atRest({ source, clients, server }, ({ lastRecordLsn, layerCount }) => {
        const head = Number(lastRecordLsn);
        const past = (): number => there[random(there.length)]?.at ?? head;
        return branches.note({ sizeBytes, layerCount, head, past });
      });
    }
    if (at >= endLsn) break;
    if (there.length > 0) {
      await checkPages(server.pg, TTID.timelineId, [there[random(there.length)]!]);
      readCount++;
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  const seconds = (performance.now() - startedMs) / 1000;
  await callUnary(management, management.checkpoint, { ttid: TTID }, CALL);
  const rate = (walBytes / MIB / seconds).toFixed(1);
  say(`ingested at ${rate} MiB/s with ${readCount} reads beside, ${server.cpuSeconds().toFixed(0)} s of CPU`);
  branches.lines().forEach(say);
}

/** `act` while no WAL comes, and when what came is uploaded and compacted. */
async function atRest(
  { source, clients, server }: { source: WalSource; clients: Clients; server: LimitedServer },
  act: (timeline: TimelineInfo) => Promise<void>,
): Promise<void> {
  const end = source.availableLsn;
  source.availableLsn = lsn(0);
  let before = -1;
  for (let now = 0; now - before > REST_CPU_S; now = server.cpuSeconds()) {
    before = now;
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
  }
  await act(await timelineOf(clients));
  source.availableLsn = end;
}

/** All but the head and one branch point; then both must still be right, and the rest refused. */
async function giveUpHistory({ server, recording }: Parts, { management, history }: Clients): Promise<void> {
  const { pages, endLsn } = recording;
  const { at } = pages[Math.floor(pages.length / 2)]!;
  const point = { ancestorTimelineId: TTID.timelineId, ancestorStartLsn: BigInt(at) };
  const branch = { ttid: BRANCH, mode: { $case: 'branch', value: point } } as const;
  await callUnary(management, management.createTimeline, branch, CALL);
  await callUnary(management, management.runCompaction, { ttid: TTID, forceMerge: true, forceImages: false }, CALL);
  const request = { ttid: TTID, gcHorizonBytes: 0n, pitrIntervalS: 0 };
  const { cutoffLsn } = await callUnary(management, management.runGc, request, CALL);
  if (Number(cutoffLsn) < endLsn) throw new Error(`the cutoff is ${formatLsn(lsn(Number(cutoffLsn)))}`);
  const done = await callUnary(history, history.compactHistory, { ttid: TTID, force: true }, CALL);
  const { imageLayers, layersRemoved, layersTrimmed } = done;
  say(`merged old history: ${imageLayers} image layers, ${layersRemoved} removed, ${layersTrimmed} trimmed`);
  const pagesAt = (wanted: number) => pages.filter((page) => page.at === wanted);
  await checkPages(server.pg, BRANCH.timelineId, pagesAt(at));
  const last = pages.at(-1)!.at;
  await checkPages(server.pg, TTID.timelineId, last >= Number(cutoffLsn) ? pagesAt(last) : []);
  await mustBeRefused(server.pg, pages[0]!);
}

async function mustBeRefused(pg: string, { at, rel, block }: KnownPage): Promise<void> {
  const client = await PagestreamClient.open(pg, `pagestream_v3 ${TTID.tenantId} ${TTID.timelineId}`);
  const { tag } = await client.getPage(rel, block, { requestLsn: at, notModifiedSince: at });
  client.close();
  if (tag === TAG_PAGE) throw new Error(`a page at ${formatLsn(at)} was read, below the cutoff`);
}
