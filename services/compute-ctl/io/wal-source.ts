/**
 * Where the walproposer's WAL comes from, nearest first: the window of recent WAL in memory, the compute's own pg_wal (from the
 * position where it started), another safekeeper (anything, also below). One stream from a donor per safekeeper that is served.
 */
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { formatLsn, INVALID_LSN, lsnMin } from '#shared/core/lsn.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { PeerIndex } from '../core/peer.js';
import { WalWindow } from '../core/wal-window.js';
import { DonorStream } from './donor-stream.js';
import { LocalWal } from './local-wal.js';

/** Read from pg_wal at a time: several pieces' worth, since a file is opened and checked for each. */
const LOCAL_READ_BYTES = 1 << 20;

/** A safekeeper that has WAL of this term's history durably below `flushLsn`. */
export interface Donor {
  readonly addr: string;
  readonly flushLsn: Lsn;
}

export interface WalSourceOptions {
  readonly ttid: TenantTimelineId;
  readonly windowBytes: number;
  /** Donors for WAL at a position, best first, without the safekeeper that is served. */
  readonly donorsAt: (fromLsn: Lsn, served: PeerIndex) => Donor[];
  readonly term: () => number;
}

export class WalSource {
  private readonly options: WalSourceOptions;
  private window: WalWindow | null = null;
  private local: LocalWal | null = null;
  private localStartLsn: Lsn = INVALID_LSN;
  private readonly donors = new Map<PeerIndex, DonorStream>();
  /** What was last read from pg_wal for each safekeeper; those in step use each other's. */
  private readonly localReads = new Map<PeerIndex, { readonly beginLsn: Lsn; readonly bytes: Uint8Array }>();
  /** Bytes read from pg_wal and from donors, for metrics. */
  localBytes = 0;
  donorBytes = 0;

  constructor(options: WalSourceOptions) {
    this.options = options;
  }

  /** From here on WAL comes from Postgres: `append` continues at `startLsn`. */
  attachPostgres(options: { startLsn: Lsn; walDir: string; segSize: number }): void {
    this.window = new WalWindow(options.startLsn, this.options.windowBytes);
    this.local = new LocalWal(options);
    this.localStartLsn = options.startLsn;
  }

  append(beginLsn: Lsn, bytes: Uint8Array): void {
    this.window?.append(beginLsn, bytes);
  }

  /** What is in memory at once; otherwise null, and `read` is the way. */
  readNow(fromLsn: Lsn, endLsn: Lsn): Uint8Array | null {
    const recent = this.window?.read(fromLsn, endLsn) ?? null;
    if (recent !== null) return recent;
    for (const { beginLsn, bytes } of this.localReads.values()) {
      const offset = fromLsn - beginLsn;
      if (offset >= 0 && offset < bytes.length) return bytes.subarray(offset, offset + (endLsn - fromLsn));
    }
    return null;
  }

  /** At least one byte of [fromLsn, endLsn). Throws StorageError `unavailable` when nobody has it at the moment. */
  async read(peer: PeerIndex, fromLsn: Lsn, endLsn: Lsn): Promise<Uint8Array> {
    if (this.local !== null && this.window !== null && fromLsn >= this.localStartLsn) {
      const bytes = await this.local.read(fromLsn, lsnMin(this.window.endLsn, (fromLsn + LOCAL_READ_BYTES) as Lsn));
      if (bytes !== null) {
        this.localBytes += bytes.length;
        this.localReads.set(peer, { beginLsn: fromLsn, bytes });
        return bytes.subarray(0, endLsn - fromLsn);
      }
    }
    const bytes = await this.readFromDonor(peer, fromLsn, endLsn);
    this.donorBytes += bytes.length;
    return bytes;
  }

  /** The connection to `peer` ended: its donor is not needed now. */
  forget(peer: PeerIndex): void {
    this.localReads.delete(peer);
    this.closeDonor(peer);
  }

  private closeDonor(peer: PeerIndex): void {
    this.donors.get(peer)?.close();
    this.donors.delete(peer);
  }

  close(): void {
    for (const peer of [...this.donors.keys()]) this.closeDonor(peer);
    this.localReads.clear();
  }

  private async readFromDonor(peer: PeerIndex, fromLsn: Lsn, endLsn: Lsn): Promise<Uint8Array> {
    let stream = this.donors.get(peer);
    if (stream === undefined || stream.position !== fromLsn || stream.endLsn <= fromLsn) {
      this.closeDonor(peer);
      stream = this.openDonor(peer, fromLsn);
      this.donors.set(peer, stream);
    }
    try {
      return await stream.read(endLsn - fromLsn);
    } catch (error) {
      if (this.donors.get(peer) === stream) this.closeDonor(peer);
      throw error;
    }
  }

  private openDonor(peer: PeerIndex, fromLsn: Lsn): DonorStream {
    const donor = this.options.donorsAt(fromLsn, peer)[0];
    if (donor === undefined) {
      throw new StorageError('unavailable', `no connected safekeeper has the WAL at ${formatLsn(fromLsn)}`);
    }
    // Own WAL is nearer from localStartLsn on.
    const endLsn = fromLsn < this.localStartLsn ? lsnMin(donor.flushLsn, this.localStartLsn) : donor.flushLsn;
    return new DonorStream({ addr: donor.addr, ttid: this.options.ttid, term: this.options.term(), fromLsn, endLsn });
  }
}
