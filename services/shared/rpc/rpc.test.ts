import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { BrokerServiceClient, BrokerServiceService } from '#gen/neon/broker/v1/broker.js';
import type {
  GetStatusRequest,
  GetStatusResponse,
  PublishOneRequest,
  PublishOneResponse,
  PublishSafekeeperInfoRequest,
  PublishSafekeeperInfoResponse,
} from '#gen/neon/broker/v1/broker.js';
import { errorKind, StorageError } from '../core/errors.js';
import { silentLogger } from '../runtime/log.js';
import type { Logger } from '../runtime/log.js';
import { callUnary, createClient } from './client.js';
import { fromGrpcError } from './error-map.js';
import { clientStream, setRpcLogger, unary } from './handlers.js';
import { startGrpcServer } from './server.js';
import type { GrpcServer } from './server.js';
import { bufCurl } from './testing/buf-curl.js';
import { MuteServer } from './testing/mute-server.js';

describe('rpc', () => {
  let server: GrpcServer;
  let client: BrokerServiceClient;
  let cancelled: Promise<void>;
  let onStreaming: () => void = () => undefined;
  /** What a server does with an error of its stream of requests. */
  let rethrow: (error: unknown) => unknown = (error) => error;

  before(async () => {
    let onCancelled: () => void;
    cancelled = new Promise((resolve) => (onCancelled = resolve));
    const implementation = {
      getStatus: unary<GetStatusRequest, GetStatusResponse>(() =>
        Promise.resolve({ subscriberCount: 7, publishedCount: 0n, deliveredCount: 0n, droppedCount: 0n }),
      ),
      publishOne: unary<PublishOneRequest, PublishOneResponse>(async (request, { signal }) => {
        if (request.message === undefined) throw new StorageError('fenced', 'a newer one owns this');
        await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason as Error)));
        return { subscriberCount: 0 };
      }),
      publishSafekeeperInfo: clientStream<PublishSafekeeperInfoRequest, PublishSafekeeperInfoResponse>(
        async (requests) => {
          try {
            for await (const _ of requests) onStreaming();
          } catch (error) {
            throw rethrow(error);
          }
          return { acceptedCount: 0n };
        },
      ),
      subscribeSafekeeperInfo: () => undefined,
      subscribeByFilter: () => undefined,
    };
    const publishOne = implementation.publishOne;
    implementation.publishOne = (call, callback) => {
      call.on('cancelled', () => onCancelled());
      publishOne(call, callback);
    };
    server = await startGrpcServer({
      addr: '127.0.0.1:0',
      log: silentLogger,
      services: [[BrokerServiceService, implementation]],
    });
    client = createClient(BrokerServiceClient, server.addr);
  });

  after(async () => {
    client.close();
    await server.shutdown(100);
  });

  it('answers a unary call', async () => {
    assert.equal((await callUnary(client, client.getStatus, {})).subscriberCount, 7);
  });

  it('carries the exact error kind across', async () => {
    const failure = callUnary(client, client.publishOne, { message: undefined });
    await assert.rejects(failure, (error: StorageError) => {
      assert.equal(error.kind, 'fenced');
      assert.equal(error.message, 'a newer one owns this');
      return true;
    });
  });

  it('tells the server that the caller went away, and the caller that it timed out', async () => {
    const message = { message: { $case: 'safekeeperDiscoveryRequest' as const, value: { ttid: undefined } } };
    const controller = new AbortController();
    const call = callUnary(client, client.publishOne, { message }, { signal: controller.signal });
    setTimeout(() => controller.abort(), 30);
    await assert.rejects(call, (error) => errorKind(error) === 'cancelled');
    await cancelled;
    await assert.rejects(
      callUnary(client, client.publishOne, { message }, { deadlineMs: 50 }),
      (error) => errorKind(error) === 'unavailable',
    );
  });

  it('takes a caller that vanishes in the middle of its stream for gone, not for an error', async () => {
    for (const wrap of [
      (error: unknown) => error,
      (error: unknown) => new StorageError('internal', 'could not import', { cause: error }),
    ]) {
      rethrow = wrap;
      const [line] = await vanishMidway();
      assert.match(line ?? '', /^rpc refused the caller went away: .*Premature close/);
    }
  });

  /** What the server logs when its caller's machine dies in the middle of a stream. */
  async function vanishMidway(): Promise<string[]> {
    const { promise: streaming, resolve } = Promise.withResolvers<void>();
    onStreaming = resolve;
    const logged: string[] = [];
    const note = (fields: { reason?: unknown }, message: string): void =>
      void logged.push(`${message} ${String(fields.reason)}`);
    setRpcLogger({ ...silentLogger, error: note, debug: note } as unknown as Logger);
    try {
      // Between the two stands a proxy, so that the caller can be lost as if its machine had died.
      const proxy = createServer((inner) => {
        const outer = connect(Number(server.addr.split(':')[1]), '127.0.0.1');
        for (const [from, to] of [
          [inner, outer],
          [outer, inner],
        ] as const)
          from.on('error', () => undefined).pipe(to);
        void streaming.then(() => [inner, outer].forEach((socket) => socket.resetAndDestroy()));
      });
      await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
      const caller = createClient(BrokerServiceClient, `127.0.0.1:${(proxy.address() as AddressInfo).port}`);
      const call = caller.publishSafekeeperInfo(() => undefined);
      call.on('error', () => undefined);
      call.write({ info: undefined });
      await streaming;
      proxy.close();
      caller.close();
      while (logged.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
      return logged;
    } finally {
      setRpcLogger(silentLogger);
    }
  }

  it('reports an unreachable server as unavailable', async () => {
    const nobody = createClient(BrokerServiceClient, '127.0.0.1:1');
    await assert.rejects(callUnary(nobody, nobody.getStatus, {}), (error) => errorKind(error) === 'unavailable');
    nobody.close();
  });

  it('gives up a stream to somebody who takes the connection and says nothing', async () => {
    await using mute = await MuteServer.listen();
    const caller = createClient(BrokerServiceClient, mute.addr);
    const subscription = caller.subscribeByFilter({ types: [], ttid: undefined });
    const published = Promise.withResolvers<Error | null>();
    caller.publishSafekeeperInfo(published.resolve).on('error', () => undefined);
    const [error] = (await once(subscription, 'error')) as [Error];
    assert.equal(fromGrpcError(error).kind, 'unavailable');
    assert.equal(fromGrpcError(await published.promise).kind, 'unavailable');
    // It connects anew; then the caller has enough, and nothing is left of that either.
    while (mute.openCount === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    caller.close();
    while (mute.openCount > 0) await new Promise((resolve) => setTimeout(resolve, 5));
  });

  it('serves reflection and health to a foreign client', async () => {
    const url = `http://${server.addr}`;
    const listed = await bufCurl('--list-services', url);
    assert.deepEqual(listed.split('\n').sort(), ['grpc.health.v1.Health', 'neon.broker.v1.BrokerService']);
    const status = await bufCurl('-d', '{}', `${url}/neon.broker.v1.BrokerService/GetStatus`);
    assert.deepEqual(JSON.parse(status), { subscriberCount: 7 });
    const health = await bufCurl(
      '-d',
      '{"service":"neon.broker.v1.BrokerService"}',
      `${url}/grpc.health.v1.Health/Check`,
    );
    assert.deepEqual(JSON.parse(health), { status: 'SERVING' });
  });
});
