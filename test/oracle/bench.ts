/** How long pages take to rebuild: the longest chains of records that a pgbench run leaves on pages. Prints µs of CPU a page. */
import { RMGR_NAMES } from '#shared/postgres/rmgr.js';
import { reconstructPage, type PageRecord } from '../../services/pageserver/core/redo/redo.js';
import { loadedCluster } from './clusters.js';
import { LOADS } from './loads.js';
import { Replay } from './replay.js';
import { WalSource } from './wal-source.js';

const CHAIN_RECORDS = 100;
const ROUNDS = 4000;

await using loaded = await loadedCluster({
  config: ['full_page_writes = off'],
  loads: LOADS.filter(({ name }) => name === 'pgbench' || name === 'btree'),
  scale: 6,
  crash: true,
});
const replay = new Replay(loaded.snapshot.dataDir);
for (const record of new WalSource(loaded.snapshot.dataDir, loaded.cluster.dataDir).records()) {
  replay.applyEffects(record);
  for (let id = 0; id <= record.maxBlockId; id++) if (record.blockPresent[id] === 1) replay.applyBlock(record, id);
}

interface Chain {
  readonly name: string;
  readonly base: Uint8Array | null;
  readonly records: PageRecord[];
}

/** What most of the chain's records are: resource manager, and whether pages are pruned often. */
function kindOf(chain: Chain): string {
  const rmids = chain.records.map(({ value }) => value[2]!);
  const prunes = chain.records.filter(({ value }) => value[2] === 9 && (value[3]! & 0x70) === 0x10).length;
  const main = rmids.filter((rmid) => rmid === 11).length > rmids.length / 2 ? 11 : 10;
  return `${RMGR_NAMES[main]}${prunes > 5 ? ', often pruned' : ''}`;
}

const byKind = new Map<string, Chain[]>();
for (const [name, fork] of replay.forks) {
  fork.chains.forEach((chain, block) => {
    if (chain === undefined || chain.records.length < CHAIN_RECORDS) return;
    const found = { name: `${name}/${block}`, base: chain.base, records: chain.records.slice(0, CHAIN_RECORDS) };
    byKind.set(kindOf(found), [...(byKind.get(kindOf(found)) ?? []), found].slice(0, 40));
  });
}
for (const [kind, chains] of byKind) {
  const timed = (): number => {
    const started = process.cpuUsage();
    for (let i = 0; i < ROUNDS; i++) {
      const chain = chains[i % chains.length]!;
      reconstructPage(chain.base, chain.records);
    }
    const { user, system } = process.cpuUsage(started);
    return (user + system) / ROUNDS;
  };
  timed();
  const best = Math.min(timed(), timed(), timed());
  console.log(`${kind}: ${best.toFixed(1)} µs for a base and ${CHAIN_RECORDS} records (${chains.length} pages)`);
}
