/** neon.compute.v1.PromotionService, and the same over HTTP. */
import type { FastifyInstance } from 'fastify';
import type { PromotionServiceServer } from '#gen/neon/compute/v1/promotion.js';
import { formatLsn, lsnToWire, type Lsn } from '#shared/core/lsn.js';
import { unary } from '#shared/rpc/handlers.js';

interface Promotable {
  /** Resolves with the position where the new primary began to write. A caller that goes away does not stop it. */
  promote(): Promise<Lsn>;
}

export function promotionService(compute: Promotable): PromotionServiceServer {
  return { promote: unary(async () => ({ startLsn: lsnToWire(await compute.promote()) })) };
}

export function addPromotionRoute(server: FastifyInstance, compute: Promotable): void {
  server.post('/promote', async () => ({ status: 'completed', start_lsn: formatLsn(await compute.promote()) }));
}
