/** Pages that the server is given in advance: used exactly as long as they are what the page server would answer. */
import { strict as assert } from 'node:assert';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import { ownFile, TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { firstPagesFile } from '#shared/postgres/first-pages-file.js';
import { PageFileServer } from './testing/page-file-server.js';

const USER = 'cloud_admin';
const PAGE_BYTES = 8192;
const GIVEN = 100;
const CONFIG = [
  ...[`neon.tenant_id = '${'1'.repeat(32)}'`, `neon.timeline_id = '${'2'.repeat(32)}'`],
  ...["shared_preload_libraries = 'neon'", 'shared_buffers = 1MB'],
  // The stopped directory never learns what is written here, so that must stay.
  ...['neon.file_cache_free_written = off', 'autovacuum = off'],
];
const SUM = 'select count(*), sum(hashtext(f::text)) from filled f';
/** Changes, empties and fills again what was given. */
const STEPS = [
  'update filled set t = repeat(md5(t), 10) where i % 3 = 0',
  'delete from filled where i > 1500; vacuum filled',
  'truncate filled; insert into filled select i, i::text from generate_series(1, 5000) i',
  'vacuum full filled; create index on filled (t)',
];

describe('first pages', function () {
  this.timeout(120_000);
  let source: TempCluster;
  let pages: PageFileServer;
  let rel: { spc: number; db: number; rel: number; fork: number };
  let sums: string[];

  before(async () => {
    source = await TempCluster.create({ user: USER });
    await source.start();
    await source.psql('create table filled as select i, repeat(md5(i::text), 10) t from generate_series(1, 10000) i');
    await source.psql('vacuum filled; checkpoint');
    const [db, number] = (
      await source.psql(
        "select oid || ' ' || pg_relation_filenode('filled') from pg_database where datname = current_database()",
      )
    )
      .split(' ')
      .map(Number);
    rel = { spc: 1663, db: db!, rel: number!, fork: 0 };
    await source.stop();
    // What a plain server says after each step.
    const plain = await source.clone({ config: ['autovacuum = off'] });
    await plain.start();
    sums = [await plain.psql(SUM)];
    for (const step of STEPS) {
      await plain.psql(step);
      sums.push(await plain.psql(SUM));
    }
    await plain.destroy();
    pages = await PageFileServer.start(source.dataDir);
  });
  after(async () => {
    await pages?.[Symbol.asyncDispose]();
    await source?.destroy();
  });

  function firstPages(): Buffer {
    const { checkPoint } = decodeControlFile(readFileSync(path.join(source.dataDir, 'global/pg_control')));
    const file = readFileSync(path.join(source.dataDir, `base/${rel.db}/${rel.rel}`));
    assert.ok(file.length > 2 * GIVEN * PAGE_BYTES);
    const images = Array.from({ length: GIVEN }, (_, block) => {
      return { rel, block, image: file.subarray(block * PAGE_BYTES, (block + 1) * PAGE_BYTES) };
    });
    return Buffer.concat(firstPagesFile(checkPoint.redo, [{ rel, blocks: file.length / PAGE_BYTES }], images));
  }

  async function withCompute(file: Uint8Array, act: (compute: TempCluster) => Promise<void>): Promise<void> {
    const connstring = `neon.pageserver_connstring = 'host=127.0.0.1 port=${pages.port}'`;
    const compute = await source.clone({ config: [...CONFIG, connstring] });
    try {
      for (const dir of ['global', ...readdirSync(path.join(compute.dataDir, 'base')).map((name) => `base/${name}`)]) {
        for (const name of readdirSync(path.join(compute.dataDir, dir))) {
          if (/^\d+(_fsm|_vm)?$/.test(name)) rmSync(path.join(compute.dataDir, dir, name));
        }
      }
      const target = path.join(compute.dataDir, 'neon.first-pages');
      writeFileSync(target, file);
      ownFile(target);
      await compute.start();
      await compute.psql('create extension neon');
      await act(compute);
    } finally {
      await compute.destroy();
    }
  }

  async function counter(compute: TempCluster, name: string): Promise<number> {
    return Number(await compute.psql(`select value from neon.stats where name = '${name}'`));
  }

  it('are read from the file, and not any more when the relation has changed', async () => {
    await withCompute(firstPages(), async (compute) => {
      assert.equal(await counter(compute, 'reads_first'), 0);
      assert.equal(await compute.psql(SUM), sums[0]);
      assert.equal(await counter(compute, 'reads_first'), GIVEN);
      for (const [i, step] of STEPS.entries()) {
        await compute.psql(step);
        assert.equal(await compute.psql(SUM), sums[i + 1], step);
        if (i === 1) assert.ok((await counter(compute, 'reads_first')) > GIVEN);
      }
      const before = await counter(compute, 'reads_first');
      assert.equal(await compute.psql(SUM), sums.at(-1));
      assert.equal(await counter(compute, 'reads_first'), before);
    });
  });

  for (const [what, damage] of [
    ['has a wrong byte', (file: Buffer) => file.fill(0xff, 3 * PAGE_BYTES, 3 * PAGE_BYTES + 1)],
    ['was cut', (file: Buffer) => file.subarray(0, file.length - 1)],
    ['claims more than there is', (file: Buffer) => (file.writeUInt32LE(GIVEN + 1, 20), file)],
    ['is of another format', (file: Buffer) => (file.writeUInt32LE(2, 4), file)],
    ['is empty', () => Buffer.alloc(0)],
  ] as const) {
    it(`are asked of the page server when the file ${what}`, async () => {
      await withCompute(damage(firstPages()), async (compute) => {
        assert.equal(await compute.psql(SUM), sums[0]);
        assert.equal(await counter(compute, 'reads_first'), 0);
      });
    });
  }
});
