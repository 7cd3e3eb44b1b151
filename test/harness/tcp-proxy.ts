/**
 * A TCP forwarder that behaves as badly as a network does. Each connection (a passage) has a weather, given by who connected; it may change at any
 * time:
 *
 *   clear    bytes pass
 *   cut      what is open is reset, what comes too
 *   silent   connections stay, or are taken, and nothing passes in the given direction; bytes wait where they are, as they do in TCP
 *   slow     each piece is late
 *
 * A passage can be forgotten, as a firewall forgets one: nothing passes any more, and neither side is told, not even that the other one closed.
 *
 * Memory is bounded: one piece (64 KiB) in each direction; beyond, the sender's socket is not read.
 */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** `up`: from the client to the service. */
export type Direction = 'up' | 'down';

export type Weather =
  | { readonly kind: 'clear' }
  | { readonly kind: 'cut' }
  | { readonly kind: 'silent'; readonly directions: readonly Direction[] }
  | { readonly kind: 'slow'; readonly delayMs: number };

export interface ProxyOptions {
  /** Where it forwards to; null: nobody listens there. */
  readonly targetPort: () => number | null;
  /** Who connected; asked once for each connection. */
  readonly clientOf: (socket: net.Socket) => Promise<string>;
  readonly weatherFor: (client: string) => Weather;
}

const HOST = '127.0.0.1';

export class TcpProxy implements AsyncDisposable {
  readonly passages = new Set<Passage>();
  private readonly server: net.Server;

  private constructor(server: net.Server) {
    this.server = server;
  }

  static async listen(options: ProxyOptions): Promise<TcpProxy> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true });
    const proxy = new TcpProxy(server);
    server.on('connection', (socket) => {
      const passage = new Passage(socket, options);
      proxy.passages.add(passage);
      void passage.run().finally(() => proxy.passages.delete(passage));
    });
    server.listen(0, HOST);
    await once(server, 'listening');
    return proxy;
  }

  get port(): number {
    const address = this.server.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  /** Has the passages look at their weather again. */
  refresh(): void {
    for (const passage of this.passages) passage.refresh();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.close();
    for (const passage of this.passages) passage.destroy();
    await once(this.server, 'close');
  }
}

export class Passage {
  /** Empty until it is known. */
  client = '';
  /** `performance.now()` of when it was forgotten; null while it is not. */
  forgottenAtMs: number | null = null;
  private readonly options: ProxyOptions;
  private readonly near: net.Socket;
  private far: net.Socket | null = null;
  private changed = Promise.withResolvers<void>();
  private destroyed = false;

  constructor(near: net.Socket, options: ProxyOptions) {
    this.near = near;
    this.options = options;
    near.on('error', () => undefined);
  }

  /** Resolves when both sides are closed. */
  async run(): Promise<void> {
    this.client = await this.options.clientOf(this.near).catch(() => '');
    this.refresh();
    const near = closed(this.near);
    if (!(await this.permission('up'))) {
      this.near.resume();
      return near;
    }
    const port = this.options.targetPort();
    if (port === null) return this.destroy();
    const far = net.connect({ host: HOST, port, allowHalfOpen: true, noDelay: true });
    this.far = far;
    // A connection that fails is passed on by its close, as all ends are.
    far.on('error', () => undefined);
    const ends = Promise.all([near, closed(far)]);
    this.forward(this.near, far, 'up');
    this.forward(far, this.near, 'down');
    await ends;
  }

  /** Sides that are open though nothing passes any more, and do not know it. */
  get openSides(): readonly Direction[] {
    return [
      ...(this.near.destroyed ? [] : (['up'] as const)),
      ...(this.far?.destroyed === false ? (['down'] as const) : []),
    ];
  }

  /** From now on bytes vanish. */
  forget(): void {
    this.forgottenAtMs ??= performance.now();
    this.refresh();
    // Read on, so that a side's close is noticed.
    for (const socket of [this.near, this.far]) {
      if (socket?.readableEnded === true) socket.destroy();
      socket?.on('end', () => socket.destroy()).resume();
    }
  }

  refresh(): void {
    if (this.weather.kind === 'cut' && this.forgottenAtMs === null) this.destroy();
    this.changed.resolve();
    this.changed = Promise.withResolvers();
  }

  destroy(): void {
    this.destroyed = true;
    for (const socket of [this.near, this.far]) {
      // One that is not connected yet cannot be reset.
      if (socket?.connecting === true) socket.destroy();
      else socket?.resetAndDestroy();
    }
    this.changed.resolve();
  }

  private get weather(): Weather {
    return this.options.weatherFor(this.client);
  }

  private forward(from: net.Socket, to: net.Socket, direction: Direction): void {
    let queue: Promise<void> = Promise.resolve();
    const inOrder = (act: () => void | Promise<unknown>): void => {
      queue = queue.then(async () => {
        if (await this.permission(direction)) await act();
      });
    };
    from.on('data', (bytes: Buffer) => {
      if (this.forgottenAtMs !== null) return;
      from.pause();
      inOrder(async () => {
        if (!to.destroyed && !to.write(bytes))
          await Promise.race([once(to, 'drain'), once(to, 'close')]).catch(() => undefined);
        from.resume();
      });
    });
    from.on('end', () => inOrder(() => void to.end()));
    from.on('close', (hadError) => {
      // Whoever closed hears of nothing more; the other side learns it when the weather allows.
      inOrder(() => void (hadError ? to.resetAndDestroy() : to.destroySoon()));
    });
    from.resume();
  }

  /** Waits until something may pass; false: nothing ever will. */
  private async permission(direction: Direction): Promise<boolean> {
    for (;;) {
      if (this.destroyed || this.forgottenAtMs !== null) return false;
      const { weather } = this;
      if (weather.kind === 'slow') await sleep(weather.delayMs);
      if (weather.kind !== 'silent' || !weather.directions.includes(direction)) return !this.destroyed;
      await this.changed.promise;
    }
  }
}

function closed(socket: net.Socket): Promise<void> {
  if (socket.destroyed) return Promise.resolve();
  return new Promise((resolve) => socket.once('close', () => resolve()));
}
