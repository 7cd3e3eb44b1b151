/**
 * What redo costs, in CPU time: the whole WAL of a pgbench run, against the server's own recovery from it; and single pages with a long
 * history.
 */
import { RMGR_NAMES } from '#shared/postgres/rmgr.js';
import { reconstructPage, type PageRecord } from '../../services/pageserver/core/redo/redo.js';
import { changesNothing, encodeSlimRecord } from '../../services/pageserver/core/redo/slim-record.js';
import { loadedCluster } from './clusters.js';
import { recover } from './exact.js';
import { LOADS } from './loads.js';
import { Replay } from './replay.js';
import { WalSource } from './wal-source.js';

const CHAIN_RECORDS = 100;
const ROUNDS = 4000;
const SCALE = 60;

function cpuMs(work: () => void): number {
  const started = process.cpuUsage();
  work();
  const { user, system } = process.cpuUsage(started);
  return (user + system) / 1000;
}

interface Chain {
  readonly base: Uint8Array | null;
  readonly records: PageRecord[];
}

await using loaded = await loadedCluster({
  config: ['full_page_writes = off'],
  loads: LOADS.filter(({ name }) => name === 'pgbench'),
  scale: SCALE,
  crash: true,
});
const walSource = (): WalSource => new WalSource(loaded.snapshot.dataDir, loaded.cluster.dataDir);

let records = 0;
const decode = (): number =>
  cpuMs(() => {
    records = 0;
    for (const _record of walSource().records()) records++;
  });
const decodeMs = Math.min(decode(), decode());
let values = 0;
const encode = (): number =>
  cpuMs(() => {
    values = 0;
    for (const record of walSource().records()) {
      for (let id = 0; id <= record.maxBlockId; id++) {
        if (record.blockPresent[id] === 1 && !changesNothing(record, id))
          values += encodeSlimRecord(record, id).length > 0 ? 1 : 0;
      }
    }
  });
const encodeMs = Math.min(encode(), encode());

const chains: Chain[] = [];
const history = new Replay(loaded.snapshot.dataDir, {}, Infinity);
for (const record of walSource().records()) {
  history.applyEffects(record);
  for (let id = 0; id <= record.maxBlockId; id++) {
    if (record.blockPresent[id] === 1) history.applyBlock(record, id);
  }
}
for (const fork of history.forks.values()) for (const chain of fork.chains) if (chain !== undefined) chains.push(chain);
const redone = chains.reduce((sum, chain) => sum + chain.records.length, 0);
const rebuild = (): number =>
  cpuMs(() => {
    for (const chain of chains) reconstructPage(chain.base, chain.records);
  });
const rebuildMs = Math.min(rebuild(), rebuild(), rebuild());

await using recovered = await recover(loaded);
const usage = /redo done at .*CPU: user: ([\d.]+) s, system: ([\d.]+) s/.exec(recovered.log());
const perSecond = (count: number, ms: number): string => `${(count / ms / 1000).toFixed(2)} M/s`;
console.log(`decode: ${records} records in ${decodeMs.toFixed(0)} ms, ${perSecond(records, decodeMs)}`);
console.log(
  `decode and encode: ${values} values in ${encodeMs.toFixed(0)} ms, ${perSecond(records, encodeMs)} records`,
);
console.log(
  `rebuild: ${chains.length} pages from ${redone} values in ${rebuildMs.toFixed(0)} ms, ${perSecond(redone, rebuildMs)}`,
);
console.log(`the server's recovery: user ${usage?.[1] ?? '?'} s, system ${usage?.[2] ?? '?'} s`);

/** What most of the chain's records are: resource manager, and whether the page is pruned often. */
function kindOf(chain: Chain): string {
  const count = (test: (value: Uint8Array) => boolean): number =>
    chain.records.filter(({ value }) => test(value)).length;
  const prunes = count((value) => value[2] === 9 && (value[3]! & 0x70) === 0x10);
  const main = count((value) => value[2] === 11) > chain.records.length / 2 ? 11 : 10;
  return `${RMGR_NAMES[main]}${prunes > 1 ? ', often pruned' : ''}`;
}

const byKind = new Map<string, Chain[]>();
for (const { base, records: all } of chains.filter((chain) => chain.records.length >= CHAIN_RECORDS)) {
  const chain = { base, records: all.slice(0, CHAIN_RECORDS) };
  byKind.set(kindOf(chain), [...(byKind.get(kindOf(chain)) ?? []), chain].slice(0, 40));
}
for (const [kind, found] of byKind) {
  const round = (): number =>
    cpuMs(() => {
      for (let i = 0; i < ROUNDS; i++) reconstructPage(found[i % found.length]!.base, found[i % found.length]!.records);
    });
  const us = (Math.min(round(), round(), round()) * 1000) / ROUNDS;
  console.log(`${kind}: ${us.toFixed(1)} µs for a base and ${CHAIN_RECORDS} records (${found.length} pages)`);
}
