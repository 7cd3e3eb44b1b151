import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { BrokerServiceService } from '#gen/neon/broker/v1/broker.js';
import type { SubscribeByFilterRequest, SubscribeByFilterResponse } from '#gen/neon/broker/v1/broker.js';
import { serverStream } from '#shared/rpc/handlers.js';
import { startGrpcServer } from '#shared/rpc/server.js';
import { silentLogger } from '#shared/runtime/log.js';
import { openBrokerFeed } from './broker-feed.js';

describe('broker feed', () => {
  it('finds a broker again after one that took the connection and said nothing', async () => {
    const mute = createServer();
    mute.listen(0, '127.0.0.1');
    await once(mute, 'listening');
    const sockets: Socket[] = [];
    mute.on('connection', (socket) => sockets.push(socket));
    const addr = `127.0.0.1:${(mute.address() as AddressInfo).port}`;
    const feed = openBrokerFeed(addr, silentLogger);
    await once(mute, 'connection');
    // What is open stays open, as behind a firewall that lost its memory.
    mute.close();
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
      for (const socket of sockets) socket.destroy();
      await server.shutdown(0);
    }
  });
});
