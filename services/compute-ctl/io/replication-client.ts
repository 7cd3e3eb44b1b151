/**
 * The standby that Postgres waits for: streams WAL from its walsender over the unix socket and reports how far the quorum has it.
 *
 * A piece of WAL given to `onWal` is a view into the socket's buffer, which is overwritten: use it before returning. WAL arrives without
 * gaps from `startLsn` on; anything else ends the client with an error. Status goes out whenever it rises, when Postgres asks, and
 * once a second, so that the walsender does not take a quorum's silence for ours.
 */
import pg from 'pg';
import { errorText, StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { StandbyFeedback } from '../core/messages.js';
import { encodeHotStandbyFeedback, encodeStatusUpdate, parseReplicationMessage } from '../core/replication-messages.js';

const STATUS_INTERVAL_MS = 1_000;
export const SLOT_NAME = 'walproposer';

/** The parts of pg's connection that its type declarations leave out. */
interface CopyBothConnection {
  on(event: 'copyData', listener: (message: { chunk: Buffer }) => void): void;
  once(event: 'replicationStart' | 'commandComplete', listener: () => void): void;
  readonly stream: { destroy(): void };
  sendCopyFromChunk(chunk: Buffer): void;
}

export interface ReplicationOptions {
  readonly socketDir: string;
  readonly port: number;
  readonly user: string;
  readonly startLsn: Lsn;
  onWal(beginLsn: Lsn, bytes: Uint8Array): void;
  /** Null: Postgres ended the stream in good order, after all its WAL was confirmed. */
  onEnd(error: StorageError | null): void;
}

export class ReplicationClient {
  private readonly options: ReplicationOptions;
  private readonly client: pg.Client;
  private readonly connection: CopyBothConnection;
  private streaming = false;
  private ended = false;
  private timer: NodeJS.Timeout | null = null;
  /** End of the WAL received. */
  receivedLsn: Lsn;
  private flushLsn: Lsn;
  private applyLsn: Lsn = INVALID_LSN;

  private constructor(options: ReplicationOptions) {
    this.options = options;
    this.receivedLsn = options.startLsn;
    this.flushLsn = options.startLsn;
    const settings = { host: options.socketDir, port: options.port, user: options.user, database: 'postgres' };
    // `replication` is understood by pg but missing in its types.
    const config = { ...settings, application_name: SLOT_NAME, replication: 'true' } as pg.ClientConfig;
    this.client = new pg.Client(config);
    this.connection = (this.client as unknown as { connection: CopyBothConnection }).connection;
  }

  /** Connects, checks that the server is the one expected, and starts the stream. */
  static async start(options: ReplicationOptions, systemId: bigint): Promise<ReplicationClient> {
    const self = new ReplicationClient(options);
    try {
      await self.connect(systemId);
    } catch (error) {
      await self.client.end().catch(() => undefined);
      throw new StorageError('unavailable', 'could not attach to the walsender', { cause: error });
    }
    return self;
  }

  /** What may be reported; values that fall are ignored. */
  report(flushLsn: Lsn, applyLsn: Lsn): void {
    if (flushLsn <= this.flushLsn && applyLsn <= this.applyLsn) return;
    this.flushLsn = flushLsn > this.flushLsn ? flushLsn : this.flushLsn;
    this.applyLsn = applyLsn > this.applyLsn ? applyLsn : this.applyLsn;
    this.sendStatus();
  }

  /** What replicas need: the server keeps rows for them as for any standby. */
  keepFor(feedback: StandbyFeedback): void {
    if (this.streaming && !this.ended)
      this.connection.sendCopyFromChunk(encodeHotStandbyFeedback(feedback, Date.now()));
  }

  /** Drops the connection; nothing is confirmed from here on. */
  close(): void {
    this.finish(new StorageError('cancelled', 'closed'));
  }

  private async connect(systemId: bigint): Promise<void> {
    this.client.on('error', (error) => this.finish(new StorageError('unavailable', errorText(error))));
    this.client.on('end', () =>
      this.finish(new StorageError('unavailable', 'Postgres closed the replication connection')),
    );
    await this.client.connect();
    const identity = await this.client.query<{ systemid: string }>('IDENTIFY_SYSTEM');
    const found = identity.rows[0]?.systemid;
    if (found !== String(systemId)) {
      throw new StorageError(
        'precondition',
        `the server's system identifier is ${found ?? 'missing'}, not ${systemId}`,
      );
    }
    this.connection.on('copyData', (message) => this.receive(message.chunk));
    const started = new Promise<void>((resolve) => this.connection.once('replicationStart', resolve));
    // At its own shutdown a walsender says that the command is complete, once everything was confirmed, and exits.
    void started.then(() => this.connection.once('commandComplete', () => this.finish(null)));
    const query = this.client.query(
      `START_REPLICATION SLOT ${SLOT_NAME} PHYSICAL ${formatLsn(this.options.startLsn)} TIMELINE 1`,
    );
    const running = query.then(
      () => this.finish(null),
      (error: unknown) => {
        this.finish(new StorageError('unavailable', errorText(error)));
        throw error;
      },
    );
    await Promise.race([started, running]);
    running.catch(() => undefined);
    this.streaming = !this.ended;
    this.timer = setInterval(() => this.sendStatus(), STATUS_INTERVAL_MS);
    this.sendStatus();
  }

  private receive(chunk: Buffer): void {
    if (this.ended) return;
    try {
      const message = parseReplicationMessage(chunk);
      if (message.kind === 'keepalive') {
        if (message.replyWanted) this.sendStatus();
        return;
      }
      if (message.beginLsn !== this.receivedLsn) {
        const [got, want] = [formatLsn(message.beginLsn), formatLsn(this.receivedLsn)];
        throw new StorageError('corrupt', `the walsender sent WAL of ${got} where ${want} was expected`);
      }
      this.receivedLsn = (message.beginLsn + message.bytes.length) as Lsn;
      if (message.bytes.length > 0) this.options.onWal(message.beginLsn, message.bytes);
    } catch (error) {
      this.finish(
        error instanceof StorageError ? error : new StorageError('internal', errorText(error), { cause: error }),
      );
    }
  }

  private sendStatus(): void {
    if (!this.streaming || this.ended) return;
    // More than was sent to us must not be confirmed, or Postgres would complain.
    const flushLsn = this.flushLsn < this.receivedLsn ? this.flushLsn : this.receivedLsn;
    const status = { writeLsn: flushLsn, flushLsn, applyLsn: this.applyLsn };
    this.connection.sendCopyFromChunk(encodeStatusUpdate(status, Date.now()));
  }

  private finish(error: StorageError | null): void {
    if (this.ended) return;
    this.ended = true;
    if (this.timer !== null) clearInterval(this.timer);
    this.connection.stream.destroy();
    if (this.streaming) this.options.onEnd(error);
  }
}
