/** PageService.GetFirstPages: a compute's first reads, answered before it asks. */
import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import type { GetFirstPagesRequest, GetFirstPagesResponse } from '#gen/neon/pageserver/v1/page_service.js';
import { asStorageError, StorageError } from '#shared/core/errors.js';
import { parseTimelineId } from '#shared/core/ids.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsnFromWire } from '#shared/core/lsn.js';
import { parseShardTtid } from '#shared/core/shard.js';
import { serverStream } from '#shared/rpc/handlers.js';
import { firstPagesFile } from '#shared/postgres/first-pages-file.js';
import type { ForkLength, PageImage } from '#shared/postgres/first-pages-file.js';
import type { FirstReadList } from '../core/first-reads.js';
import { BLOCK_BYTES, FORK_FSM, FORK_VM, type RelTag } from '../core/keyspace.js';
import type { PageAddress, PageReader } from '../edge/page-reader.js';
import type { ActiveTimeline } from '../tenant/active-timeline.js';
import { waitBackupLsn } from './base-backup.js';
import type { PageServiceDeps } from './page-service.js';

const CHUNK_BYTES = 256 * 1024;
const FAST = { [constants.ZSTD_c_compressionLevel]: 1 };
/** Of one plan. */
const PAGES_AT_ONCE = 64;

export function getFirstPages(deps: PageServiceDeps) {
  return serverStream<GetFirstPagesRequest, GetFirstPagesResponse>(async (request, writer, { signal }) => {
    const timeline = deps.timelines.find(parseShardTtid(request.ttid));
    const lsn = await waitBackupLsn(timeline, lsnFromWire(request.lsn), deps.waitLsnTimeoutMs, signal);
    const list = firstReadsOf(deps, timeline);
    const release = timeline.store.history.hold(lsn);
    try {
      const { reader } = timeline;
      const lengths = await lengthsOf(reader, list, lsn);
      const images = await imagesOf(reader, list, lsn, signal);
      const file = firstPagesFile(lsn, lengths, images);
      if (file.length === 0) return;
      // A quarter of it, and the compute has better to do than to receive.
      const packed = await promisify(zstdCompress)(Buffer.concat(file), { params: FAST });
      for (let at = 0; at < packed.length; at += CHUNK_BYTES) {
        await writer.write({ chunk: packed.subarray(at, at + CHUNK_BYTES) });
      }
    } finally {
      release();
    }
  });
}

/** The timeline's own, else those of the nearest ancestor that has some. What this compute reads is noted from now on. */
function firstReadsOf(deps: PageServiceDeps, timeline: ActiveTimeline): FirstReadList {
  const own = timeline.reader.firstReads;
  own.begin(performance.now());
  for (let from = timeline; own.isEmpty && from.store.ancestor !== null;) {
    const timelineId = parseTimelineId(from.store.ancestor.timelineId);
    from = deps.timelines.find({ tenantId: from.ttid.tenantId, timelineId });
    own.adopt(from.reader.firstReads);
  }
  return own.list();
}

/** What cannot be read (dropped meanwhile, of another shard) is left out here and below: a compute asks for what it does not get. */
async function lengthsOf(reader: PageReader, { lengths }: FirstReadList, at: Lsn): Promise<ForkLength[]> {
  const known = await Promise.all(lengths.map(async (rel) => ({ rel, blocks: await blocksOf(reader, rel, at) })));
  return known.flatMap(({ rel, blocks }) => (blocks === null ? [] : [{ rel, blocks }]));
}

async function blocksOf(reader: PageReader, rel: RelTag, at: Lsn): Promise<number | null> {
  try {
    const blocks = await reader.relSize(rel, at);
    return blocks === null && (rel.fork === FORK_FSM || rel.fork === FORK_VM) ? 0 : blocks;
  } catch (error) {
    if (asStorageError(error).kind === 'cancelled') throw error;
    return null;
  }
}

async function imagesOf(
  reader: PageReader,
  { pages }: FirstReadList,
  at: Lsn,
  signal: AbortSignal,
): Promise<PageImage[]> {
  const images: PageImage[] = [];
  for (let from = 0; from < pages.length; from += PAGES_AT_ONCE) {
    const part = pages.slice(from, from + PAGES_AT_ONCE);
    const outcomes = await reader.pages(part, at, signal);
    outcomes.forEach((outcome, i) => images.push(...imageOf(part[i]!, outcome)));
  }
  return images;
}

function imageOf({ block, ...rel }: PageAddress, image: Uint8Array | StorageError): PageImage[] {
  // Zeros are behind the end, or a page that says nothing.
  if (image instanceof StorageError || image.length !== BLOCK_BYTES || isZero(image)) return [];
  return [{ rel, block, image }];
}

/** A page that is not all zeros has something in its header: pd_lower and pd_upper at the least. */
function isZero(page: Uint8Array): boolean {
  return page.subarray(0, 24).every((byte) => byte === 0);
}
