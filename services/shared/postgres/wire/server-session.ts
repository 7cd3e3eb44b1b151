/**
 * The server's side of one Postgres connection as a state machine over bytes: start-up, optional password, simple queries, COPY.
 * It knows no sockets and no promises: the shell feeds what it received and gives a sink to write to.
 *
 *   startup -> (password) -> idle <-> busy (a query runs) <-> copy -> closed
 *
 * Flow control: while a query runs, while the sink is full and while the COPY handler refuses data, no message is taken and the
 * sink is paused; so at most one received chunk waits here.
 */
import { AssertionFailure } from '#shared/core/assert.js';
import { StorageError } from '#shared/core/errors.js';
import * as out from './backend-messages.js';
import { FrontendReader } from './frontend-reader.js';
import { parseStartupPacket, readCString } from './startup-packet.js';

/** What the session needs of a socket; node:net's Socket is one. */
export interface WireSink {
  /** False when the caller should wait for `WireSession.drained()`. */
  write(bytes: Uint8Array): boolean;
  cork(): void;
  uncork(): void;
  pause(): void;
  resume(): void;
  /** Sends what was written, then closes. */
  end(): void;
}

/** Takes part in COPY. Calls come from inside `feed()` or `drained()`: they must not block and not throw but StorageErrors. */
export interface CopyHandler {
  /** One CopyData body, buffer[start, end); copy what is needed later. False: no more until `WireSession.resumeCopy()`. */
  data(buffer: Buffer, start: number, end: number): boolean;
  /** The client ended its direction (CopyDone or CopyFail). */
  done(): void;
  /** The connection is gone; nothing can be written any more. */
  closed(): void;
}

export interface WireOptions {
  /** Largest query or CopyData body taken. */
  readonly messageBytesMax: number;
  /** Sent as ParameterStatus; drivers want server_version, client_encoding and the like. */
  readonly parameters: Readonly<Record<string, string>>;
  /** Asks for a clear text password and checks it; throws StorageError to refuse. Absent: everyone is let in. */
  readonly authenticate?: (startup: ReadonlyMap<string, string>, password: string) => void;
  /** A simple query. It must end in exactly one of complete(), fail() or startCopyBoth(), now or later. */
  readonly query: (text: string, session: WireSession) => void;
}

const TYPE = {
  query: 0x51,
  terminate: 0x58,
  password: 0x70,
  copyData: 0x64,
  copyDone: 0x63,
  copyFail: 0x66,
  sync: 0x53,
  flush: 0x48,
};
/** SSLRequest and GSSENCRequest may each come once before the start-up packet. */
const NEGOTIATIONS_MAX = 2;

type State = 'startup' | 'password' | 'idle' | 'busy' | 'copy' | 'closed';

export class WireSession {
  startup: ReadonlyMap<string, string> = new Map();
  readonly #sink: WireSink;
  readonly #options: WireOptions;
  readonly #reader: FrontendReader;
  #state: State = 'startup';
  #negotiations = 0;
  #copy: CopyHandler | null = null;
  #copyBlocked = false;
  /** After an error in the extended protocol everything up to Sync is skipped, as the protocol demands. */
  #skipToSync = false;
  #pumping = false;
  #paused = false;
  #sinkFull = false;

  constructor(sink: WireSink, options: WireOptions) {
    this.#sink = sink;
    this.#options = options;
    this.#reader = new FrontendReader(options.messageBytesMax);
  }

  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  /** True once the client may send queries. */
  get isAuthenticated(): boolean {
    return this.#state !== 'startup' && this.#state !== 'password' && this.#state !== 'closed';
  }

  /** True while the sink asked for a pause; a COPY handler should produce no more then. */
  get isSinkFull(): boolean {
    return this.#sinkFull;
  }

