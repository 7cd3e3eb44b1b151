/**
 * The WAL of one simulated safekeeper on its disk: what reads see, and what a power loss leaves of it. Positions are LSNs.
 *
 * After a power loss, of what was written since the last sync either some prefix is there, or any set of small pieces: a disk writes
 * in the order it likes.
 */
import { strict as assert } from 'node:assert';
import type { Random } from './random.js';
import { LOG_BYTES_MAX } from './toy-wal.js';

const PIECE_BYTES = 16;

export class SimDisk {
  /** What reads see. */
  readonly bytes = new Uint8Array(LOG_BYTES_MAX);
  /** What is durable. */
  readonly durable = new Uint8Array(LOG_BYTES_MAX);
  /** Segments below were removed. The bytes are kept for the checks, but nobody may read them. */
  removedBelow = 0;
  /** Behind here nothing was ever written since the last truncation. */
  private end = 0;
  private dirtyFrom = LOG_BYTES_MAX;

  write(at: number, bytes: Uint8Array): void {
    assert.ok(at <= this.end, `WAL was written at ${at}, the file ends at ${this.end}: a hole`);
    this.bytes.set(bytes, at);
    this.end = Math.max(this.end, at + bytes.length);
    this.dirtyFrom = Math.min(this.dirtyFrom, at);
  }

  sync(): void {
    this.keep(this.dirtyFrom, this.end);
    this.dirtyFrom = LOG_BYTES_MAX;
  }

  /** Durably drops everything, and begins at `at`. */
  start(at: number): void {
    this.end = Math.max(this.end, at);
    this.truncate(0);
    this.end = at;
  }

  remove(below: number): void {
    this.removedBelow = Math.max(this.removedBelow, below);
  }

  /** Becomes what another one has up to `end`, durably; from `from` on, where the object store ends. */
  copy(other: SimDisk, from: number, end: number): void {
    assert.ok(other.removedBelow <= from, `WAL from ${from} on was copied, ${other.removedBelow} is the first`);
    this.bytes.set(other.bytes.subarray(0, end));
    this.durable.set(this.bytes);
    this.end = end;
    this.removedBelow = from;
  }

  /** Durably drops what lies behind `to`. */
  truncate(to: number): void {
    assert.ok(to >= this.removedBelow || to === 0, `WAL is cut at ${to}, where it was removed already`);
    this.sync();
    this.bytes.fill(0, to, this.end);
    this.durable.fill(0, to, this.end);
    this.end = to;
  }

  /** A start after this reads what the disk has, and syncs it before anybody is told of it. */
  losePower(random: Random): void {
    const dirtyBytes = Math.max(0, this.end - this.dirtyFrom);
    if (dirtyBytes > 0) {
      if (random(2) === 0) {
        this.keep(this.dirtyFrom, this.dirtyFrom + random(dirtyBytes + 1));
      } else {
        for (let at = this.dirtyFrom; at < this.end; at += PIECE_BYTES) {
          if (random(2) === 0) this.keep(at, Math.min(at + PIECE_BYTES, this.end));
        }
      }
      this.bytes.set(this.durable.subarray(this.dirtyFrom, this.end), this.dirtyFrom);
    }
    this.dirtyFrom = LOG_BYTES_MAX;
  }

  private keep(from: number, to: number): void {
    if (from < to) this.durable.set(this.bytes.subarray(from, to), from);
  }
}
