import { strict as assert } from 'node:assert';
import { lsn } from '../core/lsn.js';
import { crc32c } from './crc32c.js';
import { firstPagesFile } from './first-pages-file.js';

const rel = (number: number) => ({ spc: 1663, db: 5, rel: number, fork: 0 });
const image = (byte: number) => Buffer.alloc(8192, byte);

describe('first pages file', () => {
  it('has the pages in order, behind their places', () => {
    const pages = [
      { rel: rel(9), block: 10, image: image(3) },
      { rel: rel(9), block: 2, image: image(2) },
      { rel: rel(8), block: 700, image: image(1) },
    ];
    const lengths = [
      { rel: rel(9), blocks: 12 },
      { rel: rel(8), blocks: 0 },
    ];
    const bytes = Buffer.concat(firstPagesFile(lsn(0x1_0000_0000), lengths, pages));
    const words = (at: number, count: number) =>
      Array.from({ length: count }, (_, i) => bytes.readUInt32LE(at + 4 * i));
    assert.deepEqual(words(0, 6), [0x4e465031, 1, 0, 1, 2, 3]);
    assert.equal(bytes.readUInt32LE(24), crc32c(bytes, 32));
    assert.deepEqual(words(32, 10), [1663, 5, 8, 0, 0, 1663, 5, 9, 0, 12]);
    assert.deepEqual(words(72, 15), [1663, 5, 8, 0, 700, 1663, 5, 9, 0, 2, 1663, 5, 9, 0, 10]);
    assert.deepEqual(
      [1, 2, 3].map((page) => bytes.subarray(8192 * page, 8192 * (page + 1)).equals(image(page))),
      [true, true, true],
    );
    assert.equal(bytes.length, 4 * 8192);
  });

  it('is none when there is nothing in it', () => {
    assert.deepEqual(firstPagesFile(lsn(8), [], []), []);
  });
});
