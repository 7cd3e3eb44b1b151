/**
 * Cuts the byte stream of a Postgres client into messages. Owns the input buffer of one connection.
 *
 *   first packets   length u32 (counts itself) | code u32 | body            no type byte until the start-up packet came
 *   all others      type u8 | length u32 (counts itself, not the type) | body
 *
 * A cursor, not a list: `next()` moves it, the public fields then describe one message inside `buffer`, valid until the next
 * `push()` or `next()`. Lengths are checked before anything is awaited, so a peer cannot make us buffer more than one message
 * of the permitted size.
 */
import { StorageError } from '#shared/core/errors.js';

/** Postgres' own bound on start-up packets. */
export const STARTUP_BYTES_MAX = 10_000;
const LENGTH_BYTES = 4;
const HEADER_BYTES = 5;
const EMPTY = Buffer.alloc(0);

export class FrontendReader {
  /** The message found by the last `next()`: its type byte (0 before the end of start-up) and body buffer[bodyStart, bodyEnd). */
  type = 0;
  buffer: Buffer = EMPTY;
  bodyStart = 0;
  bodyEnd = 0;
  #position = 0;
  #inStartup = true;
  readonly #messageBytesMax: number;

  constructor(messageBytesMax: number) {
    this.#messageBytesMax = messageBytesMax;
  }

  /** Bytes pushed and not yet handed out. */
  get bufferedBytes(): number {
    return this.buffer.length - this.#position;
  }

  /** From here on messages carry a type byte. */
  endStartup(): void {
    this.#inStartup = false;
  }

  /** Takes over `chunk`: the caller must not change it afterwards. */
  push(chunk: Buffer): void {
    const left = this.bufferedBytes;
    this.buffer =
      left === 0 ? chunk : Buffer.concat([this.buffer.subarray(this.#position), chunk], left + chunk.length);
    this.#position = 0;
  }

  /** False when the next message is not complete. Throws StorageError `invalid` for a length out of bounds. */
  next(): boolean {
    return this.#inStartup ? this.#nextStartup() : this.#nextTyped();
  }

  #nextStartup(): boolean {
    if (this.bufferedBytes < LENGTH_BYTES) return false;
    const length = this.buffer.readUInt32BE(this.#position);
    if (length < 2 * LENGTH_BYTES || length > STARTUP_BYTES_MAX) {
      throw new StorageError('invalid', `a start-up packet cannot have ${length} bytes`);
    }
    return this.#take(0, LENGTH_BYTES, length - LENGTH_BYTES);
  }

  #nextTyped(): boolean {
    if (this.bufferedBytes < HEADER_BYTES) return false;
    const type = this.buffer.readUInt8(this.#position);
    const length = this.buffer.readUInt32BE(this.#position + 1);
    if (length < LENGTH_BYTES || length - LENGTH_BYTES > this.#messageBytesMax) {
      throw new StorageError(
        'invalid',
        `message type ${type} with ${length} bytes; at most ${this.#messageBytesMax} are taken`,
      );
    }
    return this.#take(type, HEADER_BYTES, length - LENGTH_BYTES);
  }

  #take(type: number, headerBytes: number, bodyBytes: number): boolean {
    if (this.bufferedBytes < headerBytes + bodyBytes) return false;
    this.type = type;
    this.bodyStart = this.#position + headerBytes;
    this.bodyEnd = this.bodyStart + bodyBytes;
    this.#position = this.bodyEnd;
    return true;
  }
}
