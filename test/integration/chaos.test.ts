/** Commits while everything is killed and held in turn: nothing acknowledged is lost. The long form is `npm run chaos`. */
import { strict as assert } from 'node:assert';
import { checkJournal, checkLives, type Attempt } from '../chaos/check.js';
import { runChaos } from '../chaos/run.js';
import { describeFault, schedule } from '../chaos/schedule.js';

/** One that begins with a take-over, a network that is cut and a duel; then silence, and losses of every kind of process. */
const SEED = Number(process.env['CHAOS_SEED'] ?? 3547);
const SECONDS = 25;

const attempt = (change: Partial<Attempt>): Attempt => ({
  ...{ session: 1, n: 1, life: 'a', sentMs: 0, endedMs: 1, outcome: 'acknowledged' },
  ...change,
});

describe('the checker of acknowledged commits', () => {
  it('finds rows that are lost, undone in words only, made up, or double', () => {
    const attempts = [
      attempt({ n: 1 }),
      attempt({ n: 2 }),
      attempt({ n: 3, outcome: 'failed' }),
      attempt({ n: 4, outcome: 'unknown' }),
      attempt({ n: 5, outcome: 'unknown' }),
    ];
    const row = (n: number) => ({ session: 1, n });
    assert.deepEqual(checkJournal(attempts, [row(1), row(2), row(4)]), []);
    assert.match(checkJournal(attempts, [row(1)]).join(), /1\/2 was acknowledged by a and is lost/);
    assert.match(checkJournal(attempts, [row(1), row(2), row(3)]).join(), /1\/3 is there, but a said that it failed/);
    assert.match(checkJournal(attempts, [row(1), row(2), row(9)]).join(), /1\/9 is there and was never sent/);
    assert.match(checkJournal(attempts, [row(1), row(2), row(2)]).join(), /1 rows are there twice/);
  });

  it('finds two lives that commit in turn', () => {
    const early = attempt({ n: 1, sentMs: 0, endedMs: 10 });
    const other = attempt({ n: 2, life: 'b', sentMs: 20, endedMs: 30 });
    const late = attempt({ n: 3, sentMs: 40, endedMs: 50 });
    assert.match(checkLives([early, other, late]).join(), /a committed 1\/3 after b had committed in between/);
    assert.deepEqual(checkLives([early, other, { ...late, life: 'c' }]), []);
    assert.deepEqual(checkLives([early, other, { ...late, outcome: 'unknown' }]), []);
    // Sent before the other one's commit returned: it may have been first.
    assert.deepEqual(checkLives([early, other, { ...late, sentMs: 25 }]), []);
  });

  it('makes the same schedule of a seed, and all faults in time', () => {
    const take = (seed: number): string[] => {
      const lines: string[] = [];
      for (const { afterMs, fault } of schedule(seed)) {
        lines.push(`${afterMs} ${describeFault(fault)}`);
        if (lines.length === 300) break;
      }
      return lines;
    };
    assert.deepEqual(take(7), take(7));
    assert.notDeepEqual(take(7), take(8));
    assert.equal(new Set(take(7).map((line) => line.split(' ')[1])).size, 16);
  });
});

describe('commits under a schedule of crashes', function () {
  this.timeout(300_000);

  it('are neither lost nor invented', async () => {
    const lines: string[] = [];
    const { problems, history, logs, ...counts } = await runChaos({
      seed: SEED,
      seconds: SECONDS,
      say: (text) => lines.push(text),
    });
    process.stderr.write(`      ${JSON.stringify(counts)}\n`);
    const story = `seed ${SEED}\n${problems.join('\n')}\nwhat was done:\n${history.join('\n')}\n${logs}`;
    assert.equal(problems.length, 0, story);
    assert.ok(counts.acknowledged > 10, `only ${counts.acknowledged} commits; ${story}`);
  });
});
