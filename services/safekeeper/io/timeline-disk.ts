/** Opens a timeline's directory and performs the acceptor's effects on it. Replaced as a whole after a failure. */
import { assert } from '#shared/core/assert.js';
import { formatTtid } from '#shared/core/ids.js';
import { StorageError } from '#shared/core/errors.js';
import { formatLsn, INVALID_LSN, lsn, lsnMin, MAX_LSN, type Lsn } from '#shared/core/lsn.js';
import { segmentNumber } from '#shared/postgres/wal-layout.js';
import { WalStreamDecoder } from '#shared/postgres/wal-stream-decoder.js';
import { createAcceptor } from '../core/acceptor.js';
import type { AcceptorEffect, AcceptorState, RecordDecoder } from '../core/acceptor-types.js';
import { readControlFile, writeControlFile } from './control-store.js';
import type { Disk } from './disk.js';
import { WalStorage, type WalFileReader, type WalStorageCounters } from './wal-storage.js';

/** Writes are joined up to this size. */
const JOINED_BYTES_MAX = 8 << 20;

export type DiskEffect = Exclude<AcceptorEffect, { kind: 'reply' }>;

export interface TimelineDiskOptions {
  readonly disk: Disk;
  readonly dir: string;
  readonly nodeId: number;
  readonly counters: WalStorageCounters;
}

export function makeDecoder(at: Lsn, segSize: number): RecordDecoder {
  return new WalStreamDecoder({ startLsn: at, segSize, parseBlocks: false });
}

export class TimelineDisk {
  readonly dir: string;
  private readonly disk: Disk;
  private readonly storage: WalStorage;
  /** Successive write-wal effects not performed yet. */
  private joined: Uint8Array[] = [];
  private joinedBytes = 0;
  private joinedAt: Lsn = INVALID_LSN;
  /** Up to here a successful sync vouches for the WAL. After a failed one, reading it back proves nothing. */
  private trusted: Lsn;

  private constructor(options: TimelineDiskOptions, storage: WalStorage, trusted: Lsn) {
    this.disk = options.disk;
    this.dir = options.dir;
    this.storage = storage;
    this.trusted = trusted;
  }

  get trustedLsn(): Lsn {
    return this.trusted;
  }

  /**
   * Reads the control file and finds the end of WAL, but not beyond `trustUpTo`, which a predecessor of this process's life vouches
   * for. Throws `not-found`, or `corrupt` when WAL is missing that must be there.
   */
  static async open(
    options: TimelineDiskOptions,
    trustUpTo: Lsn = MAX_LSN,
  ): Promise<{ disk: TimelineDisk; acceptor: AcceptorState }> {
    const control = await readControlFile(options.disk, options.dir);
    const storage = new WalStorage({ ...options, segSize: control.segSize });
    const isStarted = control.timelineStartLsn !== INVALID_LSN;
    const isEvicted = control.evictedLsn !== INVALID_LSN;
    const found = isEvicted ? control.evictedLsn : await storage.findEnd(isStarted ? control.commitLsn : INVALID_LSN);
    if (isStarted && trustUpTo !== MAX_LSN && found < trustUpTo) {
      throw new StorageError(
        'corrupt',
        `WAL of ${formatTtid(control.ttid)} ends at ${formatLsn(found)}, but was durable up to ${formatLsn(trustUpTo)}`,
      );
    }
    const flushLsn = isStarted ? lsnMin(found, trustUpTo) : INVALID_LSN;
    const acceptor = createAcceptor({ nodeId: options.nodeId, control, flushLsn, makeDecoder });
    return { disk: new TimelineDisk(options, storage, flushLsn), acceptor };
  }

  /** Performs one effect, or remembers it when it is a write. `flushLsn`: what will be durable once a flush is done. */
  async perform(effect: DiskEffect, flushLsn: Lsn): Promise<void> {
    if (effect.kind === 'write-wal') {
      if (this.joinedBytes + effect.bytes.length > JOINED_BYTES_MAX) await this.writeJoined();
      this.join(effect.at, effect.bytes);
      return;
    }
    await this.writeJoined();
    switch (effect.kind) {
      case 'flush-wal':
        await this.storage.sync();
        this.trusted = flushLsn;
        return;
      case 'truncate-wal':
        this.trusted = lsnMin(this.trusted, effect.to);
        await this.storage.truncate(effect.to);
        return;
      case 'start-wal':
        await this.storage.start(effect.at, effect.systemId);
        this.trusted = effect.at;
        return;
      case 'remove-wal':
        await this.storage.removeBelow(effect.below);
        return;
      case 'persist':
        await writeControlFile(this.disk, this.dir, effect.control);
    }
  }

  /** Puts the last segment of an evicted timeline back; the acceptor is told afterwards. */
  async restore(at: Lsn, bytes: Uint8Array): Promise<void> {
    await this.storage.restore(segmentNumber(at, this.storage.segSize), bytes);
  }

  /** Writes what was remembered. */
  async writeJoined(): Promise<void> {
    if (this.joined.length === 0) return;
    const pieces = this.joined;
    this.joined = [];
    this.joinedBytes = 0;
    await this.storage.write(this.joinedAt, pieces);
  }

  reader(): WalFileReader {
    return this.storage.reader();
  }

  close(): Promise<void> {
    return this.storage.close();
  }

  private join(at: Lsn, bytes: Uint8Array): void {
    if (this.joined.length === 0) this.joinedAt = at;
    assert(this.joinedAt + this.joinedBytes === at, () => `write at ${at} does not join ${lsn(this.joinedAt)}`);
    this.joined.push(bytes);
    this.joinedBytes += bytes.length;
  }
}
