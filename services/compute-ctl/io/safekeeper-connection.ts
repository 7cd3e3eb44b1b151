/**
 * One consensus stream to one safekeeper. It opens a channel of its own, so that a connection that failed leaves no back-off behind
 * for the next one. Ends once, by `onClosed`, whoever ended it.
 */
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { ConsensusServiceClient, ConsensusServiceService } from '#gen/neon/safekeeper/v1/safekeeper.js';
import type { ProposeResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { StorageError } from '#shared/core/errors.js';
import { createClient, traceMetadata } from '#shared/rpc/client.js';
import { fromGrpcError } from '#shared/rpc/error-map.js';
import type { AcceptorMessage, ProposerMessage } from '../core/messages.js';
import { acceptorMessageFromWire } from '../rpc/consensus-codec.js';
import type { ProposerEncoder } from '../rpc/proposer-encoder.js';

export interface ConnectionEvents {
  onMessage(message: AcceptorMessage): void;
  onClosed(error: StorageError): void;
}

export class SafekeeperConnection {
  private readonly client: ConsensusServiceClient;
  private readonly stream: ClientDuplexStream<ProposerMessage, ProposeResponse>;
  private readonly events: ConnectionEvents;
  private closed = false;
  private waiting: (() => void)[] = [];
  writable = true;

  constructor(addr: string, encoder: ProposerEncoder, events: ConnectionEvents) {
    this.events = events;
    this.client = createClient(ConsensusServiceClient, addr);
    const { path, responseDeserialize } = ConsensusServiceService.propose;
    const serialize = (message: ProposerMessage): Buffer => encoder.encode(message);
    this.stream = this.client.makeBidiStreamRequest(path, serialize, responseDeserialize, traceMetadata());
    this.stream.on('data', (response: ProposeResponse) => this.receive(response));
    this.stream.on('error', (error) => this.finish(fromGrpcError(error)));
    this.stream.on('end', () => this.finish(new StorageError('unavailable', 'the safekeeper ended the stream')));
    this.stream.on('drain', () => this.drained());
  }

  /** Sends; queues in the stream when the safekeeper is slow: look at `writable` before sending WAL. */
  send(message: ProposerMessage): void {
    if (this.closed) return;
    this.writable = this.stream.write(message);
  }

  /** Calls back when WAL may be sent; never, once the connection has ended. */
  whenWritable(act: () => void): void {
    if (this.closed) return;
    if (this.writable) act();
    else this.waiting.push(act);
  }

  close(reason: string): void {
    this.finish(new StorageError('cancelled', reason));
  }

  /** Lets what was sent arrive, then ends the stream. */
  end(): void {
    if (!this.closed) this.stream.end();
  }

  private receive(response: ProposeResponse): void {
    if (this.closed) return;
    let message: AcceptorMessage;
    try {
      message = acceptorMessageFromWire(response);
    } catch (error) {
      this.finish(fromGrpcError(error));
      return;
    }
    this.events.onMessage(message);
  }

  private drained(): void {
    this.writable = true;
    const waiting = this.waiting;
    this.waiting = [];
    for (const act of waiting) this.whenWritable(act);
  }

  private finish(error: StorageError): void {
    if (this.closed) return;
    this.closed = true;
    this.waiting = [];
    // Errors of a stream that we cancel ourselves are of no interest; without a listener they would end the process.
    this.stream.on('error', () => undefined);
    this.stream.cancel();
    this.client.close();
    this.events.onClosed(error);
  }
}
