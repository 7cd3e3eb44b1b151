/**
 * Decoder against pg_waldump on the same WAL of pgbench, as a ratio of CPU time; run by hand:
 * node --conditions=source --import tsx services/shared/postgres/testing/decode-speed.ts [seconds of load]
 */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { formatLsn, lsn } from '../../core/lsn.js';
import { decodeControlFile } from '../control-file.js';
import { WalStreamDecoder } from '../wal-stream-decoder.js';
import { readWal } from './real-wal.js';
import { PG_BIN, TempCluster } from './temp-cluster.js';
import { pgbench } from './workload.js';

const CHUNK_BYTES = 128 * 1024;
const ROUNDS = 5;

await using cluster = await TempCluster.create({
  config: ['max_wal_size = 8GB', 'wal_keep_size = 4GB', 'synchronous_commit = off', 'shared_buffers = 256MB'],
});
await cluster.start();
await pgbench(cluster, ['-i', '-s', '5', '-q']);
await pgbench(cluster, ['-n', '-c', '4', '-T', process.argv[2] ?? '10']);
await cluster.stop();
const control = decodeControlFile(readFileSync(path.join(cluster.dataDir, 'global/pg_control')));
const { segSize } = control;
const wal = await readWal(cluster, segSize, lsn(control.checkPointLsn + 120));

function decode(parseBlocks: boolean): { cpuMs: number; records: number } {
  const decoder = new WalStreamDecoder({ startLsn: wal.startLsn, segSize, parseBlocks, skipContinuation: true });
  const before = process.cpuUsage();
  let records = 0;
  for (let at = 0; at < wal.bytes.length; at += CHUNK_BYTES) {
    decoder.feed(wal.bytes.subarray(at, at + CHUNK_BYTES));
    while (decoder.next()) records += 1;
  }
  const { user, system } = process.cpuUsage(before);
  return { cpuMs: (user + system) / 1000, records };
}

function waldumpCpuMs(): number {
  const range = `-s ${formatLsn(wal.startLsn)} -e ${formatLsn(wal.endLsn)}`;
  const command = `TIMEFORMAT='%U %S'; time ${PG_BIN}/pg_waldump -p ${cluster.dataDir}/pg_wal ${range} --stats > /dev/null`;
  const text = execFileSync('bash', ['-c', `{ ${command}; } 2>&1`]).toString();
  const [user, system] = text.trim().split('\n').at(-1)!.split(' ').map(Number);
  return (user! + system!) * 1000;
}

const best = { blocks: Infinity, plain: Infinity, waldump: Infinity };
let records = 0;
for (let round = 0; round < ROUNDS; round++) {
  const full = decode(true);
  records = full.records;
  best.blocks = Math.min(best.blocks, full.cpuMs);
  best.plain = Math.min(best.plain, decode(false).cpuMs);
  best.waldump = Math.min(best.waldump, waldumpCpuMs());
}
const megabytes = wal.bytes.length / 1024 / 1024;
console.log(`${records} records in ${megabytes.toFixed(0)} MB, best of ${ROUNDS}, CPU ms:`);
console.log(
  `decoder ${best.blocks.toFixed(0)}, without block references ${best.plain.toFixed(0)}, pg_waldump ${best.waldump}`,
);
console.log(`speed against pg_waldump ${(best.waldump / best.blocks).toFixed(2)}x`);
