import { strict as assert } from 'node:assert';
import { DumpDigest } from './digest.js';

function digestOf(...lines: string[]): string {
  const digest = new DumpDigest();
  for (const line of lines) digest.line(line);
  return digest.end().text;
}

const table = (...rows: string[]) => ['SELECT 1;', 'COPY public.t (a) FROM stdin;', ...rows, '\\.', 'SELECT 2;'];

describe('digest of a dump', () => {
  it('does not depend on the order of rows, nor on random tokens', () => {
    assert.equal(digestOf(...table('1', '2')), digestOf('\\restrict abc', ...table('2', '1'), '\\unrestrict abc'));
  });
  it('depends on each row, on repetitions, and on statements in their order', () => {
    const texts = [
      table('1', '2'),
      table('1', '3'),
      table('1'),
      table('1', '1'),
      table('1', '1', '1'),
      table(),
      table('1', '2').reverse(),
      ['SELECT 1;'],
    ].map((lines) => digestOf(...lines));
    assert.equal(new Set(texts).size, texts.length);
  });
  it('counts rows', () => {
    const digest = new DumpDigest();
    for (const line of table('10', '2')) digest.line(line);
    assert.equal(digest.end().rows, 2);
  });
});
