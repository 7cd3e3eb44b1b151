/** PageService.GetSlruSegment. */
import type { GetSlruSegmentRequest, GetSlruSegmentResponse } from '#gen/neon/pageserver/v1/page_service.js';
import { SlruKind } from '#gen/neon/pageserver/v1/page_service.js';
import { StorageError } from '#shared/core/errors.js';
import { parseShardTtid } from '#shared/core/shard.js';
import { unary } from '#shared/rpc/handlers.js';
import { SLRU_CLOG, SLRU_DIRECTORIES, SLRU_MULTIXACT_MEMBERS, SLRU_MULTIXACT_OFFSETS } from '../core/keyspace.js';
import type { PageServiceDeps } from './page-service.js';
import { waitReadLsn } from './read-lsn.js';

export function getSlruSegment(deps: PageServiceDeps) {
  return unary<GetSlruSegmentRequest, GetSlruSegmentResponse>(async (request, { signal }) => {
    const kind = kindFromWire(request.kind);
    const { reader } = deps.timelines.find(parseShardTtid(request.ttid));
    const at = await waitReadLsn(reader, request.readLsn, deps.waitLsnTimeoutMs, signal);
    const segment = await reader.slruSegment(kind, request.segmentNumber, at);
    if (segment === null) {
      const name = request.segmentNumber.toString(16).toUpperCase().padStart(4, '0');
      throw new StorageError('not-found', `${SLRU_DIRECTORIES[kind]}/${name} does not exist at that LSN`);
    }
    return { segment: Buffer.from(segment) };
  });
}

function kindFromWire(kind: SlruKind): number {
  switch (kind) {
    case SlruKind.CLOG:
      return SLRU_CLOG;
    case SlruKind.MULTIXACT_MEMBERS:
      return SLRU_MULTIXACT_MEMBERS;
    case SlruKind.MULTIXACT_OFFSETS:
      return SLRU_MULTIXACT_OFFSETS;
    default:
      throw new StorageError('invalid', 'the request names no SLRU (kind is required)');
  }
}
