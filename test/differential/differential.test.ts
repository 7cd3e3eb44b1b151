/** Every script on a plain PostgreSQL and on a compute with hardly any memory, and again after the compute was thrown away. */
import { strict as assert } from 'node:assert';
import { ServerPair } from './servers.js';
import { runSuite } from './suite.js';

describe('a compute and a plain PostgreSQL', function () {
  this.timeout(600_000);
  let pair: ServerPair;

  before(async () => {
    pair = await ServerPair.start();
  });
  after(() => pair?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await pair.stack.logs());
  });

  it('differ in nothing that is not explained', async () => {
    const outcomes = await runSuite(pair, { directory: import.meta.dirname, onOutcome: () => undefined });
    const different = outcomes.filter(({ result }) => result === 'different');
    assert.deepEqual(
      different.map(({ name, text }) => `${name}\n${text}`),
      [],
    );
    assert.ok(outcomes.length > 30, `only ${outcomes.length} comparisons were made`);
  });
});
