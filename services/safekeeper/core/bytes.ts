/** A growing little-endian writer and a checked reader, for the control file. */
import { StorageError } from '#shared/core/errors.js';

export class ByteWriter {
  private buffer = Buffer.alloc(512);
  private length = 0;

  u32(value: number): this {
    this.reserve(4);
    this.buffer.writeUInt32LE(value, this.length);
    this.length += 4;
    return this;
  }

  /** Of a safe integer. */
  u64(value: number): this {
    return this.big(BigInt(value));
  }

  big(value: bigint): this {
    this.reserve(8);
    this.buffer.writeBigUInt64LE(value, this.length);
    this.length += 8;
    return this;
  }

  bytes(value: Uint8Array): this {
    this.reserve(value.length);
    this.buffer.set(value, this.length);
    this.length += value.length;
    return this;
  }

  /** u32 length, then UTF-8. */
  text(value: string): this {
    const encoded = Buffer.from(value, 'utf8');
    return this.u32(encoded.length).bytes(encoded);
  }

  /** Shares memory with the writer. */
  finish(): Buffer {
    return this.buffer.subarray(0, this.length);
  }

  private reserve(more: number): void {
    if (this.length + more <= this.buffer.length) return;
    const grown = Buffer.alloc(Math.max(this.buffer.length * 2, this.length + more));
    this.buffer.copy(grown, 0, 0, this.length);
    this.buffer = grown;
  }
}

/** Throws `corrupt` instead of reading past the end. */
export class ByteReader {
  private readonly buffer: Buffer;
  private readonly what: string;
  private at = 0;

  constructor(bytes: Uint8Array, what: string) {
    this.buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.what = what;
  }

  get remaining(): number {
    return this.buffer.length - this.at;
  }

  u32(): number {
    return this.buffer.readUInt32LE(this.take(4));
  }

  /** Throws `corrupt` above 2^53. */
  u64(): number {
    const value = this.big();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw this.corrupt(`has the number ${value} out of range`);
    return Number(value);
  }

  big(): bigint {
    return this.buffer.readBigUInt64LE(this.take(8));
  }

  /** Shares memory with the input. */
  bytes(count: number): Buffer {
    const start = this.take(count);
    return this.buffer.subarray(start, start + count);
  }

  text(): string {
    return this.bytes(this.u32()).toString('utf8');
  }

  /** Length of a list whose items take at least `itemBytes` each. */
  count(itemBytes: number): number {
    const count = this.u32();
    if (count * itemBytes > this.remaining) throw this.corrupt(`says ${count} items, more than fit`);
    return count;
  }

  end(): void {
    if (this.remaining !== 0) throw this.corrupt(`has ${this.remaining} bytes too many`);
  }

  private take(count: number): number {
    if (count > this.remaining) throw this.corrupt(`ends after ${this.buffer.length} bytes`);
    const start = this.at;
    this.at += count;
    return start;
  }

  private corrupt(problem: string): StorageError {
    return new StorageError('corrupt', `${this.what} ${problem}`);
  }
}
