import { strict as assert } from 'node:assert';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pack } from 'tar-stream';
import { StorageError } from '#shared/core/errors.js';
import { clearForBackup, makeSocketDir, recreateDir, TarUnpacker, writeSkeleton, writeWalSegment } from './pgdata.js';

const SEG_SIZE = 1 << 20;

type TarItem = { name: string; bytes?: Buffer; type?: 'file' | 'directory' | 'symlink' };

async function tarOf(items: readonly TarItem[]): Promise<Buffer> {
  const tar = pack();
  for (const { name, bytes, type } of items) {
    if (type === 'symlink') tar.entry({ name, type, linkname: '/etc/passwd' });
    else if (type === 'directory') tar.entry({ name, type });
    else tar.entry({ name }, bytes ?? Buffer.alloc(0));
  }
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

describe('data directory', () => {
  let dir = '';
  beforeEach(async () => {
    dir = join(mkdtempSync(join(tmpdir(), 'pgdata-test-')), 'pgdata');
    await recreateDir(dir, null);
  });
  afterEach(() => rmSync(join(dir, '..'), { recursive: true, force: true }));

  async function unpack(tar: Buffer, chunkBytes: number): Promise<void> {
    const unpacker = new TarUnpacker({ dir, account: null });
    for (let at = 0; at < tar.length; at += chunkBytes) await unpacker.write(tar.subarray(at, at + chunkBytes));
    await unpacker.finish();
  }

  it('is filled from a tar in pieces of any size', async () => {
    const big = Buffer.alloc(300_000, 7);
    const wal = Buffer.alloc(20_000, 9);
    const tar = await tarOf([
      { name: 'global/', type: 'directory' },
      { name: 'pg_wal', type: 'directory' },
      { name: 'PG_VERSION', bytes: Buffer.from('15\n') },
      { name: 'pg_hba.conf', bytes: Buffer.from('local all all trust\n') },
      { name: 'global/big', bytes: big },
      { name: 'empty' },
      { name: 'pg_wal/other', bytes: wal },
    ]);
    for (const chunkBytes of [100, 513, 65_536, tar.length]) {
      await recreateDir(dir, null);
      await unpack(tar, chunkBytes);
      assert.equal(readFileSync(join(dir, 'PG_VERSION'), 'utf8'), '15\n');
      assert.equal(readFileSync(join(dir, 'pg_hba.conf'), 'utf8'), 'local all all trust\n');
      assert.equal(Buffer.compare(readFileSync(join(dir, 'global/big')), big), 0);
      assert.equal(statSync(join(dir, 'empty')).size, 0);
      assert.equal(statSync(join(dir, 'pg_wal/other')).size, wal.length);
      assert.equal(statSync(join(dir, 'global')).mode & 0o777, 0o700);
      assert.equal(statSync(join(dir, 'PG_VERSION')).mode & 0o777, 0o600);
    }
  });

  it('gets whole WAL segments, made of the pieces that are not zeros', async () => {
    await unpack(await tarOf([{ name: 'pg_wal', type: 'directory' }]), 4096);
    const to = { dir, account: null, segSize: SEG_SIZE };
    const name = '000000010000000000000001';
    const pieces = [
      { offset: 0, data: Buffer.from('header') },
      { offset: SEG_SIZE - 4, data: Buffer.from('tail') },
    ];
    writeWalSegment(to, { name, sizeBytes: SEG_SIZE, pieces });
    const wanted = Buffer.alloc(SEG_SIZE);
    for (const { offset, data } of pieces) wanted.set(data, offset);
    assert.ok(readFileSync(join(dir, 'pg_wal', name)).equals(wanted));
    const other = '000000010000000000000002';
    for (const wrong of [
      { name: '../escape', sizeBytes: SEG_SIZE, pieces },
      { name: other, sizeBytes: SEG_SIZE / 2, pieces },
      { name: other, sizeBytes: SEG_SIZE, pieces: [{ offset: SEG_SIZE - 3, data: Buffer.from('tail') }] },
    ]) {
      assert.throws(() => writeWalSegment(to, wrong), StorageError);
    }
  });

  it('is emptied before it is filled', async () => {
    await unpack(await tarOf([{ name: 'old' }]), 4096);
    await recreateDir(dir, null);
    assert.ok(!existsSync(join(dir, 'old')));
  });

  it('loses an earlier base backup, and nothing that a waiting server has', async () => {
    writeSkeleton(dir, { pgMajor: 15, segSize: SEG_SIZE, account: null });
    for (const name of ['postmaster.pid', 'postgresql.conf', 'neon.feedback']) writeFileSync(join(dir, name), name);
    await unpack(
      await tarOf([{ name: 'global/pg_filenode.map' }, { name: 'pg_xact/0000' }, { name: 'pg_hba.conf' }]),
      4096,
    );
    await clearForBackup(dir);
    assert.deepEqual(readdirSync(dir).sort(), [
      ...[
        'PG_VERSION',
        'global',
        'neon.feedback',
        'pg_dynshmem',
        'pg_hba.conf',
        'pg_ident.conf',
        'pg_notify',
        'postgresql.conf',
        'postmaster.pid',
      ],
    ]);
    assert.deepEqual(readdirSync(join(dir, 'global')), ['pg_control']);
    const control = Buffer.from('the real one');
    const hba = readFileSync(join(dir, 'pg_hba.conf'));
    const others = Buffer.from('of others');
    await unpack(
      await tarOf([
        { name: 'pg_hba.conf', bytes: others },
        { name: 'global/pg_control', bytes: control },
      ]),
      4096,
    );
    assert.deepEqual(readFileSync(join(dir, 'pg_hba.conf')), hba);
    writeSkeleton(dir, { pgMajor: 15, segSize: SEG_SIZE, account: null });
    assert.deepEqual(readFileSync(join(dir, 'global/pg_control')), control);
    assert.deepEqual(readdirSync(join(dir, 'global')), ['pg_control']);
  });

  it('has a socket directory of its own, always the same, with a name that fits', async () => {
    const socketDir = await makeSocketDir(dir, null);
    assert.equal(socketDir, `${dir}.sock`);
    writeFileSync(join(socketDir, 'left over'), '');
    assert.equal(await makeSocketDir(dir, null), socketDir);
    assert.ok(!existsSync(join(socketDir, 'left over')));
    assert.equal(statSync(socketDir).mode & 0o777, 0o700);
    const elsewhere = await makeSocketDir(join(dir, 'x'.repeat(100)), null);
    assert.ok(elsewhere.length < 90);
    rmSync(elsewhere, { recursive: true });
  });

  it('refuses entries that lead outside, links, garbage and cut tars', async () => {
    const wrong = (error: Error): boolean => error instanceof StorageError && error.kind === 'corrupt';
    for (const name of ['../evil', '/evil', 'a/../../evil']) {
      await assert.rejects(
        tarOf([{ name, bytes: Buffer.from('x') }]).then((tar) => unpack(tar, 4096)),
        wrong,
      );
    }
    await assert.rejects(
      tarOf([{ name: 'link', type: 'symlink' }]).then((tar) => unpack(tar, 4096)),
      wrong,
    );
    await assert.rejects(unpack(Buffer.alloc(4096, 3), 4096), wrong);
    await assert.rejects(unpack(Buffer.alloc(1024), 4096), wrong);
    const tar = await tarOf([{ name: 'file', bytes: Buffer.alloc(50_000) }]);
    await assert.rejects(unpack(tar.subarray(0, 10_000), 4096), wrong);
    assert.ok(!existsSync(join(dir, '..', 'evil')));
  });
});
