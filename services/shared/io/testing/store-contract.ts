/** What callers of an ObjectStore may rely on, as tests that every implementation must pass. */
import { strict as assert } from 'node:assert';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { errorKind } from '../../core/errors.js';
import type { ErrorKind } from '../../core/errors.js';
import { compareObjectKeys } from '../object-store.js';
import type { ObjectStore } from '../object-store.js';

/** Above the 5 MiB that an upload in parts needs at least. */
export const CONTRACT_PART_BYTES = 5 << 20;

const isKind = (kind: ErrorKind) => (error: unknown) => {
  assert.equal(errorKind(error), kind, String(error));
  return true;
};

/** `open` gives a fresh, empty store; `manyKeys`: more than one page of a listing has. */
export function describeObjectStore(title: string, open: () => Promise<ObjectStore>, manyKeys: number): void {
  describe(`object store: ${title}`, () => {
    let store: ObjectStore;
    let dir: string;
    before(async () => {
      dir = await mkdtemp(join(tmpdir(), 'neon-store-'));
      store = await open();
    });
    after(() => rm(dir, { recursive: true, force: true }));
    const context = { get: () => ({ store, dir }) };
    addWriteTests(context);
    addCreateTests(context);
    addReadTests(context);
    addListTests(context, manyKeys);
  });
}

interface Context {
  readonly get: () => { store: ObjectStore; dir: string };
}

function addWriteTests({ get }: Context): void {
  it('replaces an object whole', async () => {
    const { store } = get();
    await store.put('w/1', Buffer.from('first and long'));
    await store.put('w/1', Buffer.from('second'));
    assert.equal(Buffer.from(await store.get('w/1')).toString(), 'second');
    assert.deepEqual(await store.head('w/1'), { sizeBytes: 6 });
  });

  it('keeps empty objects', async () => {
    const { store, dir } = get();
    await store.put('w/empty', new Uint8Array(0));
    await writeFile(join(dir, 'empty'), '');
    await store.putFile('w/empty-file', join(dir, 'empty'));
    for (const key of ['w/empty', 'w/empty-file']) {
      assert.equal((await store.get(key)).length, 0);
      assert.deepEqual(await store.head(key), { sizeBytes: 0 });
    }
  });

  it('uploads and downloads files, small and in parts', async () => {
    const { store, dir } = get();
    for (const size of [1, 65_536, CONTRACT_PART_BYTES, CONTRACT_PART_BYTES * 2 + 77]) {
      const bytes = randomBytes(size);
      await writeFile(join(dir, 'up'), bytes);
      await store.putFile(`w/file-${size}`, join(dir, 'up'));
      await store.getToFile(`w/file-${size}`, join(dir, 'down'));
      assert.ok((await readFile(join(dir, 'down'))).equals(bytes), `${size} bytes`);
      assert.ok(Buffer.from(await store.get(`w/file-${size}`)).equals(bytes), `${size} bytes`);
    }
  });

  it('fails for a file that is not there, and leaves no object', async () => {
    const { store, dir } = get();
    await assert.rejects(store.putFile('w/none', join(dir, 'none')));
    assert.equal(await store.head('w/none'), null);
  });

  it('deletes, also what is missing', async () => {
    const { store } = get();
    await store.put('d/1', Buffer.from('x'));
    await store.put('d/2', Buffer.from('x'));
    await store.delete(['d/1', 'd/none', 'e/none']);
    assert.deepEqual(await store.list('d/'), ['d/2']);
    await store.delete(['d/2']);
    await store.delete([]);
    assert.deepEqual(await store.list('d/'), []);
    await assert.rejects(store.get('d/2'), isKind('not-found'));
  });

  it('refuses keys that are none', async () => {
    const { store } = get();
    for (const key of ['', '/x', '../x', 'a//b', 'a/../b', 'a/', 'x'.repeat(901)]) {
      await assert.rejects(store.put(key, Buffer.from('x')), isKind('invalid'));
      await assert.rejects(store.create(key, Buffer.from('x')), isKind('invalid'));
      await assert.rejects(store.get(key), isKind('invalid'));
      await assert.rejects(store.delete([key]), isKind('invalid'));
    }
  });
}

function addCreateTests({ get }: Context): void {
  it('creates what is not there, once', async () => {
    const { store } = get();
    assert.equal(await store.create('c/1', Buffer.from('mine')), true);
    assert.equal(await store.create('c/1', Buffer.from('theirs')), false);
    assert.equal(Buffer.from(await store.get('c/1')).toString(), 'mine');
  });

  it('takes a creation with the same bytes for the same', async () => {
    assert.equal(await get().store.create('c/1', Buffer.from('mine')), true);
  });

  it('lets one of many creators win', async () => {
    const { store } = get();
    const names = Array.from({ length: 12 }, (_, n) => `creator ${n}`);
    const won = await Promise.all(names.map((name) => store.create('c/race', Buffer.from(name))));
    assert.equal(won.filter(Boolean).length, 1);
    assert.equal(Buffer.from(await store.get('c/race')).toString(), names[won.indexOf(true)]);
  });
}

