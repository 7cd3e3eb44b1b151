import { strict as assert } from 'node:assert';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { formatLsn } from '../core/lsn.js';
import { decodeCheckPoint, encodeCheckPoint } from './checkpoint.js';
import { DB_SHUTDOWNED, decodeControlFile, shutdownControlFile, withSystemId } from './control-file.js';
import { ownFile, TempCluster } from './testing/temp-cluster.js';
import { sampleCheckPoint, sampleParameters } from './testing/samples.js';

describe('checkpoint struct', () => {
  it('round-trips', () => {
    const bytes = encodeCheckPoint(sampleCheckPoint);
    assert.equal(bytes.length, 88);
    assert.deepEqual(decodeCheckPoint(Buffer.concat([Buffer.alloc(5), bytes]), 5), sampleCheckPoint);
  });

  it('refuses what is cut off or impossible', () => {
    const bytes = encodeCheckPoint(sampleCheckPoint);
    assert.throws(() => decodeCheckPoint(bytes.subarray(0, 87)), { kind: 'corrupt' });
    bytes.fill(0xff, 0, 8);
    assert.throws(() => decodeCheckPoint(bytes), { kind: 'corrupt' });
  });
});

describe('pg_control', () => {
  let cluster: TempCluster;
  let file: string;
  let template: Buffer;
  before(async () => {
    cluster = await TempCluster.create({ initdbArgs: ['--wal-segsize=2', '--data-checksums'] });
    file = path.join(cluster.dataDir, 'global/pg_control');
    template = readFileSync(file);
  });
  after(() => cluster.destroy());

  /** pg_controldata's answer as a map; it warns when the CRC is wrong. */
  async function controlData(): Promise<(key: string) => string> {
    const { stdout } = await cluster.run('pg_controldata', ['-D', cluster.dataDir]);
    assert.doesNotMatch(stdout, /WARNING/);
    const values = new Map(
      stdout.split('\n').map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()]),
    );
    return (key) => values.get(key) ?? '';
  }

  it('is read as pg_controldata reads it', async () => {
    const control = decodeControlFile(template);
    const value = await controlData();
    const { checkPoint } = control;
    assert.equal(String(control.systemId), value('Database system identifier'));
    assert.equal(String(control.catalogVersion), value('Catalog version number'));
    assert.equal(control.state, DB_SHUTDOWNED);
    assert.equal(formatLsn(control.checkPointLsn), value('Latest checkpoint location'));
    assert.equal(formatLsn(checkPoint.redo), value("Latest checkpoint's REDO location"));
    assert.equal(
      `${checkPoint.nextXid >> 32n}:${checkPoint.nextXid & 0xffffffffn}`,
      value("Latest checkpoint's NextXID"),
    );
    assert.equal(String(checkPoint.nextOid), value("Latest checkpoint's NextOID"));
    assert.equal(String(checkPoint.oldestXidDb), value("Latest checkpoint's oldestXID's DB"));
    assert.equal(String(control.params.maxConnections), value('max_connections setting'));
    assert.equal(control.segSize, 2 * 1024 * 1024);
    assert.equal(control.checksumVersion, 1);
  });

  it('is written as pg_controldata reads it', async () => {
    const made = shutdownControlFile(template, {
      checkPointLsn: sampleCheckPoint.redo,
      checkPoint: sampleCheckPoint,
      params: sampleParameters,
      checksumVersion: 0,
    });
    writeFileSync(file, withSystemId(made, 7_000_000_000_000_000_001n));
    ownFile(file);
    const value = await controlData();
    assert.equal(value('Database system identifier'), '7000000000000000001');
    assert.equal(value('Database cluster state'), 'shut down');
    assert.equal(value('Latest checkpoint location'), '12/34567890');
    assert.equal(value("Latest checkpoint's NextXID"), '3:1000');
    assert.equal(value("Latest checkpoint's NextMultiOffset"), '12');
    assert.equal(value("Latest checkpoint's newestCommitTsXid"), '900');
    assert.equal(value('wal_level setting'), 'logical');
    assert.equal(value('max_locks_per_xact setting'), '65');
    assert.equal(value('track_commit_timestamp setting'), 'on');
    assert.equal(value('Data page checksum version'), '0');
    assert.equal(value('Minimum recovery ending location'), '0/0');
    const control = decodeControlFile(readFileSync(file));
    assert.deepEqual(control.checkPoint, sampleCheckPoint);
    assert.deepEqual(control.params, sampleParameters);
  });

  it('is refused when a byte is wrong', () => {
    for (let at = 0; at < 292; at += 1) {
      const broken = Buffer.from(template);
      broken[at]! ^= 0x10;
      assert.throws(() => decodeControlFile(broken), { name: 'StorageError' });
    }
    assert.throws(() => decodeControlFile(template.subarray(0, 291)), { kind: 'corrupt' });
  });
});
