/**
 * The vm-monitor: lets an autoscaler-agent give this compute memory and take it back, over a WebSocket at /monitor. One agent at a time: a new
 * one ends the connection of the one before. Decisions are core/vm-monitor.ts's.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer, type RawData, type WebSocket } from 'ws';
import { formatAddr, parseAddr } from '#shared/core/addr.js';
import { errorText, StorageError } from '#shared/core/errors.js';
import type { Logger } from '#shared/runtime/log.js';
import { fileCacheMib, SAMPLE_INTERVAL_MS, VmMonitor } from './core/vm-monitor.js';
import { MessageIds, negotiate, parseAgentMessage } from './core/vm-monitor-protocol.js';
import type { AgentMessage, MonitorMessage } from './core/vm-monitor-protocol.js';

/** Requests are small. */
const FRAME_BYTES_MAX = 64 << 10;
/** Requests that wait for the one before; an agent sends one at a time. */
const QUEUED_MAX = 16;

export interface MonitoredMemory {
  readonly totalBytes: number;
  /** Memory of Postgres that cannot be reclaimed; null: no control group is watched. */
  readonly usedBytes: (() => Promise<number>) | null;
}

export interface VmMonitorDeps {
  readonly addr: string;
  readonly log: Logger;
  /** Asked when an agent connects: what there is then is where it goes on from. */
  readonly measure: () => Promise<MonitoredMemory>;
  /** Sets the file cache to so many MiB and returns what was set; null: its size is not to be changed. */
  readonly setCacheMib: (mib: number) => Promise<number | null>;
}

export interface VmMonitorServer {
  readonly addr: string;
  close(): Promise<void>;
}

export async function startVmMonitor(deps: VmMonitorDeps): Promise<VmMonitorServer> {
  const { host, port } = parseAddr(deps.addr);
  const http = createServer((_, response) => response.writeHead(404).end());
  const sockets = new WebSocketServer({ server: http, path: '/monitor', maxPayload: FRAME_BYTES_MAX });
  let current: AgentConnection | null = null;
  sockets.on('connection', (socket) => {
    current?.close('another agent has connected');
    current = new AgentConnection(socket, deps);
  });
  sockets.on('error', (error) => deps.log.warn({ reason: errorText(error) }, 'the vm-monitor’s server failed'));
  await listen(http, host, port);
  const bound = (http.address() as AddressInfo).port;
  deps.log.info({ addr: formatAddr(host, bound) }, 'vm-monitor serving');
  return {
    addr: formatAddr(host, bound),
    close: async () => {
      current?.close('the compute ends');
      sockets.close();
      await new Promise<void>((resolve) => {
        http.close(() => resolve());
        http.closeAllConnections();
      });
    },
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new StorageError('precondition', `could not listen on ${host}:${port}`, { cause })),
    );
    server.listen(port, host, resolve);
  });
}

class AgentConnection {
  private readonly socket: WebSocket;
  private readonly deps: VmMonitorDeps;
  private monitor: VmMonitor | null = null;
  private readonly ids = new MessageIds();
  private ready = false;
  private queued = 0;
  private work: Promise<void> = Promise.resolve();
  private sampler: NodeJS.Timeout | null = null;

  constructor(socket: WebSocket, deps: VmMonitorDeps) {
    this.socket = socket;
    this.deps = deps;
    socket.on('message', (data, isBinary) => this.take(data, isBinary));
    socket.on('error', (error) => deps.log.info({ reason: errorText(error) }, 'the agent’s connection failed'));
    socket.on('close', () => {
      if (this.sampler !== null) clearTimeout(this.sampler);
      deps.log.info('the autoscaler-agent left');
    });
  }

  close(reason: string): void {
    this.socket.close(1000, reason);
  }

  private take(data: RawData, isBinary: boolean): void {
    const text = isBinary ? null : (data as Buffer).toString('utf8');
    try {
      if (!this.ready) return this.shakeHands(text);
      if (text === null) return this.deps.log.warn('ignored a binary frame of the agent');
      if (this.queued >= QUEUED_MAX) throw new StorageError('exhausted', 'the agent does not wait for answers');
      const message = parseAgentMessage(text);
      this.queued += 1;
      this.work = this.work
        .then(() => this.handle(message))
        .finally(() => {
          this.queued -= 1;
        });
    } catch (error) {
      this.deps.log.warn({ reason: errorText(error) }, 'dropped the agent’s connection');
      this.socket.terminate();
    }
  }

