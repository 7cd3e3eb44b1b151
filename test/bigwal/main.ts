/**
 * Much WAL through a page server with little memory and disk:
 * `npm run bigwal -- --size 200M [--memory 256M] [--disk 1G] [--load mixed|bulk] [--seed 1] [--reads 300] [--wal DIR]`.
 *
 * A real cluster writes the WAL; a hot standby, which only redoes it, says what pages must be at the end of each round. The page server
 * gets the WAL as from a safekeeper. Then random pages at random past LSNs are read and compared, history is given up but for a branch
 * point, old history merged, and head and branch read again. Printed: peaks of memory and disk, write and space amplification, and how
 * long the creation of a branch took as the database grew. With `--wal` the WAL is kept in DIR, and used again if it is there.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { openObjectStore } from '#shared/io/object-store.js';
import { writeManifest } from '../../services/pageserver/tenant/manifest.js';
import { WalSource } from '../../services/pageserver/testing/wal-source.js';
import { drive, mib, say, TTID } from './drive.js';
import type { Recording } from './recording.js';
import { recordingIn } from './recording.js';
import { LimitedServer } from './server.js';
import { walFiles } from './wal-files.js';

const MIB = 1 << 20;

const { values } = parseArgs({
  options: {
    size: { type: 'string', default: '200M' },
    memory: { type: 'string', default: '256M' },
    disk: { type: 'string', default: '1G' },
    load: { type: 'string', default: 'mixed' },
    seed: { type: 'string', default: '1' },
    reads: { type: 'string', default: '300' },
    wal: { type: 'string' },
  },
});

function bytesOf(text: string): number {
  const match = /^(\d+)([MG])$/.exec(text);
  if (match === null) throw new Error(`"${text}" is no size: write 200M or 5G`);
  return Number(match[1]) * (match[2] === 'G' ? 1024 * MIB : MIB);
}

function seeded(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * below);
  };
}

const root = mkdtempSync(join(tmpdir(), 'neon-bigwal-'));
const random = seeded(Number(values.seed));

function serverFlags(recording: Recording, brokerAddr: string): string[] {
  return [
    ...['--remote-storage', `file://${root}/store`, '--initdb-image', recording.image],
    ...['--broker-endpoint', brokerAddr, '--memory-max', String(bytesOf(values.memory))],
    // What a job needs at one time comes on top of the limit.
    ...['--local-layer-bytes-max', String(Math.floor(bytesOf(values.disk) / 2))],
    ...['--checkpoint-distance', String(64 * MIB)],
  ];
}

async function measure(recording: Recording): Promise<void> {
  const { pgWal, segSize, systemId, startLsn, endLsn } = recording;
  const storeDir = join(root, 'store');
  const store = await openObjectStore(`file://${storeDir}`);
  const manifest = { tenantId: TTID.tenantId, systemId: BigInt(systemId), generation: 1, deletedAtMs: null };
  await writeManifest(store, manifest);
  const source = new WalSource(TTID, walFiles(pgWal, segSize, startLsn, endLsn));
  source.chunkBytes = 128 * 1024;
  await source.start();
  const server = await LimitedServer.start(root, serverFlags(recording, source.addr));
  try {
    await drive({ server, source, recording, random, readCount: Number(values.reads), storeDir });
    const [memory, disk] = [bytesOf(values.memory), bytesOf(values.disk)];
    const verdict = (value: number, limit: number): string => `${mib(value)} of ${mib(limit)}`;
    say(`peak memory ${verdict(server.rssMax, memory)}, peak disk ${verdict(server.diskMax, disk)}`);
    if (server.rssMax > memory || server.diskMax > disk) throw new Error('a bound was not kept');
  } finally {
    await server.stop();
    await source.stop();
  }
}

try {
  const { wal, load } = values;
  if (load !== 'mixed' && load !== 'bulk') throw new Error(`"${load}" is no load: write mixed or bulk`);
  const wanted = { dir: wal ?? join(root, 'recording'), walBytes: bytesOf(values.size), load, random } as const;
  const recording = await recordingIn(wanted);
  const { startLsn, endLsn, rounds, pages } = recording;
  say(`${mib(endLsn - startLsn)} of WAL in ${rounds} rounds, ${pages.length} pages noted`);
  await measure(recording);
} catch (error) {
  process.exitCode = 1;
  say(String(error instanceof Error ? error.stack : error));
} finally {
  rmSync(root, { recursive: true, force: true });
}
