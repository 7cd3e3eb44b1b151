/** neon.compute.v1.PromotionService, and the same over HTTP. */
import type { FastifyInstance } from 'fastify';
import type { PromotionServiceServer } from '#gen/neon/compute/v1/promotion.js';
import { formatLsn, lsnFromWire } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';

/** Resolves with the position where the new primary began to write. A caller that goes away does not stop it. */
type Promote = () => Promise<bigint>;

export function promotionService(promote: Promote): PromotionServiceServer {
  return { promote: unary(async () => ({ startLsn: await promote() })) };
}

export function addPromotionRoute(server: FastifyInstance, promote: Promote): void {
  server.post('/promote', async () => ({ status: 'completed', start_lsn: formatLsn(lsnFromWire(await promote())) }));
}