  private shakeHands(text: string | null): void {
    if (text === null) throw new StorageError('invalid', 'the agent’s first frame is binary');
    const answer = negotiate(text);
    this.socket.send(JSON.stringify(answer));
    if ('error' in answer) return this.close('no common version');
    this.ready = true;
    this.deps.log.info('an autoscaler-agent connected');
    this.work = this.begin();
  }

  private async begin(): Promise<void> {
    const { measure, setCacheMib, log } = this.deps;
    try {
      const { totalBytes, usedBytes } = await measure();
      const cacheMib = await setCacheMib(fileCacheMib(totalBytes)).catch((error: unknown) => {
        log.warn({ reason: errorText(error) }, 'could not set the file cache');
        return 0;
      });
      this.monitor = new VmMonitor({ totalBytes, hasCgroup: usedBytes !== null, hasFileCache: cacheMib !== null });
      if (usedBytes !== null) this.sample(this.monitor, usedBytes);
    } catch (error) {
      log.warn({ reason: errorText(error) }, 'could not read memory statistics');
      this.close('memory cannot be measured');
    }
  }

  private sample(monitor: VmMonitor, usedBytes: () => Promise<number>): void {
    this.sampler = setTimeout(() => {
      usedBytes()
        .then(
          (bytes) => {
            if (monitor.sample(bytes, performance.now())) this.send({ type: 'UpscaleRequest', id: this.ids.take() });
          },
          (error: unknown) => this.deps.log.warn({ reason: errorText(error) }, 'could not read memory statistics'),
        )
        .finally(() => {
          if (this.socket.readyState === this.socket.OPEN) this.sample(monitor, usedBytes);
        });
    }, SAMPLE_INTERVAL_MS);
  }

  private async handle(message: AgentMessage): Promise<void> {
    const { id } = message;
    const { monitor } = this;
    // The connection is being closed.
    if (monitor === null) return;
    switch (message.type) {
      case 'HealthCheck':
        return this.send({ type: 'HealthCheck', id });
      case 'UpscaleNotification':
        return this.upscale(monitor, id, message.content.granted.mem);
      case 'DownscaleRequest':
        return this.downscale(monitor, id, message.content.target.mem);
      case 'InvalidMessage':
      case 'InternalError':
        return this.deps.log.warn({ reason: message.content.error }, 'the autoscaler-agent reports an error');
    }
  }

  private async upscale(monitor: VmMonitor, id: number, memoryBytes: number): Promise<void> {
    try {
      const status = await this.resize(monitor, memoryBytes, monitor.cacheFor(memoryBytes));
      this.deps.log.info({ memoryBytes, status }, 'upscaled');
      this.send({ type: 'UpscaleConfirmation', id });
    } catch (error) {
      this.failed(id, 'failed to handle upscale', error);
    }
  }

  private async downscale(monitor: VmMonitor, id: number, memoryBytes: number): Promise<void> {
    try {
      const decision = monitor.canDownscale(memoryBytes, performance.now());
      const status = decision.ok ? await this.resize(monitor, memoryBytes, decision.cacheMib) : decision.why;
      this.deps.log.info({ memoryBytes, ok: decision.ok, status }, 'asked to downscale');
      this.send({ type: 'DownscaleResult', id, Ok: decision.ok, Status: status });
    } catch (error) {
      this.failed(id, 'failed to downscale', error);
    }
  }

  /** First the cache, then the threshold. */
  private async resize(monitor: VmMonitor, memoryBytes: number, cacheMib: number | null): Promise<string> {
    const set = cacheMib === null ? null : await this.deps.setCacheMib(cacheMib);
    return monitor.resized(memoryBytes, set);
  }

  private failed(id: number, what: string, error: unknown): void {
    this.deps.log.warn({ reason: errorText(error) }, what);
    this.send({ type: 'InternalError', id, error: what });
  }

  private send(message: MonitorMessage): void {
    if (this.socket.readyState === this.socket.OPEN) this.socket.send(JSON.stringify(message));
  }
}
