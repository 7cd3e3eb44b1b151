/**
 * Scripts on a plain PostgreSQL and on a compute with hardly any memory, and again after the compute was thrown away. NEON_LONG=1 takes
 * every script, as `npm run differential` does; else those in which pages come and go most.
 */
import { strict as assert } from 'node:assert';
import { LONG } from '#shared/testing/long.js';
import { ServerPair } from './servers.js';
import { runSuite } from './suite.js';

const CORE = /^(a-setup|own-changes|transactions|isolation|toast|index-btree|index-gin|temporary|sequences)/;

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
    const outcomes = await runSuite(pair, {
      directory: import.meta.dirname,
      ...(LONG ? {} : { only: CORE }),
      onOutcome: () => undefined,
    });
    const different = outcomes.filter(({ result }) => result === 'different');
    assert.deepEqual(
      different.map(({ name, text }) => `${name}\n${text}`),
      [],
    );
    assert.ok(outcomes.length > (LONG ? 30 : 12), `only ${outcomes.length} comparisons were made`);
  });
});