  /** Bytes from the client; the session owns `chunk` from now on. */
  feed(chunk: Buffer): void {
    if (this.#state === 'closed') return;
    this.#reader.push(chunk);
    this.#pump();
  }

  /** The sink can take more. */
  drained(): void {
    this.#sinkFull = false;
    this.#pump();
  }

  /** The connection is gone. */
  closed(): void {
    this.#state = 'closed';
    const copy = this.#copy;
    this.#copy = null;
    copy?.closed();
  }

  /** Writes a whole message. False when the sink is full: wait for `drained()`. */
  write(bytes: Uint8Array): boolean {
    if (this.#state === 'closed') return false;
    if (!this.#sink.write(bytes)) this.#sinkFull = true;
    return !this.#sinkFull;
  }

  /** Writes whole messages in one go. */
  writeAll(messages: readonly Uint8Array[]): void {
    if (this.#state === 'closed') return;
    this.#sink.cork();
    for (const message of messages) this.write(message);
    this.#sink.uncork();
    this.#updatePause();
  }

  /** Ends a query that answers rows of text, or none. */
  complete(tag: string, columns: readonly string[] = [], rows: readonly (readonly (string | null)[])[] = []): void {
    if (columns.length > 0) {
      this.write(out.rowDescription(columns));
      for (const row of rows) this.write(out.dataRow(row));
    }
    this.write(out.commandComplete(tag));
    this.#becomeIdle();
  }

  /** Ends a query, or COPY, with an error; the connection stays usable. */
  fail(error: unknown): void {
    this.#copy = null;
    this.write(out.errorResponseOf('ERROR', error));
    this.#becomeIdle();
  }

  /** Says why and closes the connection. */
  abort(error: unknown): void {
    if (this.#state === 'closed') return;
    this.write(out.errorResponseOf('FATAL', error));
    this.#sink.end();
    this.closed();
  }

  /** Switches the running query to COPY in both directions. */
  startCopyBoth(handler: CopyHandler): void {
    if (this.#state !== 'busy') return;
    this.#state = 'copy';
    this.#copy = handler;
    this.#copyBlocked = false;
    this.write(out.copyBothResponse());
    this.#pump();
  }

  /** The COPY handler takes data again. */
  resumeCopy(): void {
    this.#copyBlocked = false;
    this.#pump();
  }

  /** Ends COPY in good order. */
  endCopy(tag: string): void {
    this.#copy = null;
    this.write(out.copyDone());
    this.write(out.commandComplete(tag));
    this.#becomeIdle();
  }

  #becomeIdle(): void {
    if (this.#state === 'closed') return;
    this.#state = 'idle';
    this.write(out.readyForQuery());
    this.#pump();
  }

  #mayTake(): boolean {
    if (this.#state === 'closed' || this.#state === 'busy' || this.#sinkFull) return false;
    return !(this.#state === 'copy' && this.#copyBlocked);
  }

  /** Takes messages while it may; corks the sink so that one burst of answers is one system call. */
  #pump(): void {
    if (this.#pumping || this.#state === 'closed') return;
    this.#pumping = true;
    this.#sink.cork();
    try {
      while (this.#mayTake() && this.#reader.next()) this.#take();
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      this.abort(error);
    } finally {
      this.#sink.uncork();
      this.#pumping = false;
    }
    this.#updatePause();
  }

  #updatePause(): void {
    const paused = !this.isClosed && !this.#mayTake();
    if (paused === this.#paused) return;
    this.#paused = paused;
    if (paused) this.#sink.pause();
    else this.#sink.resume();
  }

  #take(): void {
    const reader = this.#reader;
    if (this.#state === 'startup') {
      this.#takeStartup();
    } else if (this.#state === 'password') {
      this.#takePassword();
    } else if (reader.type === TYPE.terminate) {
      this.#sink.end();
      this.closed();
    } else if (this.#state === 'copy') {
      this.#takeCopy();
    } else {
      this.#takeIdle();
    }
  }

  #takeStartup(): void {
    const packet = parseStartupPacket(this.#reader.buffer, this.#reader.bodyStart, this.#reader.bodyEnd);
    if (packet.kind === 'cancel') {
      // There is nothing that could be cancelled by key; Postgres answers nothing either.
      this.#sink.end();
      this.closed();
      return;
    }
    if (packet.kind !== 'startup') {
      if (++this.#negotiations > NEGOTIATIONS_MAX) throw new StorageError('invalid', 'too many encryption requests');
      // What follows in the same chunk would be plain text sent where the client expects encryption to be negotiated.
      if (this.#reader.bufferedBytes > 0) throw new StorageError('invalid', 'data behind an encryption request');
      this.write(out.REFUSE_ENCRYPTION);
      return;
    }
    this.#reader.endStartup();
    this.startup = packet.parameters;
    if (packet.minorVersion > 0) this.write(out.negotiateProtocolVersion());
    if (this.#options.authenticate === undefined) {
      this.#welcome();
    } else {
      this.#state = 'password';
      this.write(out.authenticationCleartextPassword());
    }
  }

  #takePassword(): void {
    const reader = this.#reader;
    if (reader.type !== TYPE.password) throw new StorageError('invalid', 'expected a password message');
    this.#options.authenticate?.(this.startup, readCString(reader.buffer, reader.bodyStart, reader.bodyEnd));
    this.#welcome();
  }

  #welcome(): void {
    this.#state = 'idle';
    this.write(out.authenticationOk());
    for (const [name, value] of Object.entries(this.#options.parameters)) this.write(out.parameterStatus(name, value));
    this.write(out.readyForQuery());
  }

  #takeCopy(): void {
    const { type, buffer, bodyStart, bodyEnd } = this.#reader;
    if (type === TYPE.copyData) {
      if (this.#copy !== null && !this.#copy.data(buffer, bodyStart, bodyEnd)) this.#copyBlocked = true;
    } else if (type === TYPE.copyDone || type === TYPE.copyFail) {
      this.#copy?.done();
    } else if (type !== TYPE.sync && type !== TYPE.flush) {
      throw new StorageError('invalid', `message type ${type} does not belong in COPY`);
    }
  }

  #takeIdle(): void {
    const { type, buffer, bodyStart, bodyEnd } = this.#reader;
    if (type === TYPE.sync) {
      this.#skipToSync = false;
      this.write(out.readyForQuery());
    } else if (
      this.#skipToSync ||
      type === TYPE.flush ||
      type === TYPE.copyData ||
      type === TYPE.copyDone ||
      type === TYPE.copyFail
    ) {
      // A COPY that we ended may still have messages of the client under way.
      return;
    } else if (type === TYPE.query) {
      this.#startQuery(readCString(buffer, bodyStart, bodyEnd));
    } else {
      this.#skipToSync = true;
      this.write(
        out.errorResponseOf(
          'ERROR',
          new StorageError('unimplemented', 'only the simple query protocol is spoken here'),
        ),
      );
    }
  }

  #startQuery(text: string): void {
    this.#state = 'busy';
    if (text.trim().replaceAll(';', '') === '') {
      this.write(out.emptyQueryResponse());
      this.#becomeIdle();
      return;
    }
    try {
      this.#options.query(text, this);
    } catch (error) {
      if (error instanceof AssertionFailure) throw error;
      this.fail(error);
    }
  }
}
