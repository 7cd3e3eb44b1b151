/** A connection to the vm-monitor of a compute. A request that is not answered in time, or anything not understood, ends it. */
import { once } from 'node:events';
import { WebSocket, type RawData } from 'ws';
import { errorText, StorageError } from '#shared/core/errors.js';
import { parseMonitorMessage, refusalOf, VERSIONS } from '../core/monitor-protocol.js';
import type { AgentRequest, MonitorMessage, Resources } from '../core/monitor-protocol.js';

const CONNECT_LIMIT_MS = 4_000;
const ANSWER_LIMIT_MS = 5_000;
const FRAME_BYTES_MAX = 64 << 10;
/** Ids of the agent are even. */
const ID_STEP = 2;

type Answer = Exclude<MonitorMessage, { readonly type: 'UpscaleRequest' }>;

export class MonitorClient {
  private readonly socket: WebSocket;
  private readonly onUpscaleRequest: () => void;
  private readonly waiting = new Map<number, (answer: Answer | null) => void>();
  private lastId = 0;

  private constructor(socket: WebSocket, onUpscaleRequest: () => void) {
    this.socket = socket;
    this.onUpscaleRequest = onUpscaleRequest;
    socket.on('message', (data) => this.take(data));
    socket.on('close', () => {
      for (const answer of [...this.waiting.values()]) answer(null);
    });
  }

  /** Throws StorageError `unavailable`. */
  static async connect(addr: string, onUpscaleRequest: () => void): Promise<MonitorClient> {
    const socket = new WebSocket(`ws://${addr}/monitor`, { maxPayload: FRAME_BYTES_MAX });
    // Told where it is awaited, and by the socket's end.
    socket.on('error', () => undefined);
    const signal = AbortSignal.timeout(CONNECT_LIMIT_MS);
    try {
      await once(socket, 'open', { signal });
      const first = once(socket, 'message', { signal }) as Promise<[Buffer]>;
      socket.send(JSON.stringify(VERSIONS));
      const refusal = refusalOf((await first)[0].toString('utf8'));
      if (refusal !== null) throw new StorageError('unavailable', refusal);
      return new MonitorClient(socket, onUpscaleRequest);
    } catch (cause) {
      socket.terminate();
      throw new StorageError('unavailable', `could not speak to the vm-monitor at ${addr}: ${errorText(cause)}`, {
        cause,
      });
    }
  }

  get isOpen(): boolean {
    return this.socket.readyState === WebSocket.OPEN;
  }

  /** Null: it agrees; otherwise why not. */
  async downscale(target: Resources): Promise<string | null> {
    const answer = await this.ask({ type: 'DownscaleRequest', content: { target } });
    if (answer.type !== 'DownscaleResult')
      throw new StorageError('unavailable', `the vm-monitor answered ${answer.type}`);
    return answer.Ok ? null : answer.Status;
  }

  async upscaled(granted: Resources): Promise<void> {
    await this.ask({ type: 'UpscaleNotification', content: { granted } });
  }

  async checkHealth(): Promise<void> {
    await this.ask({ type: 'HealthCheck', content: {} });
  }

  close(): void {
    this.socket.terminate();
  }

  private async ask(request: AgentRequest): Promise<Answer> {
    this.lastId += ID_STEP;
    const id = this.lastId;
    const answered = new Promise<Answer | null>((resolve) => this.waiting.set(id, resolve));
    const timer = setTimeout(() => this.socket.terminate(), ANSWER_LIMIT_MS);
    try {
      if (!this.isOpen) throw new StorageError('unavailable', 'the connection to the vm-monitor has ended');
      this.socket.send(JSON.stringify({ ...request, id }));
      const answer = await answered;
      if (answer === null) throw new StorageError('unavailable', `the vm-monitor did not answer ${request.type}`);
      if (answer.type === 'InternalError')
        throw new StorageError('unavailable', `the vm-monitor failed: ${answer.error}`);
      return answer;
    } finally {
      clearTimeout(timer);
      this.waiting.delete(id);
    }
  }

  private take(data: RawData): void {
    const message = parseMonitorMessage((data as Buffer).toString('utf8'));
    if (message === null) return this.socket.terminate();
    if (message.type === 'UpscaleRequest') return this.onUpscaleRequest();
    this.waiting.get(message.id)?.(message);
  }
}