function addReadTests({ get }: Context): void {
  it('says that an object is missing', async () => {
    const { store, dir } = get();
    await assert.rejects(store.get('r/none'), isKind('not-found'));
    await assert.rejects(store.getRange('r/none', 0, 1), isKind('not-found'));
    await assert.rejects(store.getToFile('r/none', join(dir, 'none')), isKind('not-found'));
    assert.equal(await store.head('r/none'), null);
  });

  it('does not take a prefix for an object', async () => {
    const { store } = get();
    await store.put('r/below/1', Buffer.from('x'));
    assert.equal(await store.head('r/below'), null);
  });

  it('reads ranges', async () => {
    const { store } = get();
    await store.put('r/1', Buffer.from('0123456789'));
    const range = async (start: number, end: number) => Buffer.from(await store.getRange('r/1', start, end)).toString();
    assert.deepEqual(
      [await range(0, 10), await range(3, 4), await range(9, 10), await range(5, 5)],
      ['0123456789', '3', '9', ''],
    );
  });

  it('refuses ranges that the object does not have', async () => {
    const { store } = get();
    for (const [start, end] of [
      [5, 11],
      [10, 12],
      [100, 200],
    ] as const) {
      await assert.rejects(store.getRange('r/1', start, end), isKind('corrupt'));
    }
  });

  it('replaces the file that it downloads into', async () => {
    const { store, dir } = get();
    await writeFile(join(dir, 'old'), 'a much longer content than the new one');
    await store.getToFile('r/1', join(dir, 'old'));
    assert.equal(await readFile(join(dir, 'old'), 'utf8'), '0123456789');
  });

  it('sees a write at once', async () => {
    const { store } = get();
    for (let n = 0; n < 20; n++) {
      await store.put('r/often', Buffer.from(`${n}`));
      assert.equal(Buffer.from(await store.get('r/often')).toString(), `${n}`);
    }
  });
}

function addListTests({ get }: Context, manyKeys: number): void {
  it('lists all keys of a prefix in byte order', async () => {
    const { store } = get();
    const keys = ['l/Z', 'l/a', 'l/a-b', 'l/ab/1', 'l/a.b', 'l/0', 'l/_', 'l2/x'];
    for (const key of keys) await store.put(key, Buffer.from(key));
    assert.deepEqual(await store.list('l/'), keys.filter((key) => key.startsWith('l/')).sort(compareObjectKeys));
    assert.deepEqual(await store.list('l/a'), ['l/a', 'l/a-b', 'l/a.b', 'l/ab/1']);
    assert.deepEqual(await store.list('l/none'), []);
  });

  it('lists sizes and ages', async () => {
    const { store } = get();
    const found = await store.listObjects('l/a');
    assert.deepEqual(
      found.map(({ key, sizeBytes }) => [key, sizeBytes]),
      [
        ['l/a', 3],
        ['l/a-b', 5],
        ['l/a.b', 5],
        ['l/ab/1', 6],
      ],
    );
    for (const { modifiedMs } of found) assert.ok(Math.abs(Date.now() - modifiedMs) < 3_600_000);
  });

  it('lists what lies one level below', async () => {
    const { store } = get();
    await store.put('p/b/1', Buffer.from('x'));
    await store.put('p/b/c/2', Buffer.from('x'));
    await store.put('p/d/1', Buffer.from('x'));
    await store.put('p/file', Buffer.from('x'));
    assert.deepEqual(await store.listPrefixes('p/'), ['b', 'd']);
    assert.deepEqual(await store.listPrefixes('p/b/'), ['c']);
    assert.deepEqual(await store.listPrefixes('p/d'), ['d']);
    assert.deepEqual(await store.listPrefixes('none/'), []);
  });

  it(`lists and deletes ${manyKeys} keys`, async () => {
    const { store } = get();
    const keys = Array.from({ length: manyKeys }, (_, n) => `m/${String(n).padStart(6, '0')}`);
    for (let n = 0; n < keys.length; n += 32) {
      await Promise.all(keys.slice(n, n + 32).map((key) => store.put(key, Buffer.from(key))));
    }
    assert.deepEqual(await store.list('m/'), keys);
    await store.delete(keys.slice(1));
    assert.deepEqual(await store.list('m/'), keys.slice(0, 1));
  });

  it('stops when told to', async () => {
    const { store } = get();
    await assert.rejects(store.get('r/1', AbortSignal.abort()), isKind('cancelled'));
    await assert.rejects(store.put('r/1', Buffer.from('x'), AbortSignal.abort()), isKind('cancelled'));
    assert.equal(Buffer.from(await store.get('r/1')).toString(), '0123456789');
  });
}
