/**
 * The newest WAL of one timeline in memory, so that readers who keep up are served without touching files. Holds the buffers it is
 * given, up to a limit; the oldest go first. Contiguous; a gap or a truncation starts it anew.
 */
import { lsn, type Lsn } from '#shared/core/lsn.js';

interface Piece {
  readonly start: Lsn;
  readonly bytes: Uint8Array;
}

export class WalTail {
  private readonly bytesMax: number;
  private pieces: Piece[] = [];
  /** pieces[first..] are held; what is before was dropped and is cut off now and then. */
  private first = 0;
  private held = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  get heldBytes(): number {
    return this.held;
  }

  append(at: Lsn, bytes: Uint8Array): void {
    const last = this.pieces.at(-1);
    if (last !== undefined && last.start + last.bytes.length !== at) this.clear();
    this.pieces.push({ start: at, bytes });
    this.held += bytes.length;
    while (this.held > this.bytesMax) {
      this.held -= (this.pieces[this.first] as Piece).bytes.length;
      this.first += 1;
    }
    if (this.first > 64 && this.first * 2 > this.pieces.length) {
      this.pieces = this.pieces.slice(this.first);
      this.first = 0;
    }
  }

  clear(): void {
    this.pieces = [];
    this.first = 0;
    this.held = 0;
  }

  /** The bytes of [from, to), in pieces that share memory with the tail; null when not all of them are held. */
  read(from: Lsn, to: Lsn): Uint8Array[] | null {
    const oldest = this.pieces[this.first];
    const newest = this.pieces.at(-1);
    if (oldest === undefined || newest === undefined) return null;
    if (from < oldest.start || to > newest.start + newest.bytes.length) return null;
    const out: Uint8Array[] = [];
    let position = from;
    for (let index = this.find(from); position < to; index++) {
      const piece = this.pieces[index] as Piece;
      const begin = position - piece.start;
      const part = piece.bytes.subarray(begin, Math.min(piece.bytes.length, begin + (to - position)));
      out.push(part);
      position = lsn(position + part.length);
    }
    return out;
  }

  /** Index of the piece that holds `at`. */
  private find(at: Lsn): number {
    let low = this.first;
    let high = this.pieces.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.pieces[middle] as Piece).start <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }
}
