import { strict as assert } from 'node:assert';
import { BrokerServiceService } from '#gen/neon/broker/v1/broker.js';
import type { SubscribeByFilterRequest, SubscribeByFilterResponse } from '#gen/neon/broker/v1/broker.js';
import { serverStream } from '#shared/rpc/handlers.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import { MuteServer } from '#shared/rpc/testing/mute-server.js';
import { silentLogger } from '#shared/runtime/log.js';
import { openBrokerFeed } from './broker-feed.js';

describe('broker feed', () => {
  it('finds a broker again after one that took the connection and said nothing', async () => {
    await using mute = await MuteServer.listen();
    const { addr } = mute;
    const feed = openBrokerFeed(addr, silentLogger);
    await mute.connected();
    mute.stopListening();
    const subscribed = Promise.withResolvers<void>();
    const server = await startGrpcServer({
      addr,
      log: silentLogger,
      services: [
        [
          BrokerServiceService,
          {
            subscribeByFilter: serverStream<SubscribeByFilterRequest, SubscribeByFilterResponse>(async () => {
              subscribed.resolve();
              await new Promise(() => undefined);
            }),
          },
        ],
      ],
    });
    try {
      await subscribed.promise;
      assert.equal(feed.isConnected, false);
    } finally {
      feed.close();
      await server.shutdown(0);
    }
  });
});
