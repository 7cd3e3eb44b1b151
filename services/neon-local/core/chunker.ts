/**
 * Cuts a stream of bytes into chunks whose borders follow from the content, so that what did not change between two images gives the
 * same chunks wherever it stands. A gear hash rolls over the last 32 bytes; a border is where its upper 20 bits are 0. Pure.
 *
 * The table and the bounds are part of the image format: other ones would find no chunk again.
 */
export const CHUNK_BYTES_MIN = 256 << 10;
export const CHUNK_BYTES_MAX = 4 << 20;
/** A border every 1 MiB on average. */
const MASK = (1 << 20) - 1;

/** xorshift32 from a fixed seed. */
function gearTable(): Int32Array {
  const table = new Int32Array(256);
  let state = 0x9e3779b9 | 0;
  for (let at = 0; at < table.length; at++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    table[at] = state;
  }
  return table;
}

const GEAR = gearTable();

export class Chunker {
  private pieces: Buffer[] = [];
  private size = 0;
  private hash = 0;

  /** Takes bytes, gives the chunks that they end. The chunks share memory with nothing. */
  feed(bytes: Buffer): Buffer[] {
    const chunks: Buffer[] = [];
    let from = 0;
    while (from < bytes.length) {
      const to = this.borderIn(bytes, from);
      this.pieces.push(bytes.subarray(from, to < 0 ? bytes.length : to));
      this.size += (to < 0 ? bytes.length : to) - from;
      if (to < 0) break;
      chunks.push(this.take());
      from = to;
    }
    // What stays must not change with the caller's buffer.
    this.pieces = this.pieces.length === 0 ? [] : [Buffer.concat(this.pieces)];
    return chunks;
  }

  /** The rest; null = nothing is left. */
  finish(): Buffer | null {
    return this.size === 0 ? null : this.take();
  }

  /** Position behind the next border; -1 = there is none in these bytes. */
  private borderIn(bytes: Buffer, from: number): number {
    let hash = this.hash;
    const mayEndAt = from + Math.max(0, CHUNK_BYTES_MIN - this.size);
    const mustEndAt = from + CHUNK_BYTES_MAX - this.size;
    const end = Math.min(bytes.length, mustEndAt);
    for (let at = from; at < end; at++) {
      hash = ((hash << 1) + (GEAR[bytes[at] ?? 0] ?? 0)) | 0;
      if (at + 1 >= mayEndAt && ((hash >>> 12) & MASK) === 0) {
        this.hash = 0;
        return at + 1;
      }
    }
    this.hash = end === mustEndAt ? 0 : hash;
    return end === mustEndAt ? end : -1;
  }

  private take(): Buffer {
    const chunk = Buffer.concat(this.pieces, this.size);
    this.pieces = [];
    this.size = 0;
    return chunk;
  }
}
