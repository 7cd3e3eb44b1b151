/** Safekeepers that know of each other through a real broker process. */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { lsn } from '#shared/core/lsn.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { MuteServer } from '#shared/rpc/testing/mute-server.js';
import { silentLogger } from '#shared/runtime/log.js';
import {
  BrokerServiceClient,
  MessageType,
  type SafekeeperTimelineInfo,
  type SubscribeByFilterResponse,
} from '#gen/neon/broker/v1/broker.js';
import { startBroker } from '../testing/broker-process.js';
import { SEG_SIZE, SYSTEM_ID, TestCluster, TTID } from '../testing/cluster.js';
import { electLeader, ScriptedLink } from '../testing/scripted-proposer.js';
import { WalMaker } from '../testing/wal-maker.js';
import { until } from '../testing/wal-reading.js';
import { BrokerLink } from './broker-link.js';

const START = lsn(0x14f_f128);
describe('broker link', () => {
  it('opens one stream of each kind at a time when there is no broker', async () => {
    const cluster = await TestCluster.start(1);
    const timelines = cluster.node(0).safekeeper.timelines;
    const options = { nodeId: 9, grpcAddr: '', httpAddr: '', availabilityZone: '', timelines, log: silentLogger };
    const link = new BrokerLink({ ...options, brokerAddr: '127.0.0.1:1' });
    link.start();
    const began = performance.now();
    await new Promise((resolve) => setTimeout(resolve, 2_600));
    link.stop();
    // One of each at once, then one of each per half second: anything that multiplies is far beyond.
    const rounds = 1 + Math.ceil((performance.now() - began) / 500);
    assert.ok(link.openedCount >= 4 && link.openedCount <= 2 * rounds, `${link.openedCount} streams`);
    await cluster.stop();
  });

  it('finds a broker again after one that took the connection and said nothing', async () => {
    await using mute = await MuteServer.listen();
    const brokerAddr = mute.addr;
    const cluster = await TestCluster.start(1);
    const { timelines } = cluster.node(0).safekeeper;
    const options = { nodeId: 9, grpcAddr: '', httpAddr: '', availabilityZone: '', timelines, log: silentLogger };
    const link = new BrokerLink({ ...options, brokerAddr });
    link.start();
    await mute.connected();
    mute.stopListening();
    const broker = await startBroker(brokerAddr);
    const client = createClient(BrokerServiceClient, brokerAddr);
    try {
      await until(async () => (await callUnary(client, client.getStatus, {})).subscriberCount === 1);
    } finally {
      link.stop();
      client.close();
      await cluster.stop();
      broker.child.kill('SIGTERM');
    }
  });

  it('publishes active timelines, teaches peers, answers discoveries, and outlives a broker', async () => {
    let broker = await startBroker('127.0.0.1:0');
    const cluster = await TestCluster.start(2, broker.addr);
    const client = createClient(BrokerServiceClient, broker.addr);
    const infos: SafekeeperTimelineInfo[] = [];
    const answers: number[] = [];
    const listen = (): void => {
      const types = [MessageType.SAFEKEEPER_TIMELINE_INFO, MessageType.SAFEKEEPER_DISCOVERY_RESPONSE];
      const stream = client.subscribeByFilter({ types, ttid: TTID });
      stream.on('error', () => undefined);
      stream.on('data', ({ message }: SubscribeByFilterResponse) => {
        if (message?.message?.$case === 'safekeeperTimelineInfo') infos.push(message.message.value);
        if (message?.message?.$case === 'safekeeperDiscoveryResponse') {
          answers.push(Number(message.message.value.info?.safekeeperId));
        }
      });
    };
    try {
      listen();
      await cluster.create(START);
      const links = [0, 1].map((index) => new ScriptedLink(cluster.node(index).safekeeper.grpcAddr));
      for (const link of links) await link.greet({ ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE });
      const leader = await electLeader(links, 1, START);
      const wal = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID }).stretch(50_000);
      for (const link of links) {
        link.elect(1, leader.history);
        link.append(1, wal.startLsn, wal.bytes);
      }
      await Promise.all(links.map((link) => link.flushedTo(wal.endLsn)));
      // Only the first is told of the commit; the other learns it from its peer.
      links[0]?.append(1, wal.endLsn, new Uint8Array(0), wal.endLsn);
      await until(async () => (await cluster.status(1)).commitLsn === BigInt(wal.endLsn));
      await until(() => infos.some((info) => info.safekeeperId === 1n && info.commitLsn === BigInt(wal.endLsn)));
      const last = infos.findLast((info) => info.safekeeperId === 1n);
      assert.equal(last?.grpcAddr, cluster.node(0).safekeeper.grpcAddr);
      assert.equal(last?.lastLogTerm, 1n);

      const request = { message: { message: { $case: 'safekeeperDiscoveryRequest', value: { ttid: TTID } } } } as const;
      client.publishOne(request, () => undefined);
      await until(() => answers.includes(1) && answers.includes(2));

      broker.child.kill('SIGKILL');
      await once(broker.child, 'exit');
      broker = await startBroker(broker.addr);
      infos.length = 0;
      listen();
      await until(
        () => infos.some((info) => info.safekeeperId === 1n) && infos.some((info) => info.safekeeperId === 2n),
      );
      for (const link of links) link.close();
    } finally {
      client.close();
      await cluster.stop();
      broker.child.kill('SIGTERM');
    }
  });
});
