/** One proposer's connection to one timeline: its place in the timeline's queue, and the way back for answers. */
import type { StorageError } from '#shared/core/errors.js';
import type { AcceptorReply, ProposerInput } from '../core/acceptor-types.js';

/** Messages waiting for the disk; beyond, the network is not read: 32 MiB of full appends. */
export const QUEUED_COUNT_MAX = 256;

export interface ProposerSink {
  reply(reply: AcceptorReply): void;
  /** A message was refused, or the timeline stopped: nothing more is answered on this connection. */
  fail(error: StorageError): void;
}

export class ProposerConnection {
  readonly id: number;
  private readonly sink: ProposerSink;
  private readonly enqueue: (connection: ProposerConnection, input: ProposerInput) => void;
  private readonly leave: (connection: ProposerConnection) => void;
  private queued = 0;
  private roomWanted: (() => void) | null = null;
  /** `failed`: told so, and what it queued is void. `closed`: it went away, but what it sent before counts. */
  private phase: 'open' | 'failed' | 'closed' = 'open';

  constructor(options: {
    id: number;
    sink: ProposerSink;
    enqueue: (connection: ProposerConnection, input: ProposerInput) => void;
    leave: (connection: ProposerConnection) => void;
  }) {
    this.id = options.id;
    this.sink = options.sink;
    this.enqueue = options.enqueue;
    this.leave = options.leave;
  }

  get hasFailed(): boolean {
    return this.phase === 'failed';
  }

  /** Queues a message. When it returns a promise, wait for it before the next one. Ignored once the connection has failed. */
  submit(input: ProposerInput): Promise<void> | null {
    if (this.phase !== 'open') return null;
    this.queued += 1;
    this.enqueue(this, input);
    if (this.queued < QUEUED_COUNT_MAX) return null;
    return new Promise((resolve) => {
      this.roomWanted = resolve;
    });
  }

  /** Called by the timeline when a message left its queue. */
  taken(): void {
    this.queued -= 1;
    if (this.queued <= QUEUED_COUNT_MAX / 2) this.giveRoom();
  }

  reply(reply: AcceptorReply): void {
    if (this.phase === 'open') this.sink.reply(reply);
  }

  fail(error: StorageError): void {
    if (this.phase !== 'open') return;
    this.phase = 'failed';
    this.giveRoom();
    this.sink.fail(error);
  }

  /** The proposer went away. */
  close(): void {
    if (this.phase === 'open') this.phase = 'closed';
    this.giveRoom();
    this.leave(this);
  }

  private giveRoom(): void {
    this.roomWanted?.();
    this.roomWanted = null;
  }
}
