import { strict as assert } from 'node:assert';
import { StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import { parseReplicationCommand, timelineOfOptions } from './replication-command.js';
import { keepalive, parseStandbyMessage, walHeader } from './standby-messages.js';

const TENANT = 'a'.repeat(32);
const TIMELINE = 'b'.repeat(32);
const ttid = { tenantId: TENANT, timelineId: TIMELINE };

describe('replication protocol', () => {
  it('reads the commands of walreceivers and pg_receivewal', () => {
    const startLsn = lsn(0x16_b374d848);
    for (const text of [
      'START_REPLICATION 16/B374D848 TIMELINE 1',
      'START_REPLICATION SLOT "a b" PHYSICAL 16/B374D848 TIMELINE 1',
      'START_REPLICATION SLOT a PHYSICAL 16/b374d848;',
    ]) {
      assert.deepEqual(parseReplicationCommand(text), { kind: 'start', startLsn }, text);
    }
    assert.deepEqual(parseReplicationCommand(' identify_system '), { kind: 'identify-system' });
    assert.deepEqual(parseReplicationCommand('SHOW wal_segment_size'), { kind: 'show', name: 'wal_segment_size' });
    assert.deepEqual(parseReplicationCommand("SET datestyle TO 'ISO'"), { kind: 'set' });
  });

  it('refuses what it has not', () => {
    const kindOf = (text: string): string => {
      try {
        return parseReplicationCommand(text).kind;
      } catch (error) {
        assert.ok(error instanceof StorageError);
        return `refused: ${error.kind}`;
      }
    };
    assert.equal(kindOf('START_REPLICATION 0/0 TIMELINE 2'), 'refused: not-found');
    assert.equal(kindOf('TIMELINE_HISTORY 1'), 'refused: not-found');
    assert.equal(kindOf('START_REPLICATION SLOT a LOGICAL 0/0'), 'refused: unimplemented');
    assert.equal(kindOf('BASE_BACKUP'), 'refused: unimplemented');
    assert.equal(kindOf('START_REPLICATION 0/123456789'), 'refused: unimplemented');
  });

  it('finds the timeline in the options, in both forms', () => {
    for (const options of [
      `-c tenant_id=${TENANT} -c timeline_id=${TIMELINE}`,
      `-c tenant_id=${TENANT} timeline_id=${TIMELINE}`,
      `-cztimelineid=${TIMELINE} -cztenantid=${TENANT} -c x=1`,
      `--tenant_id=${TENANT} --timeline_id=${TIMELINE}`,
    ]) {
      assert.deepEqual(timelineOfOptions(options), ttid, options);
    }
    assert.throws(() => timelineOfOptions(`-c tenant_id=${TENANT}`), /name the timeline/);
    assert.throws(() => timelineOfOptions(`-c tenant_id=x -c timeline_id=${TIMELINE}`), StorageError);
  });

  it('writes WAL and keepalives as Postgres does', () => {
    const nowMs = 946_684_800_000 + 1;
    const header = walHeader({ startLsn: lsn(0x100000010), endLsn: lsn(0x100000020), walBytes: 3, nowMs });
    assert.equal(
      header.toString('hex'),
      '64' + '00000020' + '77' + '0000000100000010' + '0000000100000020' + '00000000000003e8',
    );
    assert.equal(
      keepalive(lsn(0x20), nowMs, true).toString('hex'),
      '64' + '00000016' + '6b' + '0000000000000020' + '00000000000003e8' + '01',
    );
  });

  it('reads what standbys say, and nothing else', () => {
    const status = Buffer.from('ff72' + '0000000000000001'.repeat(3) + '0000000000000000' + '01', 'hex');
    const positions = { writeLsn: 1, flushLsn: 1, applyLsn: 1 };
    assert.deepEqual(parseStandbyMessage(status, 1, status.length), { kind: 'status', positions, replyWanted: true });
    const feedback = Buffer.from('68' + '0000000000000000' + '0000000700000002' + '0000000000000002', 'hex');
    const xmin = { xmin: (2n << 32n) | 7n, catalogXmin: 0n };
    assert.deepEqual(parseStandbyMessage(feedback, 0, feedback.length), { kind: 'feedback', xmin });
    for (const bad of ['', '72', '68' + '00'.repeat(25), '7a00', '72' + 'fe'.repeat(33)]) {
      const bytes = Buffer.from(bad, 'hex');
      assert.throws(() => parseStandbyMessage(bytes, 0, bytes.length), StorageError, bad);
    }
  });
});
