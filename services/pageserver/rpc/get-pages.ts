/** PageService.GetPages: batches of pages over one stream, answered in request order. */
import type { GetPagesRequest, GetPagesResponse, Page } from '#gen/neon/pageserver/v1/page_service.js';
import { GetPageStatus } from '#gen/neon/pageserver/v1/page_service.js';
import { errorKind, errorText, StorageError } from '#shared/core/errors.js';
import { parseShardTtid } from '#shared/core/shard.js';
import { bidi } from '#shared/rpc/handlers.js';
import type { PageServiceDeps } from './page-service.js';
import { relTagFromWire, waitReadLsn } from './read-lsn.js';

const BLOCKS_MAX = 256;
/** Pages of one plan: as on the libpq port. */
const BATCH_PAGES_MAX = 32;

export function getPages(deps: PageServiceDeps) {
  return bidi<GetPagesRequest, GetPagesResponse>(async (requests, writer, { signal }) => {
    for await (const request of requests) await writer.write(await answer(deps, request, signal));
  });
}

/** Failures of one request travel in its response; only the end of the server or of the caller ends the stream. */
async function answer(deps: PageServiceDeps, request: GetPagesRequest, signal: AbortSignal): Promise<GetPagesResponse> {
  const { requestId } = request;
  try {
    const pages = await readPages(deps, request, signal);
    return { requestId, status: GetPageStatus.OK, reason: '', pages };
  } catch (error) {
    if (errorKind(error) === 'cancelled') throw new StorageError('unavailable', errorText(error), { cause: error });
    return { requestId, status: statusOf(error), reason: errorText(error), pages: [] };
  }
}

async function readPages(deps: PageServiceDeps, request: GetPagesRequest, signal: AbortSignal): Promise<Page[]> {
  if (request.blockNumbers.length > BLOCKS_MAX) {
    throw new StorageError(
      'invalid',
      `${request.blockNumbers.length} blocks asked for; at most ${BLOCKS_MAX} a request`,
    );
  }
  const rel = relTagFromWire(request.rel);
  const { reader } = deps.timelines.find(parseShardTtid(request.ttid));
  const at = await waitReadLsn(reader, request.readLsn, deps.waitLsnTimeoutMs, signal);
  const wanted = request.blockNumbers.map((block) => ({ ...rel, block }));
  const pages: Page[] = [];
  for (let from = 0; from < wanted.length; from += BATCH_PAGES_MAX) {
    const batch = wanted.slice(from, from + BATCH_PAGES_MAX);
    (await reader.pages(batch, at, signal)).forEach((page, i) => {
      if (page instanceof StorageError) throw page;
      pages.push({ blockNumber: batch[i]!.block, image: Buffer.from(page) });
    });
  }
  return pages;
}

function statusOf(error: unknown): GetPageStatus {
  switch (errorKind(error)) {
    case 'not-found':
      return GetPageStatus.NOT_FOUND;
    case 'invalid':
      return GetPageStatus.INVALID_REQUEST;
    case 'unavailable':
    case 'exhausted':
      return GetPageStatus.SLOW_DOWN;
    default:
      return GetPageStatus.INTERNAL_ERROR;
  }
}
