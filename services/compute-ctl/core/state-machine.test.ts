import { strict as assert } from 'node:assert';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { canTake, EDGES, EVENTS, nextPhase, PHASES, renderDiagram } from './state-machine.js';

/** Written out once more, by hand, from the description of the states: the table under test must say the same and nothing else. */
const WANTED = `
empty -start-> init
empty -configure-> configuration_pending
empty -terminate-fast-> termination_pending_fast
empty -terminate-immediate-> termination_pending_immediate
configuration_pending -take-> configuration
configuration -ready-> running
configuration -fail-> failed
init -ready-> running
init -fail-> failed
running -configure-> configuration_pending
running -refresh-> refresh_configuration_pending
running -terminate-fast-> termination_pending_fast
running -terminate-immediate-> termination_pending_immediate
refresh_configuration_pending -take-> refresh_configuration
refresh_configuration -ready-> running
refresh_configuration -retry-> refresh_configuration_pending
termination_pending_fast -ended-> terminated
termination_pending_immediate -ended-> terminated
failed -refresh-> refresh_configuration_pending
`;

describe('states of a compute', () => {
  it('takes every edge and refuses every other', () => {
    const wanted = new Map(
      WANTED.trim()
        .split('\n')
        .map((line) => /^(\w+) -([a-z-]+)-> (\w+)$/.exec(line) ?? assert.fail(line))
        .map(([, from, event, to]) => [`${from} ${event}`, to]),
    );
    assert.equal(EDGES.length, wanted.size);
    for (const phase of PHASES) {
      for (const event of EVENTS) {
        const to = wanted.get(`${phase} ${event}`);
        assert.equal(canTake(phase, event), to !== undefined);
        if (to !== undefined) assert.equal(nextPhase(phase, event), to);
        else {
          const refused = (error: Error) =>
            error instanceof StorageError && error.kind === 'precondition' && error.message.includes(phase);
          assert.throws(() => nextPhase(phase, event), refused);
        }
      }
    }
  });

  it('reaches every state from the first, and an exit from every state', () => {
    const reach = (from: string, pairs: readonly (readonly [string, string])[]) => {
      const seen = new Set([from]);
      for (const at of seen) for (const [a, b] of pairs) if (a === at) seen.add(b);
      return seen;
    };
    assert.equal(
      reach(
        'empty',
        EDGES.map(({ from, to }) => [from, to]),
      ).size,
      PHASES.length,
    );
    const back = EDGES.map(({ from, to }) => [to, from] as const);
    const ends = new Set([...reach('failed', back), ...reach('terminated', back)]);
    assert.deepEqual([...ends].sort(), [...PHASES].sort());
  });

  it('is drawn in the README as it is (REWRITE=1 draws it anew)', () => {
    const path = join(import.meta.dirname, '../README.md');
    const readme = readFileSync(path, 'utf8');
    const block = /```mermaid\n([\s\S]*?)\n```/;
    if (process.env['REWRITE'] === '1')
      writeFileSync(
        path,
        readme.replace(block, () => `\`\`\`mermaid\n${renderDiagram()}\n\`\`\``),
      );
    else assert.equal(block.exec(readme)?.[1], renderDiagram());
  });
});
