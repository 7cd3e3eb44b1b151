/**
 * An unmodified server boots on what storage writes out at an LSN, without recovery, and has what stock crash recovery to the same
 * LSN has: rows, catalogs, prepared transactions, databases, sound indexes.
 */
import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { decodeControlFile } from '#shared/postgres/control-file.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { pageOffset } from '#shared/postgres/wal-layout.js';
import { long } from '#shared/testing/long.js';
import { runIngestLoad } from '../testing/ingest-load.js';
import { type Boundary, controlPath, RecordedHistory } from '../testing/recorded-history.js';
import { unpackBaseBackup } from '../testing/write-datadir.js';
import { planBaseBackup } from './plan.js';

const NOW_S = 1_800_000_000;

const DATABASES = `select datname from pg_database where datallowconn and datname <> 'template0' order by 1`;
const ROWS = `
  set max_parallel_workers_per_gather = 0;
  select c.oid::regclass, (xpath('/row/n/text()', query_to_xml('select count(*) || '':'' || coalesce(sum(hashtext(t::text)::bigint), 0) as n
    from ' || c.oid::regclass || ' t', true, true, '')))[1]
  from pg_class c where relkind in ('r', 'm') and relpersistence <> 't'
    and (relnamespace = 'public'::regnamespace or relname in ('pg_class', 'pg_attribute', 'pg_proc', 'pg_type', 'pg_index', 'pg_database')) order by 1;
  select gid, database from pg_prepared_xacts order by 1;
  select last_value, is_called from numbers;`;
const WITHOUT_SEQUENCE = ROWS.replace('select last_value, is_called from numbers;', '');
const AMCHECK = `
  create extension if not exists amcheck;
  select count(*) from (select bt_index_parent_check(c.oid, true) from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
    where a.amname = 'btree' and c.relpersistence <> 't' and i.indisvalid) s;
  select c.oid::regclass, v.* from pg_class c, lateral verify_heapam(c.oid) v where c.relkind in ('r', 't', 'm') and c.relpersistence = 'p';`;

describe('starting a stock server on a base backup', function () {
  this.timeout(180_000);
  let history: RecordedHistory;

  before(async () => {
    history = await RecordedHistory.record({ load: runIngestLoad, stop: 'immediate' });
  });
  after(() => history.destroy());

  async function digest(cluster: TempCluster): Promise<string> {
    const databases = (await cluster.psql(DATABASES)).split('\n');
    const parts = await Promise.all(
      databases.map(async (name) => {
        const hasSequence = (await cluster.psql(`select to_regclass('numbers')`, name)) !== '';
        return `${name}\n${await cluster.psql(hasSequence ? ROWS : WITHOUT_SEQUENCE, name)}`;
      }),
    );
    return parts.join('\n');
  }

  async function checkAt({ endLsn, startLsn }: Boundary): Promise<void> {
    const { view } = await history.ingestTo(endLsn);
    const options = { lsn: endLsn, prevRecordLsn: startLsn, replica: false, timeS: NOW_S };
    const plan = await planBaseBackup(view, options);
    await using booted = await unpackBaseBackup(view, options);
    await using truth = await history.recoverTo(endLsn);
    const recovered = decodeControlFile(readFileSync(controlPath(truth)));
    assert.equal(plan.checkpointLsn, recovered.checkPointLsn);
    await booted.start();
    assert.match(booted.log(), /database system was shut down at/);
    await truth.start();
    assert.equal(await digest(booted), await digest(truth));
    // They hold locks that amcheck waits for.
    for (const gid of (await booted.psql('select gid from pg_prepared_xacts')).split('\n')) {
      if (gid !== '') await booted.psql(`commit prepared '${gid}'`);
    }
    for (const name of (await booted.psql(DATABASES)).split('\n')) {
      assert.match(await booted.psql(AMCHECK, name), /^\d+$/);
    }
    if ((await booted.psql(`select to_regclass('scratch2')`)) !== '') {
      await booted.psql('insert into scratch2 select generate_series(1, 100); select count(*) from scratch2');
    }
    await booted.psql(
      'create table afterwards as select generate_series(1, 1000) i; checkpoint; drop table afterwards',
    );
    assert.equal(await booted.psql('select slot_name from pg_replication_slots'), 'walproposer');
    await booted.stop('immediate');
    assert.doesNotMatch(booted.log(), /WARNING|ERROR|PANIC|FATAL|recovery in progress|redo/);
    await booted.start();
    await booted.stop('fast');
  }

  /** The last boundary that fits among the first `share` of the WAL. */
  function pick(share: number, fits: (boundary: Boundary) => boolean = () => true): Boundary {
    const found = history.boundaries.slice(0, Math.floor(history.boundaries.length * share)).findLast(fits);
    assert.ok(found !== undefined);
    return found;
  }

  it('works at the end of WAL', () => checkAt(pick(1)));
  long('works while a transaction with many subtransactions runs', () => checkAt(pick(0.8)));
  it('works at a page start', () => checkAt(pick(0.4, ({ endLsn }) => pageOffset(endLsn) === 0)));
  long('works right at the image', async () => {
    const first = history.boundaries[0];
    assert.ok(first !== undefined);
    await checkAt(first);
  });
});
