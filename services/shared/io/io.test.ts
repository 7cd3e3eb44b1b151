import { strict as assert } from 'node:assert';
import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorKind } from '../core/errors.js';
import { lockDir, writeFileDurable } from './files.js';
import { isValidObjectKey, openObjectStore } from './object-store.js';

describe('io', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'neon-io-'));
  });
  after(() => rm(dir, { recursive: true }));

  it('replaces files whole', async () => {
    const path = join(dir, 'file');
    await writeFileDurable(path, Buffer.from('one'));
    await writeFileDurable(path, Buffer.from('two'));
    assert.equal(await readFile(path, 'utf8'), 'two');
  });

  it('locks a directory, and takes over a dead owner', async () => {
    const release = await lockDir(dir);
    await assert.rejects(lockDir(dir), (error) => errorKind(error) === 'precondition');
    await release();
    const dead = spawnSync('true').pid;
    await writeFile(join(dir, 'LOCK'), `${dead} 1\n`);
    const again = await lockDir(dir);
    await writeFile(
      join(dir, 'OTHER'),
      `1 ${(await readFile('/proc/1/stat', 'utf8')).split(') ')[1]?.split(' ')[19]}\n`,
    );
    await assert.rejects(lockDir(dir, 'OTHER'), (error) => errorKind(error) === 'precondition');
    await again();
  });

  it('stores objects in a directory', async () => {
    const store = await openObjectStore(`file://${dir}/store`);
    await store.put('a/b/1', Buffer.from('hello'));
    await writeFile(join(dir, 'source'), 'from a file');
    await store.putFile('a/2', join(dir, 'source'));
    assert.equal(Buffer.from(await store.get('a/b/1')).toString(), 'hello');
    assert.equal(Buffer.from(await store.getRange('a/2', 5, 6)).toString(), 'a');
    await assert.rejects(store.getRange('a/b/1', 3, 9), (error) => errorKind(error) === 'corrupt');
    await assert.rejects(store.get('a/none'), (error) => errorKind(error) === 'not-found');
    assert.equal(await store.head('a/none'), null);
    assert.deepEqual(await store.head('a/b/1'), { sizeBytes: 5 });
    assert.deepEqual(await store.list('a/'), ['a/2', 'a/b/1']);
    assert.deepEqual(await store.listPrefixes('a/'), ['b']);
    await store.getToFile('a/2', join(dir, 'copy'));
    assert.equal(await readFile(join(dir, 'copy'), 'utf8'), 'from a file');
    await store.delete(['a/2', 'a/none']);
    assert.deepEqual(await store.list(''), ['a/b/1']);
  });

  it('refuses keys that leave the root', async () => {
    const store = await openObjectStore(`file://${dir}/store`);
    for (const key of ['../x', '/x', 'a//b', 'a/../b', '']) {
      assert.equal(isValidObjectKey(key), false);
      await assert.rejects(store.put(key, Buffer.from('x')), (error) => errorKind(error) === 'invalid');
    }
    await assert.rejects(openObjectStore('http://x'), (error) => errorKind(error) === 'invalid');
  });
});
