/**
 * The beginning of a client's connection: encryption requests, TLS, then a start-up packet or a cancel request. Reads exactly the bytes of
 * each packet, so that everything behind them is left for the compute.
 */
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { StorageError } from '#shared/core/errors.js';
import { STARTUP_BYTES_MAX } from '#shared/postgres/wire/frontend-reader.js';
import { parseStartupPacket } from '#shared/postgres/wire/startup-packet.js';

const HEAD_BYTES = 8;
/** First byte of a TLS handshake: a client that does not ask before. */
const TLS_HANDSHAKE = 0x16;
/** SSLRequest and GSSENCRequest may each come once. */
const NEGOTIATIONS_MAX = 3;

export type Opening =
  | {
      readonly kind: 'startup';
      readonly socket: Socket;
      readonly minorVersion: number;
      readonly parameters: ReadonlyMap<string, string>;
      /** Of TLS; empty = none. */
      readonly serverName: string;
    }
  | { readonly kind: 'cancel'; readonly socket: Socket; readonly packet: Buffer; readonly key: string }
  /** The client looked whether somebody listens, and left. */
  | { readonly kind: 'gone' };

/** Null when the client leaves before the first byte. */
async function readExactly(socket: Socket, size: number): Promise<Buffer | null> {
  for (;;) {
    const bytes = socket.read(size) as Buffer | null;
    if (bytes !== null) {
      if (bytes.length === size) return bytes;
      throw new StorageError('invalid', 'the connection ended inside a packet');
    }
    if (socket.readableEnded || socket.destroyed) return null;
    const over = new AbortController();
    const options = { signal: over.signal };
    await Promise.race([
      once(socket, 'readable', options),
      once(socket, 'close', options),
      once(socket, 'end', options),
    ]);
    over.abort();
  }
}

async function startTls(socket: Socket, secureContext: SecureContext): Promise<TLSSocket> {
  const secure = new TLSSocket(socket, { isServer: true, secureContext, ALPNProtocols: ['postgresql'] });
  await once(secure, 'secure');
  return secure;
}

export async function readOpening(raw: Socket, secureContext: SecureContext): Promise<Opening> {
  let socket = raw;
  let serverName = '';
  const encrypt = async () => {
    const secure = await startTls(socket, secureContext);
    socket = secure;
    serverName = (secure as TLSSocket & { servername?: string | false }).servername || '';
  };
  for (let round = 0; round <= NEGOTIATIONS_MAX; round++) {
    const first = await readExactly(socket, 1);
    if (first === null) return { kind: 'gone' };
    if (first[0] === TLS_HANDSHAKE && socket === raw) {
      socket.unshift(first);
      await encrypt();
      continue;
    }
    const rest = await readExactly(socket, HEAD_BYTES - 1);
    if (rest === null) return { kind: 'gone' };
    const head = Buffer.concat([first, rest]);
    const length = head.readUInt32BE(0);
    if (length < HEAD_BYTES || length > STARTUP_BYTES_MAX) {
      throw new StorageError('invalid', 'this port speaks the Postgres protocol');
    }
    const body = length === HEAD_BYTES ? Buffer.alloc(0) : await readExactly(socket, length - HEAD_BYTES);
    if (body === null) return { kind: 'gone' };
    const packet = Buffer.concat([head, body]);
    const parsed = parseStartupPacket(packet, 4, packet.length);
    if (parsed.kind === 'startup') {
      return { kind: 'startup', socket, serverName, minorVersion: parsed.minorVersion, parameters: parsed.parameters };
    }
    if (parsed.kind === 'cancel') return { kind: 'cancel', socket, packet, key: body.toString('hex') };
    // What follows would be plain text sent where the client expects encryption to be negotiated.
    if (socket.readableLength > 0) throw new StorageError('invalid', 'data behind an encryption request');
    if (parsed.kind === 'ssl' && socket === raw) {
      socket.write('S');
      await encrypt();
    } else {
      socket.write('N');
    }
  }
  throw new StorageError('invalid', 'too many encryption requests');
}
