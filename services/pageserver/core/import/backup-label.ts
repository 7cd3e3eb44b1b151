/**
 * backup_label, the text file with which a base backup of a running server begins:
 *
 *   START WAL LOCATION: 0/2000028 (file 000000010000000000000002)     redo of its checkpoint: recovery begins here
 *   CHECKPOINT LOCATION: 0/2000060
 *   BACKUP METHOD: streamed
 *   BACKUP FROM: primary                                              or standby
 *   START TIME: 2026-01-01 00:00:00 UTC
 *   LABEL: pg_basebackup base backup
 *   START TIMELINE: 1
 */
import { StorageError } from '#shared/core/errors.js';
import { type Lsn, parseLsn } from '#shared/core/lsn.js';

export const BACKUP_LABEL = 'backup_label';
export const BACKUP_LABEL_BYTES_MAX = 64 * 1024;

export interface BackupLabel {
  /** A record begins here. Files were copied after it: recovery from here makes them one state. */
  readonly startLsn: Lsn;
  /** WAL timeline of the server. */
  readonly walTimeline: number;
  /** Taken from a standby: then pg_control says where the files are consistent, else a record does. */
  readonly isFromStandby: boolean;
}

/** Throws StorageError `invalid`. */
export function parseBackupLabel(bytes: Uint8Array): BackupLabel {
  const text = Buffer.from(bytes).toString('utf8');
  const start = /^START WAL LOCATION: ([0-9A-F]{1,8}\/[0-9A-F]{1,8}) \(file ([0-9A-F]{8})[0-9A-F]{16}\)$/m.exec(text);
  if (start === null) throw new StorageError('invalid', `${BACKUP_LABEL} does not say where its WAL starts`);
  return {
    startLsn: parseLsn(start[1]!),
    walTimeline: parseInt(start[2]!, 16),
    isFromStandby: /^BACKUP FROM: standby$/m.test(text),
  };
}
