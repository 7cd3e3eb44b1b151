/** Finds where valid WAL ends, as a server does after a crash: the first thing that is not a record is the end, not an error. */
import { StorageError } from '../core/errors.js';
import { type Lsn } from '../core/lsn.js';
import { WalStreamDecoder } from './wal-stream-decoder.js';

export interface WalEnd {
  /** End of the last whole record; the start position when there is none. */
  readonly endLsn: Lsn;
  /** Start of that record, i.e. what a record written at endLsn must have as xl_prev; 0 when there is none. */
  readonly lastRecordLsn: Lsn;
  /** Why the scan ended there. */
  readonly reason: string;
}

/** Takes all whole records out. Null: wants more input. A text: no record follows, for this reason. Other errors are thrown. */
export function drainRecords(decoder: WalStreamDecoder): string | null {
  try {
    while (decoder.next());
    return null;
  } catch (error) {
    if (error instanceof StorageError && error.kind === 'corrupt') return error.message;
    throw error;
  }
}

/**
 * `read` returns the bytes that lie at an LSN, as many as it likes, and an empty array where the files end. `startLsn` must be a
 * record boundary.
 */
export async function findEndOfWal(options: {
  readonly startLsn: Lsn;
  readonly segSize: number;
  readonly systemId?: bigint;
  readonly read: (at: Lsn) => Promise<Uint8Array> | Uint8Array;
}): Promise<WalEnd> {
  const { startLsn, segSize, systemId } = options;
  const decoder = new WalStreamDecoder({
    startLsn,
    segSize,
    parseBlocks: false,
    ...(systemId === undefined ? {} : { systemId }),
  });
  let reason: string | null = null;
  while (reason === null) {
    const bytes = await options.read(decoder.inputLsn);
    if (bytes.length === 0) {
      reason = 'the files end here';
    } else {
      decoder.feed(bytes);
      reason = drainRecords(decoder);
    }
  }
  return { endLsn: decoder.recordEndLsn, lastRecordLsn: decoder.recordStartLsn, reason };
}
