/** The vm-monitor over a real WebSocket, talked to as an autoscaler-agent does. */
import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import { WebSocket } from 'ws';
import { silentLogger } from '#shared/runtime/log.js';
import { startVmMonitor, type VmMonitorServer } from './vm-monitor-server.js';

const MIB = 1 << 20;
const GIB = 1 << 30;

class Agent {
  private readonly socket: WebSocket;
  private readonly frames: string[] = [];
  private wake: () => void = () => undefined;
  readonly closed: Promise<unknown>;

  constructor(addr: string) {
    this.socket = new WebSocket(`ws://${addr}/monitor`);
    this.socket.on('error', () => undefined);
    this.socket.on('message', (data) => {
      this.frames.push((data as Buffer).toString('utf8'));
      this.wake();
    });
    this.closed = once(this.socket, 'close');
  }

  async open(): Promise<this> {
    await once(this.socket, 'open');
    return this;
  }

  send(value: unknown): void {
    this.socket.send(typeof value === 'string' ? value : JSON.stringify(value));
  }

  /** The next frame as it came. */
  async receive(): Promise<string> {
    while (this.frames.length === 0) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.frames.shift() ?? '';
  }

  close(): void {
    this.socket.terminate();
  }
}

describe('vm-monitor over WebSocket', function () {
  this.timeout(30_000);
  let server: VmMonitorServer;
  let used: number;
  let totalBytes: number;
  let cacheFails = false;
  const sizes: number[] = [];
  const agents: Agent[] = [];

  beforeEach(async () => {
    used = 100 * MIB;
    totalBytes = 4 * GIB;
    cacheFails = false;
    sizes.length = 0;
    server = await startVmMonitor({
      addr: '127.0.0.1:0',
      log: silentLogger,
      measure: () => Promise.resolve({ totalBytes, usedBytes: () => Promise.resolve(used) }),
      setCacheMib: async (mib) => {
        if (cacheFails) throw new Error('no server');
        sizes.push(mib);
        return Math.min(mib, 2_000);
      },
    });
  });
  afterEach(async () => {
    for (const agent of agents.splice(0)) agent.close();
    await server.close();
  });

  async function connected(): Promise<Agent> {
    const agent = await new Agent(server.addr).open();
    agents.push(agent);
    agent.send({ min: 1, max: 1 });
    assert.equal(await agent.receive(), '{"version":1}');
    return agent;
  }
  const downscale = (id: number, mem: number) => ({
    content: { target: { cpu: 0.25, mem } },
    type: 'DownscaleRequest',
    id,
  });

  it('answers in flat envelopes with the request’s id, resizes the cache, and says why not', async () => {
    const agent = await connected();
    agent.send({ content: {}, type: 'HealthCheck', id: 2 });
    assert.equal(await agent.receive(), '{"type":"HealthCheck","id":2}');
    agent.send({ content: { granted: { cpu: 1, mem: GIB } }, type: 'UpscaleNotification', id: 4 });
    assert.equal(await agent.receive(), '{"type":"UpscaleConfirmation","id":4}');
    assert.deepEqual(sizes, [3072, 607]);
    let answer: { Ok: boolean; Status: string; id: number };
    let id = 6;
    do {
      agent.send(downscale(id, 512 * MIB));
      answer = JSON.parse(await agent.receive()) as typeof answer;
      assert.equal(answer.id, id);
      id += 2;
    } while (answer.Status.startsWith("haven't received enough"));
    assert.ok(answer.Ok, answer.Status);
    assert.match(answer.Status, /^set file cache size to 141 MiB; set cgroup memory threshold from 785 MiB to 350 MiB/);
    used = 400 * MIB;
    do {
      agent.send(downscale(id, 512 * MIB));
      answer = JSON.parse(await agent.receive()) as typeof answer;
      id += 2;
    } while (answer.Ok === true || !('Status' in answer));
    assert.match(answer.Status, /^calculated memory threshold too low/);
  });

  it('asks for memory with odd ids, and turns a failure into InternalError', async () => {
    const agent = await connected();
    used = 3.9 * GIB;
    assert.equal(await agent.receive(), '{"type":"UpscaleRequest","id":3}');
    used = 0;
    cacheFails = true;
    agent.send({ content: { granted: { cpu: 1, mem: GIB } }, type: 'UpscaleNotification', id: 2 });
    let frame = await agent.receive();
    while (frame.includes('UpscaleRequest')) frame = await agent.receive();
    assert.equal(frame, '{"type":"InternalError","id":2,"error":"failed to handle upscale"}');
  });

  it('refuses versions it does not speak, drops what it does not understand, and has one agent at a time', async () => {
    const stranger = await new Agent(server.addr).open();
    agents.push(stranger);
    stranger.send({ min: 2, max: 3 });
    assert.match(await stranger.receive(), /^\{"error":"Received protocol version range/);
    await stranger.closed;
    const first = await connected();
    const second = await connected();
    await first.closed;
    second.send('{ not json');
    await second.closed;
    const third = await connected();
    third.send({ content: {}, type: 'HealthCheck', id: 2 });
    assert.equal(await third.receive(), '{"type":"HealthCheck","id":2}');
  });

  it('measures anew for each agent', async () => {
    const first = await connected();
    first.send({ content: {}, type: 'HealthCheck', id: 2 });
    await first.receive();
    totalBytes = GIB;
    const second = await connected();
    second.send({ content: {}, type: 'HealthCheck', id: 2 });
    await second.receive();
    assert.deepEqual(sizes, [3072, 698]);
  });
});
