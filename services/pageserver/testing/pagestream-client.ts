/**
 * For tests: a client of the libpq port that speaks through npm `pg`'s own protocol implementation, so that our wire codec is judged by
 * somebody else's. Requests may be sent without waiting; answers come in order.
 */
import pg from 'pg';
import type { Lsn } from '#shared/core/lsn.js';
import { MAX_LSN } from '#shared/core/lsn.js';
import type { RelTag } from '../core/keyspace.js';

/** What @types/pg leaves out. */
type RawConnection = pg.Connection & {
  connect(port: number, host: string): void;
  startup(config: Record<string, string>): void;
};

export interface Answer {
  readonly tag: number;
  /** What follows the tag. */
  readonly body: Buffer;
}

export interface ReadAt {
  readonly requestLsn?: Lsn;
  readonly notModifiedSince?: Lsn;
}

export class PagestreamClient {
  readonly #connection: RawConnection;
  readonly #waiting: Array<{ resolve: (answer: Answer) => void; reject: (error: unknown) => void }> = [];
  #nextId = 1n;

  private constructor(connection: RawConnection) {
    this.#connection = connection;
    connection.on('copyData', (message: { chunk: Buffer }) => {
      // The parser uses its buffer again.
      const bytes = Buffer.from(message.chunk);
      this.#waiting.shift()?.resolve({ tag: bytes.readUInt8(0), body: bytes.subarray(1) });
    });
    const fail = (error: unknown) => {
      for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
    };
    connection.on('errorMessage', fail);
    connection.on('error', fail);
    connection.on('end', () => fail(new Error('the connection was closed')));
  }

  /** Connects and sends `command`; resolves when COPY has begun, rejects with the server's error. */
  static async open(addr: string, command: string): Promise<PagestreamClient> {
    const connection = new pg.Connection() as RawConnection;
    const [host = '', port = ''] = addr.split(':');
    await new Promise<void>((resolve, reject) => {
      connection.once('connect', () => connection.startup({ user: 'test', database: 'test' }));
      connection.once('readyForQuery', () => connection.query(command));
      connection.once('replicationStart', () => resolve());
      connection.once('errorMessage', reject);
      connection.once('error', reject);
      connection.connect(Number(port), host);
    });
    return new PagestreamClient(connection);
  }

  exists(rel: RelTag, at: ReadAt = {}): Promise<Answer> {
    return this.send(0, relation(rel), at);
  }

  nblocks(rel: RelTag, at: ReadAt = {}): Promise<Answer> {
    return this.send(1, relation(rel), at);
  }

  getPage(rel: RelTag, block: number, at: ReadAt = {}): Promise<Answer> {
    return this.send(2, Buffer.concat([relation(rel), uint32(block)]), at);
  }

  dbSize(db: number, at: ReadAt = {}): Promise<Answer> {
    return this.send(3, uint32(db), at);
  }

  slruSegment(kind: number, segment: number, at: ReadAt = {}): Promise<Answer> {
    return this.send(4, Buffer.concat([Buffer.from([kind]), uint32(segment)]), at);
  }

  /** Sends a v3 request. The answer's body is checked to begin with what it must echo, which is cut off. */
  async send(tag: number, fields: Buffer, at: ReadAt): Promise<Answer> {
    const header = Buffer.alloc(24);
    header.writeBigUInt64BE(this.#nextId++, 0);
    header.writeBigUInt64BE(lsnToWire(at.requestLsn ?? MAX_LSN), 8);
    header.writeBigUInt64BE(lsnToWire(at.notModifiedSince ?? (0 as Lsn)), 16);
    const answer = await this.sendRaw(Buffer.concat([Buffer.from([tag]), header, fields]));
    const echo = answer.tag === 103 ? header : Buffer.concat([header, fields]);
    if (!answer.body.subarray(0, echo.length).equals(echo)) throw new Error('the answer belongs to another request');
    return { tag: answer.tag, body: answer.body.subarray(echo.length) };
  }

  sendRaw(body: Buffer): Promise<Answer> {
    const frame = Buffer.alloc(5);
    frame.write('d');
    frame.writeUInt32BE(4 + body.length, 1);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#connection.stream.write(Buffer.concat([frame, body]));
    });
  }

  close(): void {
    this.#connection.stream.destroy();
  }
}

function lsnToWire(lsn: Lsn): bigint {
  return lsn === MAX_LSN ? 0xffff_ffff_ffff_ffffn : BigInt(lsn);
}

function uint32(value: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(value);
  return out;
}

function relation(rel: RelTag): Buffer {
  return Buffer.concat([uint32(rel.spc), uint32(rel.db), uint32(rel.rel), Buffer.from([rel.fork])]);
}

/** Text of an error answer. */
export function errorOf(answer: Answer): string {
  return answer.body.toString('utf8', 0, answer.body.length - 1);
}
