/**
 * A cheap client of the pagestream protocol for benchmarks: one socket, requests made beforehand, a fixed number in flight, answers only
 * counted. So that the server and not the client is measured.
 *
 *   request  'd' len u32 | 2 u8, reqid u64, request_lsn u64, not_modified_since u64, spc, db, rel u32, fork u8, block u32
 *   answer   'd' len u32 | 102 u8, the request behind its tag, page
 */
import net from 'node:net';
import { once } from 'node:events';
import type { TenantTimelineId } from '#shared/core/ids.js';
import type { RelTag } from '../../services/pageserver/core/keyspace.js';

export const REQUEST_BYTES = 47;
export const ANSWER_BYTES = 5 + 42 + 8192;
const ANSWER_TAG = 102;
const LATEST = 0xffff_ffff_ffff_ffffn;
const LENGTH_AT = 1;
const TAG_AT = 5;

export interface PageRef {
  readonly rel: RelTag;
  readonly block: number;
}

export interface LoadResult {
  readonly count: number;
  readonly seconds: number;
  /** Of each request, from being written to its answer's last byte, sorted. */
  readonly latenciesUs: Float64Array;
}

/** All requests one behind the other. */
export function encodeRequests(pages: readonly PageRef[]): Buffer {
  const out = Buffer.alloc(pages.length * REQUEST_BYTES);
  pages.forEach(({ rel, block }, i) => {
    let at = i * REQUEST_BYTES;
    at = out.writeUInt8(0x64, at);
    at = out.writeUInt32BE(REQUEST_BYTES - 1, at);
    at = out.writeUInt8(2, at);
    at = out.writeBigUInt64BE(BigInt(i), at);
    at = out.writeBigUInt64BE(LATEST, at);
    at = out.writeBigUInt64BE(0n, at);
    for (const field of [rel.spc, rel.db, rel.rel]) at = out.writeUInt32BE(field, at);
    at = out.writeUInt8(rel.fork, at);
    out.writeUInt32BE(block, at);
  });
  return out;
}

export class PageLoad implements Disposable {
  private readonly socket: net.Socket;

  private constructor(socket: net.Socket) {
    this.socket = socket;
  }

  /** `ttid` null: the other side speaks no handshake (the echo server). */
  static async open(addr: string, ttid: TenantTimelineId | null): Promise<PageLoad> {
    const [host = '', port = ''] = addr.split(':');
    const socket = net.connect({ host, port: Number(port), noDelay: true });
    await once(socket, 'connect');
    if (ttid !== null) await startStream(socket, ttid);
    return new PageLoad(socket);
  }

  /** Sends all of `requests`, keeping `inFlight` of them unanswered. */
  run(requests: Buffer, inFlight: number): Promise<LoadResult> {
    const { socket } = this;
    const count = requests.length / REQUEST_BYTES;
    const sentAt = new Float64Array(count);
    const latenciesUs = new Float64Array(count);
    let sent = 0;
    let answered = 0;
    /** Bytes of the present answer that are here. */
    let have = 0;
    return new Promise((resolve, reject) => {
      const began = performance.now();
      const send = () => {
        const until = Math.min(count, answered + inFlight);
        if (sent >= until) return;
        sentAt.fill(performance.now(), sent, until);
        socket.write(requests.subarray(sent * REQUEST_BYTES, until * REQUEST_BYTES));
        sent = until;
      };
      const take = (chunk: Buffer) => {
        const now = performance.now();
        for (let at = 0; at < chunk.length;) {
          if (have <= TAG_AT && TAG_AT - have < chunk.length - at) checkTag(chunk[at + TAG_AT - have]!);
          const step = Math.min(ANSWER_BYTES - have, chunk.length - at);
          at += step;
          have += step;
          if (have < ANSWER_BYTES) continue;
          have = 0;
          latenciesUs[answered] = (now - sentAt[answered]!) * 1000;
          answered++;
        }
        if (answered < count) return send();
        detach();
        resolve({ count, seconds: (now - began) / 1000, latenciesUs: latenciesUs.sort() });
      };
      const onData = (chunk: Buffer) => {
        try {
          take(chunk);
        } catch (error) {
          fail(error as Error);
        }
      };
      const fail = (error: Error) => {
        detach();
        reject(error);
      };
      const onClose = () => fail(new Error('the server closed the connection'));
      const detach = () => socket.off('data', onData).off('error', fail).off('close', onClose);
      socket.on('data', onData).on('error', fail).on('close', onClose);
      send();
    });
  }

  [Symbol.dispose](): void {
    this.socket.destroy();
  }
}

function checkTag(tag: number): void {
  if (tag !== ANSWER_TAG) throw new Error(`the server answered with message ${tag}, not with a page`);
}

/** Start-up, then the command; resolves when COPY has begun. */
async function startStream(socket: net.Socket, ttid: TenantTimelineId): Promise<void> {
  const body = Buffer.from('\0\x03\0\0user\0bench\0\0', 'latin1');
  const startup = Buffer.alloc(4 + body.length);
  startup.writeUInt32BE(startup.length, 0);
  body.copy(startup, 4);
  socket.write(startup);
  await message(socket, 'Z');
  const text = `pagestream_v3 ${ttid.tenantId} ${ttid.timelineId}\0`;
  const query = Buffer.alloc(5 + text.length);
  query.write('Q');
  query.writeUInt32BE(4 + text.length, 1);
  query.write(text, 5);
  socket.write(query);
  await message(socket, 'W');
}

/** Reads messages up to the first of a type, which must be the last one sent. */
async function message(socket: net.Socket, type: string): Promise<void> {
  let bytes: Buffer = Buffer.alloc(0);
  for (;;) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    bytes = Buffer.concat([bytes, chunk]);
    while (bytes.length >= TAG_AT && bytes.length > bytes.readUInt32BE(LENGTH_AT)) {
      const found = String.fromCharCode(bytes[0]!);
      if (found === type) return;
      if (found === 'E') throw new Error(`the page server refused: ${bytes.toString('latin1', TAG_AT)}`);
      bytes = bytes.subarray(1 + bytes.readUInt32BE(LENGTH_AT));
    }
  }
}
