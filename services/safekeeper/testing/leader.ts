/** For tests: a leader of all nodes of a cluster that writes made-up WAL and has it committed. */
import { lsn, type Lsn } from '#shared/core/lsn.js';
import { SEG_SIZE, SYSTEM_ID, TTID, type TestCluster } from './cluster.js';
import { electLeader, ScriptedLink } from './scripted-proposer.js';
import { WalMaker } from './wal-maker.js';

export const START = lsn(0x14f_f128);
const NOTHING = new Uint8Array(0);

export class ClusterLeader {
  readonly maker = new WalMaker({ startLsn: START, segSize: SEG_SIZE, systemId: SYSTEM_ID });
  /** All WAL written so far. */
  written: Buffer = Buffer.alloc(0);
  private links: ScriptedLink[] = [];
  private term = 0;

  /** Wins an election on all the nodes given. */
  async lead(cluster: TestCluster, term: number, nodes = [...cluster.nodes.keys()]): Promise<void> {
    this.close();
    this.term = term;
    this.links = nodes.map((index) => new ScriptedLink(cluster.node(index).safekeeper.grpcAddr));
    for (const link of this.links) await link.greet({ ttid: TTID, systemId: SYSTEM_ID, segSize: SEG_SIZE });
    const leader = await electLeader(this.links, term, START);
    for (const link of this.links) link.elect(term, leader.history);
  }

  /** Writes so much, waits until it is durable on all, and tells them that it is committed. */
  async write(bytes: number): Promise<Lsn> {
    const wal = this.maker.stretch(bytes);
    this.written = Buffer.concat([this.written, wal.bytes]);
    for (const link of this.links) link.appendAll(this.term, wal.startLsn, wal.bytes, 100_000);
    await Promise.all(this.links.map((link) => link.flushedTo(wal.endLsn)));
    await this.commit(wal.endLsn);
    return wal.endLsn;
  }

  /** `written` is on all nodes, so nobody needs it from a proposer. */
  private async commit(at: Lsn): Promise<void> {
    for (const link of this.links) link.append(this.term, at, NOTHING, at, at);
    await Promise.all(this.links.map((link) => link.until(() => link.commitLsn >= at)));
  }

  close(): void {
    for (const link of this.links.splice(0)) link.close();
  }
}
