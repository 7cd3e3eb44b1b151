/**
 * Oracle 1: every record is redone and compared with the image that wal_consistency_checking put into it. Our own pages go on into
 * the next record, so an error that a mask hides once has many chances to show.
 */
import { StorageError } from '#shared/core/errors.js';
import { formatLsn } from '#shared/core/lsn.js';
import { RMGR_NAMES } from '#shared/postgres/rmgr.js';
import { blockImage, XLR_RMGR_INFO_MASK, type WalRecord } from '#shared/postgres/wal-record.js';
import { maskPage } from './mask.js';
import { PAGE_BYTES } from './page-files.js';
import { blockTag, Replay } from './replay.js';
import { OracleReport } from './report.js';
import { readControlFile, WalSource } from './wal-source.js';

const image = new Uint8Array(PAGE_BYTES);
const ours = new Uint8Array(PAGE_BYTES);

/** Reads all WAL of the stopped cluster at `dataDir`, which went on from `snapshotDir`. */
export function runMasked(
  snapshotDir: string,
  dataDir: string,
  report: OracleReport,
  options: { stopAtFirst?: boolean } = {},
): void {
  const source = new WalSource(snapshotDir, dataDir);
  const replay = new Replay(snapshotDir);
  const started = performance.now();
  redoAll(source, replay, report, options.stopAtFirst === true);
  report.redoMs += performance.now() - started;
  if (options.stopAtFirst === true && report.examples.length > 0) return;
  // A clean stop ends WAL with a checkpoint: short of it, the reader has given up.
  const lastCheckpoint = readControlFile(dataDir).checkPointLsn;
  if (source.endLsn <= lastCheckpoint) {
    report.error(`read WAL to ${formatLsn(source.endLsn)} only, its last record is at ${formatLsn(lastCheckpoint)}`);
  }
  const chains = replay.checkChains();
  report.chains += chains.count;
  for (const name of chains.different) report.error(`${name} differs when its records are applied in one call`);
}

function redoAll(source: WalSource, replay: Replay, report: OracleReport, stopAtFirst: boolean): void {
  for (const record of source.records()) {
    const counts = report.of(record.rmid);
    counts.records++;
    if (stopAtFirst && report.examples.length > 0) return;
    replay.applyEffects(record);
    for (let id = 0; id <= record.maxBlockId; id++) {
      if (record.blockPresent[id] === 1) checkBlock(record, id, replay, report);
    }
  }
}

function checkBlock(record: WalRecord, id: number, replay: Replay, report: OracleReport): void {
  const counts = report.of(record.rmid);
  let page: Uint8Array | null;
  try {
    page = replay.applyBlock(record, id);
  } catch (error) {
    if (error instanceof StorageError && error.kind === 'unimplemented') {
      counts.unimplemented++;
      adoptImage(record, id, replay);
    } else {
      report.error(`${describe(record, id)}: ${String(error)}`);
      adoptImage(record, id, replay);
    }
    return;
  }
  if (page === null) return;
  counts.redone++;
  if (record.blockHasImage[id] !== 1 || record.blockApplyImage[id] === 1) return;
  counts.comparisons++;
  report.reach(record.rmid, record.info & XLR_RMGR_INFO_MASK, id);
  blockImage(record, id, image);
  ours.set(page);
  const block = record.blockNumber[id]!;
  maskPage(image, record.rmid, record.blockFork[id]!, block);
  maskPage(ours, record.rmid, record.blockFork[id]!, block);
  if (Buffer.compare(image, ours) === 0) return;
  counts.mismatches++;
  const at = ours.findIndex((byte, i) => byte !== image[i]);
  report.note(`${describe(record, id)}: byte ${at} is ${ours[at]}, the server has ${image[at]}`);
  adoptImage(record, id, replay);
}

/** After an error: goes on with the server's page, so that one fault is not counted again and again. */
function adoptImage(record: WalRecord, id: number, replay: Replay): void {
  if (record.blockHasImage[id] !== 1) return;
  const page = new Uint8Array(PAGE_BYTES);
  blockImage(record, id, page);
  const fork = replay.fork(blockTag(record, id));
  fork.pages[record.blockNumber[id]!] = page;
  fork.chains[record.blockNumber[id]!] = undefined;
}

function describe(record: WalRecord, id: number): string {
  const tag = blockTag(record, id);
  const where = `${tag.spc}/${tag.db}/${tag.rel} fork ${tag.fork} block ${record.blockNumber[id]}`;
  const info = (record.info & XLR_RMGR_INFO_MASK).toString(16);
  return `${formatLsn(record.startLsn)} ${RMGR_NAMES[record.rmid]} info ${info}, block id ${id} (${where})`;
}
