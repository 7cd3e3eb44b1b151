import { strict as assert } from 'node:assert';
import { parseDataDirPath } from './datadir-paths.js';

const kindOf = (path: string): string => parseDataDirPath(path).kind;

describe('paths of a data directory', () => {
  it('tells relation files', () => {
    const rel = { spc: 1663, db: 5, rel: 16384, fork: 0 };
    assert.deepEqual(parseDataDirPath('base/5/16384'), { kind: 'relation', rel, segment: 0 });
    assert.deepEqual(parseDataDirPath('./base/5/16384.12'), { kind: 'relation', rel, segment: 12 });
    assert.deepEqual(parseDataDirPath('base/5/16384_vm.1'), { kind: 'relation', rel: { ...rel, fork: 2 }, segment: 1 });
    assert.deepEqual(parseDataDirPath('global/1262_init'), {
      kind: 'relation',
      rel: { spc: 1664, db: 0, rel: 1262, fork: 3 },
      segment: 0,
    });
  });

  it('tells the other files', () => {
    assert.deepEqual(parseDataDirPath('pg_multixact/members/00A1'), { kind: 'slru', slru: 1, segno: 0xa1 });
    assert.deepEqual(parseDataDirPath('pg_xact/0000'), { kind: 'slru', slru: 0, segno: 0 });
    assert.deepEqual(parseDataDirPath('pg_twophase/000002FF'), { kind: 'two-phase', xid: 0x2ff });
    assert.deepEqual(parseDataDirPath('base/1/'), { kind: 'database', database: { spc: 1663, db: 1 } });
    assert.deepEqual(parseDataDirPath('base/1/PG_VERSION'), { kind: 'version', database: { spc: 1663, db: 1 } });
    assert.deepEqual(parseDataDirPath('global/pg_filenode.map'), {
      kind: 'relation-map',
      database: { spc: 1664, db: 0 },
    });
    assert.deepEqual(parseDataDirPath('./pg_wal/00000001000000000000000A'), {
      kind: 'wal',
      name: '00000001000000000000000A',
    });
    assert.equal(kindOf('global/pg_control'), 'control');
    assert.equal(kindOf('PG_VERSION'), 'version');
  });

  it('passes over what another server does not need', () => {
    const ignored = [
      'pg_wal/archive_status/000000010000000000000001.done',
      'postmaster.pid',
      'postgresql.conf',
      'base/5/pg_internal.init',
    ];
    ignored.push(
      'global/pg_internal.init.77',
      'base/pgsql_tmp/pgsql_tmp1.0',
      'base/5/t3_16400',
      'base/5/t12_16400_fsm.1',
    );
    ignored.push(
      'base',
      'pg_multixact',
      'pg_multixact/offsets',
      './',
      '.',
      'pg_replslot/old/state',
      'pg_stat/pgstat.stat',
    );
    assert.deepEqual(
      ignored.filter((path) => kindOf(path) !== 'ignored'),
      [],
    );
  });

  it('refuses the rest', () => {
    const refused = [
      'base/5/../../etc/passwd',
      '/base/5/1',
      'pg_tblspc/16500',
      'backup_label',
      'standby.signal',
      'base/5/notes',
    ];
    refused.push(
      'base/05/1',
      'base/x',
      'base/5/1/2',
      'surprise',
      'pg_xact/zz',
      'base/5/99999999999',
      'pg_twophase/1',
      'global/a/b',
    );
    assert.deepEqual(
      refused.filter((path) => kindOf(path) !== 'refused'),
      [],
    );
  });
});
