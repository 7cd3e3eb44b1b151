/** For tests: WAL of TTID as a page server reads it. */
import { lsnToWire, type Lsn } from '#shared/core/lsn.js';
import { createClient } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';
import { WalServiceClient, type StreamWalResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { TTID } from './cluster.js';

/** Reads [from, to) by StreamWal. */
export async function readWal(addr: string, from: Lsn, to: Lsn): Promise<Buffer> {
  const client = createClient(WalServiceClient, addr);
  const stream = client.streamWal();
  const pieces: Buffer[] = [];
  const range = { startLsn: lsnToWire(from), endLsn: lsnToWire(to), term: undefined };
  stream.write({ message: { $case: 'start', value: { ttid: TTID, ...range, clientName: 'test' } } });
  try {
    for await (const response of stream as AsyncIterable<StreamWalResponse>) pieces.push(response.walData);
  } catch (error) {
    throw fromGrpcError(error);
  } finally {
    client.close();
  }
  return Buffer.concat(pieces);
}

/** Says, as a page server does, that WAL below is in layers in the object store. */
export async function acknowledgeWal(addr: string, upTo: Lsn): Promise<void> {
  const client = createClient(WalServiceClient, addr);
  const stream = client.streamWal();
  stream.on('error', () => undefined);
  const at = lsnToWire(upTo);
  const start = { ttid: TTID, startLsn: at, endLsn: undefined, term: undefined, clientName: 'test' };
  stream.write({ message: { $case: 'start', value: start } });
  const positions = { lastReceivedLsn: at, diskConsistentLsn: at, remoteConsistentLsn: at };
  const feedback = { ...positions, currentTimelineSizeBytes: 0n, replyTimeUs: 1n };
  stream.write({ message: { $case: 'feedback', value: feedback } });
  // The first keepalive comes after the feedback was taken.
  await new Promise<void>((resolve) => stream.once('data', () => resolve()));
  stream.cancel();
  client.close();
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20));
}
