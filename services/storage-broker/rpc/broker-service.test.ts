import { strict as assert } from 'node:assert';
import { on } from 'node:events';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { silentLogger } from '#shared/runtime/log.js';
import { BrokerServiceClient, MessageType, type TypedMessage } from '#gen/neon/broker/v1/broker.js';
import { readConfig } from '../config.js';
import { startBroker, type Broker } from '../context.js';
import { TIMELINE_QUEUE_COUNT_MAX } from '../core/registry.js';

const TTID = { tenantId: '1'.repeat(32), timelineId: '2'.repeat(32) };
const OTHER = { tenantId: '1'.repeat(32), timelineId: '3'.repeat(32) };

function info(ttid: typeof TTID, flushLsn: number, padding = ''): TypedMessage {
  const zero = { term: 0n, lastLogTerm: 0n, commitLsn: 0n, backupLsn: 0n, remoteConsistentLsn: 0n, peerHorizonLsn: 0n };
  return {
    message: {
      $case: 'safekeeperTimelineInfo',
      value: {
        ...zero,
        safekeeperId: 1n,
        ttid,
        flushLsn: BigInt(flushLsn),
        localStartLsn: 0n,
        grpcAddr: '127.0.0.1:1',
        httpAddr: '',
        availabilityZone: padding,
        standbyHorizon: 0n,
      },
    },
  };
}

function flushOf(message: TypedMessage | undefined): number | null {
  return message?.message?.$case === 'safekeeperTimelineInfo' ? Number(message.message.value.flushLsn) : null;
}

describe('broker over gRPC', () => {
  let broker: Broker;
  let client: BrokerServiceClient;

  beforeEach(async () => {
    broker = await startBroker(readConfig(['--listen-grpc', '127.0.0.1:0'], {}), { log: silentLogger });
    client = createClient(BrokerServiceClient, broker.grpcAddr);
  });
  afterEach(async () => {
    client.close();
    await broker.stop();
  });

  const subscribed = async (count: number): Promise<void> => {
    while (broker.registry.subscriberCount !== count) await new Promise((resolve) => setTimeout(resolve, 5));
  };

  it('carries what was published to matching subscribers, and counts', async () => {
    const types = [MessageType.SAFEKEEPER_TIMELINE_INFO];
    const stream = client.subscribeByFilter({ types, ttid: TTID });
    stream.on('error', () => undefined);
    const all = client.subscribeSafekeeperInfo({ ttid: undefined });
    all.on('error', () => undefined);
    await subscribed(2);
    for (let n = 1; n <= 3; n++) await callUnary(client, client.publishOne, { message: info(OTHER, 100 + n) });
    const published = await callUnary(client, client.publishOne, { message: info(TTID, 7) });
    assert.equal(published.subscriberCount, 2);
    for await (const [response] of on(stream, 'data') as AsyncIterable<[{ message?: TypedMessage }]>) {
      assert.equal(flushOf(response.message), 7);
      break;
    }
    const seen: number[] = [];
    for await (const [response] of on(all, 'data') as AsyncIterable<[{ info?: { flushLsn: bigint } }]>) {
      seen.push(Number(response.info?.flushLsn));
      if (seen.length === 4) break;
    }
    assert.deepEqual(seen, [101, 102, 103, 7]);
    const status = await callUnary(client, client.getStatus, {});
    assert.deepEqual(status, { subscriberCount: 2, publishedCount: 4n, deliveredCount: 5n, droppedCount: 0n });
    stream.cancel();
    all.cancel();
    await subscribed(0);
  });

  it('takes a stream of infos', async () => {
    const accepted = await new Promise<bigint>((resolve, reject) => {
      const stream = client.publishSafekeeperInfo((error, response) => {
        if (error) reject(error);
        else resolve(response.acceptedCount);
      });
      const message = info(TTID, 1).message;
      assert.ok(message?.$case === 'safekeeperTimelineInfo');
      for (let n = 0; n < 10; n++) stream.write({ info: message.value });
      stream.end();
    });
    assert.equal(accepted, 10n);
    assert.equal(broker.registry.publishedCount, 10);
  });

  it('refuses what names no timeline or no type', async () => {
    await assert.rejects(callUnary(client, client.publishOne, { message: undefined }), { kind: 'invalid' });
    const bad = { tenantId: 'x', timelineId: '2'.repeat(32) };
    await assert.rejects(callUnary(client, client.publishOne, { message: info(bad, 1) }), { kind: 'invalid' });
    const stream = client.subscribeByFilter({ types: [], ttid: undefined });
    const error = await new Promise<Error>((resolve) => stream.on('error', resolve));
    assert.match(error.message, /at least one message type/);
  });

  it('drops the oldest for a subscriber that does not read, and holds no more than its queue', async () => {
    const stream = client.subscribeByFilter({ types: [MessageType.SAFEKEEPER_TIMELINE_INFO], ttid: TTID });
    stream.on('error', () => undefined);
    const seen: (number | null)[] = [];
    let whenSeen: () => void = () => undefined;
    stream.on('data', (response: { message?: TypedMessage }) => {
      seen.push(flushOf(response.message));
      whenSeen();
    });
    await subscribed(1);
    // grpc-js reads without bound until its stream was read once.
    const first = new Promise<void>((resolve) => (whenSeen = resolve));
    await callUnary(client, client.publishOne, { message: info(TTID, 0) });
    await first;
    stream.pause();
    // Far more than the windows of the connection hold.
    const padding = 'z'.repeat(64 * 1024);
    const count = 400;
    for (let n = 1; n <= count; n++) await callUnary(client, client.publishOne, { message: info(TTID, n, padding) });
    assert.ok(broker.registry.droppedCount > 0);
    assert.ok(broker.registry.droppedCount + broker.registry.deliveredCount >= count - TIMELINE_QUEUE_COUNT_MAX);
    const last = new Promise<void>((resolve) => {
      whenSeen = () => (seen.at(-1) === count ? resolve() : undefined);
    });
    stream.resume();
    await last;
    assert.equal(seen.length + broker.registry.droppedCount, count + 1);
    assert.deepEqual(
      seen,
      [...seen].sort((a, b) => Number(a) - Number(b)),
    );
    stream.cancel();
    await subscribed(0);
  });
});
