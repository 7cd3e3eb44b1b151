/** PageService.GetRelSize and GetDbSize. */
import type {
  GetDbSizeRequest,
  GetDbSizeResponse,
  GetRelSizeRequest,
  GetRelSizeResponse,
} from '#gen/neon/pageserver/v1/page_service.js';
import { parseShardTtid } from '#shared/core/shard.js';
import { unary } from '#shared/rpc/handlers.js';
import { relationNotFound } from '../edge/page-reader.js';
import type { PageServiceDeps } from './page-service.js';
import { relTagFromWire, waitReadLsn } from './read-lsn.js';

export function getRelSize(deps: PageServiceDeps) {
  return unary<GetRelSizeRequest, GetRelSizeResponse>(async (request, { signal }) => {
    const rel = relTagFromWire(request.rel);
    const { reader } = deps.timelines.find(parseShardTtid(request.ttid));
    const at = await waitReadLsn(reader, request.readLsn, deps.waitLsnTimeoutMs, signal);
    const blockCount = await reader.relSize(rel, at);
    if (blockCount === null && !request.allowMissing) throw relationNotFound(rel);
    return { blockCount: blockCount ?? 0, missing: blockCount === null };
  });
}

export function getDbSize(deps: PageServiceDeps) {
  return unary<GetDbSizeRequest, GetDbSizeResponse>(async (request, { signal }) => {
    const { reader } = deps.timelines.find(parseShardTtid(request.ttid));
    const at = await waitReadLsn(reader, request.readLsn, deps.waitLsnTimeoutMs, signal);
    return { sizeBytes: BigInt(await reader.dbSize(request.dbOid, at)) };
  });
}
