/** A real process, killed under load, several times: no acknowledged byte may be missing or different. */
import { strict as assert } from 'node:assert';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { lsn, lsnFromWire, type Lsn } from '#shared/core/lsn.js';
import { createClient } from '#shared/rpc/client.js';
import { WalServiceClient, type StreamWalResponse } from '#gen/neon/safekeeper/v1/safekeeper.js';
import { SEG_SIZE, SYSTEM_ID, TTID } from './testing/cluster.js';
import { SafekeeperProcess } from './testing/process.js';
import { electLeader, ScriptedLink } from './testing/scripted-proposer.js';
import { WalMaker } from './testing/wal-maker.js';

const START = lsn(0x14f_f128);
const KILLS = 3;

async function readAll(addr: string, term: number, to: Lsn): Promise<Buffer> {
  const client = createClient(WalServiceClient, addr);
  const stream = client.streamWal();
  const value = { ttid: TTID, startLsn: BigInt(START), endLsn: BigInt(to), term: BigInt(term), clientName: 'test' };
  stream.write({ message: { $case: 'start', value } });
  const pieces: Buffer[] = [];
  for await (const response of stream as AsyncIterable<StreamWalResponse>) pieces.push(response.walData);
  client.close();
  return Buffer.concat(pieces);
}

describe('safekeeper process', () => {
  it('loses nothing that it acknowledged when killed under load', async () => {
    const dir = await mkdtemp(path.join(tmpdir(), 'safekeeper-kill-'));
    let safekeeper = await SafekeeperProcess.start(dir);
    let maker = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });
    let written: Uint8Array[] = [];
    let acknowledged: Lsn = START;
    try {
      for (let term = 1; term <= KILLS + 1; term++) {
        const link = new ScriptedLink(safekeeper.grpcAddr);
        await link.greet({ ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE, create: term === 1 });
        const leader = await electLeader([link], term, START);
        const flushed = lsnFromWire(link.vote?.flushLsn ?? 0n);
        if (term > 1) assert.ok(flushed >= acknowledged, `flush ${flushed}, acknowledged ${acknowledged}`);
        link.elect(term, leader.history);
        const kept = Buffer.concat(written).subarray(0, leader.startLsn - START);
        written = [kept];
        const held = await readAll(safekeeper.grpcAddr, term, leader.startLsn);
        assert.ok(held.equals(kept), 'the log holds other bytes than were sent');
        maker = new WalMaker({ startLsn: leader.startLsn, segSize: SEG_SIZE, systemId: SYSTEM_ID });
        acknowledged = await load(
          link,
          term,
          maker,
          (bytes) => void written.push(bytes),
          () => {
            if (term <= KILLS) void safekeeper.end('SIGKILL');
          },
        );
        link.close();
        if (term > KILLS) break;
        await safekeeper.end('SIGKILL');
        safekeeper = await SafekeeperProcess.start(dir);
      }
    } finally {
      await safekeeper.end('SIGTERM');
      await rm(dir, { recursive: true, force: true });
    }
  });
});

/** Sends as fast as answers come, to the end or to the connection's end; calls `midway` when half is out. Returns what was acknowledged. */
async function load(
  link: ScriptedLink,
  term: number,
  maker: WalMaker,
  sent: (bytes: Uint8Array) => void,
  midway: () => void,
): Promise<Lsn> {
  const rounds = 300;
  try {
    for (let round = 0; round < rounds; round++) {
      const wal = maker.stretch(20_000, 700 + round, term);
      sent(wal.bytes);
      link.append(term, wal.startLsn, wal.bytes);
      if (round === rounds / 2) midway();
      await link.until(() => link.flushLsn >= wal.startLsn - 400_000);
    }
    await link.flushedTo(maker.endLsn);
  } catch (error) {
    // The process was killed.
    assert.equal((error as { kind?: string }).kind, 'unavailable', String(error));
  }
  return link.flushLsn;
}
