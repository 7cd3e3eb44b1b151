import { strict as assert } from 'node:assert';
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from './stack.js';
import { TcpProxy } from './tcp-proxy.js';
import type { Weather } from './tcp-proxy.js';

const HOST = '127.0.0.1';
const SILENCE_MS = 100;
const BYTES = Buffer.alloc(5_000_000, 'x');

class World implements AsyncDisposable {
  weather: Weather = { kind: 'clear' };
  readonly served: net.Socket[] = [];
  proxy!: TcpProxy;
  private readonly clients: net.Socket[] = [];
  private server!: net.Server;

  /** A service that says back what it hears, behind a proxy. */
  static async open(): Promise<World> {
    const world = new World();
    world.server = net.createServer((socket) => {
      world.served.push(socket);
      socket.on('error', () => undefined);
      socket.pipe(socket);
    });
    world.server.listen(0, HOST);
    await once(world.server, 'listening');
    const { port } = world.server.address() as net.AddressInfo;
    world.proxy = await TcpProxy.listen({
      targetPort: () => port,
      clientOf: () => Promise.resolve('client'),
      weatherFor: () => world.weather,
    });
    return world;
  }

  change(weather: Weather): void {
    this.weather = weather;
    this.proxy.refresh();
  }

  async connect(): Promise<{ socket: net.Socket; heard: () => string; error: () => string }> {
    const socket = net.connect(this.proxy.port, HOST);
    this.clients.push(socket);
    let heard = '';
    let error = '';
    socket.on('data', (bytes) => (heard += bytes.toString()));
    socket.on('error', (reason: NodeJS.ErrnoException) => (error = reason.code ?? ''));
    await once(socket, 'connect');
    return { socket, heard: () => heard, error: () => error };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.clients) socket.destroy();
    await this.proxy[Symbol.asyncDispose]();
    this.server.close();
  }
}

describe('a proxy with weather', () => {
  it('passes bytes and ends', async () => {
    await using world = await World.open();
    const { socket, heard } = await world.connect();
    socket.end(BYTES);
    await once(socket, 'close');
    assert.equal(heard().length, BYTES.length);
    await until('the passage to be over', 1_000, () => Promise.resolve(world.proxy.passages.size === 0));
  });

  it('resets what is open and what comes when it is cut', async () => {
    await using world = await World.open();
    const open = await world.connect();
    open.socket.write('a');
    await until('an answer', 1_000, () => Promise.resolve(open.heard() === 'a'));
    world.change({ kind: 'cut' });
    await until('a reset', 1_000, () => Promise.resolve(open.error() === 'ECONNRESET'));
    const late = net.connect(world.proxy.port, HOST);
    await assert.rejects(once(late, 'end'), { code: 'ECONNRESET' });
    world.change({ kind: 'clear' });
    const { socket, heard } = await world.connect();
    socket.write('b');
    await until('an answer', 1_000, () => Promise.resolve(heard() === 'b'));
  });

  it('keeps bytes back while it is silent, in one direction or both', async () => {
    await using world = await World.open();
    const { socket, heard } = await world.connect();
    for (const directions of [['up'], ['down'], ['up', 'down']] as const) {
      const before = heard();
      world.change({ kind: 'silent', directions });
      socket.write('x');
      const late = await world.connect();
      late.socket.write('y');
      await sleep(SILENCE_MS);
      assert.equal(heard(), before);
      assert.equal(late.heard(), '');
      world.change({ kind: 'clear' });
      await until('what was held back', 1_000, () => Promise.resolve(heard() === `${before}x` && late.heard() === 'y'));
    }
  });

  it('tells a client nothing of a service that closed in a silence', async () => {
    await using world = await World.open();
    const { socket, heard } = await world.connect();
    socket.write('x');
    await until('an answer', 1_000, () => Promise.resolve(heard() === 'x'));
    world.change({ kind: 'silent', directions: ['up', 'down'] });
    world.served[0]?.destroy();
    await sleep(SILENCE_MS);
    assert.equal(socket.destroyed, false);
    world.change({ kind: 'clear' });
    await until('the end', 1_000, () => Promise.resolve(socket.destroyed));
  });

  it('forgets', async () => {
    await using world = await World.open();
    const { socket, heard } = await world.connect();
    socket.write('x');
    await until('an answer', 1_000, () => Promise.resolve(heard() === 'x'));
    const [passage] = world.proxy.passages;
    passage?.forget();
    socket.write('y');
    await sleep(SILENCE_MS);
    assert.equal(heard(), 'x');
    assert.deepEqual(passage?.openSides, ['up', 'down']);
    socket.destroy();
    await until('the near side to be closed', 1_000, () => Promise.resolve(passage?.openSides.join() === 'down'));
    await sleep(SILENCE_MS);
    assert.equal(world.served[0]?.destroyed, false);
    world.served[0]?.destroy();
    await until('the passage to be over', 1_000, () => Promise.resolve(world.proxy.passages.size === 0));
  });

  it('is slow', async () => {
    await using world = await World.open();
    world.change({ kind: 'slow', delayMs: SILENCE_MS });
    const startMs = performance.now();
    const { socket, heard } = await world.connect();
    socket.write('x');
    await until('an answer', 5_000, () => Promise.resolve(heard() === 'x'));
    assert.ok(performance.now() - startMs >= 2 * SILENCE_MS);
  });
});
