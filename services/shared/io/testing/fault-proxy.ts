/**
 * A proxy between an HTTP client and a server that does to answers what networks and overloaded servers do. Each request asks `choose`
 * what shall befall it.
 */
import { createServer, request as httpRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

export type Fault =
  /** As it is. */
  | { readonly kind: 'none' }
  /** The server is not asked; this status is the answer. */
  | { readonly kind: 'status'; readonly status: number }
  /** The connection is reset: before the server is asked, or after it did what was asked. */
  | { readonly kind: 'reset'; readonly when: 'before' | 'after' }
  /** The server is not asked, and no answer ever comes. */
  | { readonly kind: 'silence' }
  /** The answer comes later. */
  | { readonly kind: 'slow'; readonly ms: number }
  /** The body breaks off half way, and the connection is closed. */
  | { readonly kind: 'truncate' }
  /** Half of the body comes, with headers that say that it is all. */
  | { readonly kind: 'shorten' }
  /** Half of the body comes, then nothing more, with the connection open. */
  | { readonly kind: 'stall' }
  /** One byte of the body is another. */
  | { readonly kind: 'damage' };

export interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  /** Counted from 0. */
  readonly number: number;
}

/** Not passed on: they belong to one connection. */
const HOP_HEADERS = ['connection', 'keep-alive', 'transfer-encoding', 'expect'];

function withoutHops(headers: IncomingMessage['headers']): IncomingMessage['headers'] {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_HEADERS.includes(name)));
}

async function readAll(stream: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

export class FaultProxy implements AsyncDisposable {
  choose: (request: SeenRequest) => Fault = () => ({ kind: 'none' });
  readonly seen: SeenRequest[] = [];
  readonly #target: URL;
  readonly #server = createServer((request, response) => {
    this.#pass(request, response).catch(() => response.destroy());
  });

  private constructor(target: URL) {
    this.#target = target;
  }

  static async start(target: string): Promise<FaultProxy> {
    const proxy = new FaultProxy(new URL(target));
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** The next requests meet these, in order; later ones none. */
  failNext(...faults: Fault[]): void {
    const left = [...faults];
    this.choose = () => left.shift() ?? { kind: 'none' };
  }

  async #pass(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const seen = { method: request.method ?? '', url: request.url ?? '', number: this.seen.length };
    this.seen.push(seen);
    const fault = this.choose(seen);
    const body = await readAll(request);
    if (fault.kind === 'silence') return;
    if (fault.kind === 'reset' && fault.when === 'before') return void response.socket?.resetAndDestroy();
    if (fault.kind === 'status') {
      const name = fault.status === 503 ? 'SlowDown' : 'InternalError';
      return void response.writeHead(fault.status).end(`<Error><Code>${name}</Code></Error>`);
    }
    const { status, headers, bytes } = await this.#ask(request, body);
    if (fault.kind === 'reset') return void response.socket?.resetAndDestroy();
    if (fault.kind === 'slow') await new Promise((resolve) => setTimeout(resolve, fault.ms));
    this.#answer(response, fault, { status, headers, bytes });
  }

  #ask(request: IncomingMessage, body: Buffer) {
    return new Promise<{ status: number; headers: IncomingMessage['headers']; bytes: Buffer }>((resolve, reject) => {
      const { hostname, port } = this.#target;
      const { method, url: path } = request;
      // The host is signed: it stays.
      const headers = { ...withoutHops(request.headers), 'content-length': body.length };
      const forwarded = httpRequest({ hostname, port, method, path, headers, setHost: false }, (answer) => {
        readAll(answer).then(
          (bytes) => resolve({ status: answer.statusCode ?? 0, headers: withoutHops(answer.headers), bytes }),
          reject,
        );
      });
      forwarded.on('error', reject);
      forwarded.end(body);
    });
  }

  #answer(
    response: ServerResponse,
    fault: Fault,
    { status, headers, bytes }: { status: number; headers: IncomingMessage['headers']; bytes: Buffer },
  ): void {
    const half = bytes.subarray(0, bytes.length >> 1);
    if (fault.kind === 'shorten') {
      response.writeHead(status, { ...headers, 'content-length': half.length }).end(half);
    } else if (fault.kind === 'truncate') {
      response.writeHead(status, headers);
      response.write(half, () => response.destroy());
    } else if (fault.kind === 'stall') {
      response.writeHead(status, headers).write(half);
    } else {
      const sent = Buffer.from(bytes);
      if (fault.kind === 'damage' && sent.length > 0) sent[sent.length >> 1]! ^= 0x10;
      response.writeHead(status, headers).end(sent);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
