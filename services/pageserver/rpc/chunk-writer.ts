/** Gathers the pieces of an archive into messages, and sums them up. */
import { crc32cUpdate } from '#shared/postgres/crc32c.js';

const CHUNK_BYTES = 512 * 1024;

export class ChunkWriter {
  totalBytes = 0;
  readonly #send: (chunk: Buffer) => Promise<void>;
  #chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  #filled = 0;
  #crcState = 0xffff_ffff;

  /** `send` may keep the chunk. */
  constructor(send: (chunk: Buffer) => Promise<void>) {
    this.#send = send;
  }

  async add(piece: Uint8Array): Promise<void> {
    for (let at = 0; at < piece.length;) {
      const count = Math.min(piece.length - at, CHUNK_BYTES - this.#filled);
      this.#chunk.set(piece.subarray(at, at + count), this.#filled);
      this.#filled += count;
      at += count;
      if (this.#filled === CHUNK_BYTES) await this.flush();
    }
  }

  /** Sends what is left. */
  async flush(): Promise<void> {
    if (this.#filled === 0) return;
    const value = this.#chunk.subarray(0, this.#filled);
    this.count(value);
    await this.#send(value);
    // The message may still wait in the stream's queue: its memory is not used again.
    this.#chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    this.#filled = 0;
  }

  /** Adds bytes to the sum that go another way. To be called when nothing is left to flush. */
  count(bytes: Uint8Array): void {
    this.#crcState = crc32cUpdate(this.#crcState, bytes, 0, bytes.length);
    this.totalBytes += bytes.length;
  }

  sum(): { totalBytes: bigint; crc32c: number } {
    return { totalBytes: BigInt(this.totalBytes), crc32c: ~this.#crcState >>> 0 };
  }
}
