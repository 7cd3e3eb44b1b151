import { strict as assert } from 'node:assert';
import { isUnexpected } from './log-check.js';

const line = (level: string, msg: string, more: object = {}) => JSON.stringify({ level, msg, ...more });

describe('log check', () => {
  it('lets pass what is usual', () => {
    for (const usual of [
      '',
      line('info', 'created timeline'),
      line('info', 'postgres', { postgres: 'ERROR:  no such table' }),
    ])
      assert.equal(isUnexpected(usual, false), false, usual);
  });
  it('finds errors, broken servers and stack traces', () => {
    for (const bad of [
      line('error', 'rpc failed'),
      line('info', 'postgres', { postgres: 'PANIC:  could not write' }),
      line('info', 'postgres', { postgres: 'server process (PID 5) was terminated by signal 11: Segmentation fault' }),
      'TypeError: x is not a function',
      '    at start (file:///main.js:5:6)',
    ])
      assert.equal(isUnexpected(bad, true), true, bad);
  });
  it('allows around faults what it does not allow otherwise', () => {
    assert.equal(isUnexpected(line('error', 'compute failed'), true), false);
    assert.equal(isUnexpected(line('error', 'compute failed'), false), true);
  });
});
