import assert from 'node:assert/strict';
import { errorKind, StorageError, wrapError } from './errors.js';

class Special extends StorageError {}

describe('errors', () => {
  it('are told apart from others, and subclasses from their base', () => {
    const plain = new StorageError('fenced', 'a');
    const special = new Special('corrupt', 'b');
    assert.ok(special instanceof StorageError && special instanceof Special && plain instanceof StorageError);
    assert.ok(!(plain instanceof Special));
    for (const other of [new Error('c'), null, undefined, 'd', { kind: 'fenced' }]) {
      assert.ok(!(other instanceof StorageError));
      assert.equal(errorKind(other), 'internal');
    }
    assert.equal(errorKind(wrapError('while doing', special)), 'corrupt');
  });
});
