/**
 * Does once, for nothing, what a start does for the first time: a first RPC loads and compiles gRPC's client, a first spec the checks of its
 * schema. Together that is a tenth of a start, which a process that waits for its spec can have behind it.
 */
import { HealthClient } from '#gen/grpc/health/v1/health.js';
import { errorText } from '#shared/core/errors.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import type { Logger } from '#shared/runtime/log.js';
import { likelyConf } from './core/likely-spec.js';

/** `addr`: of a gRPC server of this process. Never rejects: a start works without. */
export async function warmUp(addr: string, log: Logger): Promise<void> {
  try {
    likelyConf();
    const client = createClient(HealthClient, addr);
    await callUnary(client, client.check, { service: '' });
    client.close();
  } catch (error) {
    log.debug({ reason: errorText(error) }, 'could not warm up');
  }
}
