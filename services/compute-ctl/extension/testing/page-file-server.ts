/**
 * A page server for tests of the extension alone: serves the relation files of a cleanly stopped data directory, as they are.
 * It takes in no WAL, so it is right for one life of a compute: what the compute writes stays with the compute. It can be made to
 * behave badly, which the real page server cannot on demand.
 */
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import path from 'node:path';
import * as wire from '#shared/postgres/wire/backend-messages.js';
import { WireSession } from '#shared/postgres/wire/server-session.js';

const PAGE_BYTES = 8192;
const SEGMENT_BLOCKS = 131_072;
const GLOBAL_TABLESPACE = 1664;
const DEFAULT_TABLESPACE = 1663;
const FORK_SUFFIXES = ['', '_fsm', '_vm', '_init'] as const;
const HEADER_BYTES = 25;
const ANSWER_ERROR = 103;
const ANSWER_TAGS = [100, 101, 102, 104] as const;

/** How the server answers: properly; not at all until told otherwise; with an answer that is not the request's; by hanging up. */
export type Behaviour = 'proper' | 'silent' | 'mixed-up' | 'hang-up';

export class PageFileServer implements AsyncDisposable {
  /** Pages sent so far. */
  pageCount = 0;
  readonly #dataDir: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #held: (() => void)[] = [];
  #behaviour: Behaviour = 'proper';

  private constructor(dataDir: string) {
    this.#dataDir = dataDir;
    this.#server = createServer({ noDelay: true }, (socket) => this.#serve(socket));
  }

  static async start(dataDir: string): Promise<PageFileServer> {
    const server = new PageFileServer(dataDir);
    await new Promise<void>((done) => server.#server.listen(0, '127.0.0.1', done));
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Takes effect with the next request; requests held while silent are answered then. */
  behave(behaviour: Behaviour): void {
    this.#behaviour = behaviour;
    if (behaviour !== 'silent') for (const answer of this.#held.splice(0)) answer();
  }

  /** Breaks all connections; new ones are taken. */
  breakConnections(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()));
    this.breakConnections();
    await closed;
  }

  #serve(socket: Socket): void {
    const session = new WireSession(socket, {
      messageBytesMax: 1024,
      parameters: { server_version: '15.0', client_encoding: 'UTF8' },
      query: (_text, owner) =>
        owner.startCopyBoth({
          data: (buffer, start, end) => {
            this.#request(Buffer.from(buffer.subarray(start, end)), owner, socket);
            return true;
          },
          done: () => undefined,
          closed: () => undefined,
        }),
    });
    this.#sockets.add(socket);
    socket.on('data', (chunk: Buffer) => session.feed(chunk));
    socket.on('drain', () => session.drained());
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#sockets.delete(socket);
      session.closed();
    });
  }

  #request(request: Buffer, session: WireSession, socket: Socket): void {
    const answer = () => {
      if (!session.isClosed) session.write(wire.copyData(this.#answer(request)));
    };
    switch (this.#behaviour) {
      case 'proper':
        return answer();
      case 'silent':
        this.#held.push(answer);
        return;
      case 'mixed-up':
        // The request's number: an answer to a request that nobody made.
        request.writeUInt8(request.readUInt8(8) ^ 1, 8);
        return answer();
      case 'hang-up':
        socket.destroy();
    }
  }

  #answer(request: Buffer): Buffer {
    const payload = this.#payload(request);
    const isError = typeof payload === 'string';
    const answer = Buffer.concat([
      isError ? request.subarray(0, HEADER_BYTES) : request,
      isError ? Buffer.from(`${payload}\0`) : payload,
    ]);
    answer.writeUInt8(isError ? ANSWER_ERROR : (ANSWER_TAGS[request.readUInt8(0)] ?? ANSWER_ERROR), 0);
    return answer;
  }

  /** What follows the echoed request; a text is an error message. */
  #payload(request: Buffer): Buffer | string {
    const tag = request.readUInt8(0);
    if (tag === 3) return this.#databaseBytes(request.readUInt32BE(HEADER_BYTES));
    const relation = this.#relationPath(request);
    const blocks = relation === null ? null : relationBlocks(relation);
    if (tag === 0) return Buffer.from([blocks === null ? 0 : 1]);
    if (relation === null || blocks === null) return 'relation not found: there is no such file';
    if (tag === 1) {
      const out = Buffer.alloc(4);
      out.writeUInt32BE(blocks);
      return out;
    }
    this.pageCount += 1;
    return readPage(relation, request.readUInt32BE(HEADER_BYTES + 13));
  }

  #relationPath(request: Buffer): string | null {
    const tablespace = request.readUInt32BE(HEADER_BYTES);
    const database = String(request.readUInt32BE(HEADER_BYTES + 4));
    const suffix = FORK_SUFFIXES[request.readUInt8(HEADER_BYTES + 12)];
    if (suffix === undefined) return null;
    const file = `${request.readUInt32BE(HEADER_BYTES + 8)}${suffix}`;
    if (tablespace === GLOBAL_TABLESPACE) return path.join(this.#dataDir, 'global', file);
    return tablespace === DEFAULT_TABLESPACE ? path.join(this.#dataDir, 'base', database, file) : null;
  }

  #databaseBytes(database: number): Buffer {
    const dir = path.join(this.#dataDir, 'base', String(database));
    let bytes = 0n;
    for (const name of readdirSync(dir).filter((file) => /^\d/.test(file)))
      bytes += BigInt(statSync(path.join(dir, name)).size);
    const out = Buffer.alloc(8);
    out.writeBigInt64BE(bytes);
    return out;
  }
}

function segmentPath(relation: string, segment: number): string {
  return segment === 0 ? relation : `${relation}.${segment}`;
}

function relationBlocks(relation: string): number | null {
  for (let segment = 0; ; segment++) {
    const stat = statSync(segmentPath(relation, segment), { throwIfNoEntry: false });
    if (!stat) return segment === 0 ? null : segment * SEGMENT_BLOCKS;
    const blocks = stat.size / PAGE_BYTES;
    if (blocks < SEGMENT_BLOCKS) return segment * SEGMENT_BLOCKS + blocks;
  }
}

/** Zeros behind the end. */
function readPage(relation: string, block: number): Buffer {
  const page = Buffer.alloc(PAGE_BYTES);
  const file = openSync(segmentPath(relation, Math.floor(block / SEGMENT_BLOCKS)), 'r');
  try {
    readSync(file, page, 0, PAGE_BYTES, (block % SEGMENT_BLOCKS) * PAGE_BYTES);
  } finally {
    closeSync(file);
  }
  return page;
}
