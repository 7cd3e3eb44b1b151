import { strict as assert } from 'node:assert';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { directoryEntry, fileEntry, type TarEntry } from './tar-entry.js';
import { readTar } from './tar-reader.js';
import { packTar } from './ustar.js';

async function packed(entries: readonly TarEntry[]): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of packTar(entries, 1_700_000_000)) pieces.push(piece);
  return Buffer.concat(pieces);
}

describe('ustar', () => {
  it('is what tar unpacks', async () => {
    const root = mkdtempSync(path.join(tmpdir(), 'ustar-'));
    try {
      const body = Buffer.from('some bytes'.repeat(300));
      const entries = [
        directoryEntry('base'),
        directoryEntry('base/5'),
        fileEntry('base/5/1', body, body),
        fileEntry('empty'),
      ];
      const tar = await packed(entries);
      assert.equal(tar.length % 512, 0);
      writeFileSync(path.join(root, 'a.tar'), tar);
      execFileSync('tar', ['-xpf', 'a.tar'], { cwd: root });
      assert.ok(readFileSync(path.join(root, 'base/5/1')).equals(Buffer.concat([body, body])));
      assert.equal(statSync(path.join(root, 'empty')).size, 0);
      assert.equal(statSync(path.join(root, 'base')).mode & 0o777, 0o700);
      assert.equal(statSync(path.join(root, 'base/5/1')).mode & 0o777, 0o600);
      assert.equal(Math.floor(statSync(path.join(root, 'base/5/1')).mtimeMs / 1000), 1_700_000_000);
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('refuses content of another size than announced', async () => {
    const entry: TarEntry = { ...fileEntry('a', Buffer.alloc(10)), sizeBytes: 11 };
    await assert.rejects(packed([entry]), /has 10 bytes, announced 11/);
  });

  it('refuses a path that does not fit', async () => {
    await assert.rejects(packed([fileEntry('x'.repeat(101))]), /too long/);
  });

  it('reads what tar packs, long names and empty files included, in whatever pieces', async () => {
    const root = mkdtempSync(path.join(tmpdir(), 'ustar-'));
    try {
      const long = `d/${'n'.repeat(90)}/${'m'.repeat(90)}`;
      mkdirSync(path.join(root, 'd', 'n'.repeat(90)), { recursive: true });
      writeFileSync(path.join(root, long), 'long');
      writeFileSync(path.join(root, 'd/empty'), '');
      writeFileSync(path.join(root, 'd/body'), Buffer.alloc(5000, 7));
      for (const format of ['gnu', 'pax', 'ustar']) {
        const tar = execFileSync('tar', [`--format=${format}`, '--sort=name', '-cf', '-', 'd'], { cwd: root });
        for (const size of [1, 511, 512, 100_000]) {
          const pieces = Array.from({ length: Math.ceil(tar.length / size) }, (_, i) =>
            tar.subarray(i * size, (i + 1) * size),
          );
          const found: string[] = [];
          for await (const entry of readTar(pieces)) {
            const read: Uint8Array[] = [];
            if (!entry.path.endsWith('body')) for await (const piece of entry.pieces) read.push(piece);
            found.push(`${entry.path} ${entry.type} ${entry.sizeBytes} ${Buffer.concat(read).length}`);
          }
          const wanted = [
            'd directory 0 0',
            'd/body file 5000 0',
            'd/empty file 0 0',
            `d/${'n'.repeat(90)} directory 0 0`,
            `${long} file 4 4`,
          ];
          assert.deepEqual(found, wanted, `${format} in pieces of ${size}`);
        }
        await assert.rejects(async () => {
          for await (const _ of readTar([tar.subarray(0, 1000)]));
        }, /ends early/);
      }
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  it('refuses damaged headers and links', async () => {
    const tar = await packed([fileEntry('a', Buffer.from('x'))]);
    const drain = async (bytes: Buffer): Promise<void> => {
      for await (const _ of readTar([bytes]));
    };
    for (let at = 0; at < 512; at++) {
      const damaged = Buffer.from(tar);
      damaged[at]! ^= 0x01;
      await assert.rejects(drain(damaged), StorageError, `byte ${at}`);
    }
    const link = Buffer.from(tar);
    link[156] = 0x32;
    link.write('007', 151);
    await assert.rejects(drain(link), StorageError);
  });
});
