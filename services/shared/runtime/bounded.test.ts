import { strict as assert } from 'node:assert';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';

const SCRIPT = `
  import { getHeapStatistics } from 'node:v8';
  const { enterBounds } = await import(${JSON.stringify(new URL('./bounded.ts', import.meta.url).href)});
  process.stdout.write('begin ');
  enterBounds({ heapBytes: 100 << 20, youngBytes: 1 << 20 });
  process.stdin.once('data', (bytes) => {
    const heapMiB = Math.round(getHeapStatistics().heap_size_limit / (1 << 20));
    const { pid, env, argv } = process;
    const found = { pid, heapMiB, arenas: env.MALLOC_ARENA_MAX, input: String(bytes), rest: argv.slice(2), gc: typeof gc };
    process.stdout.write(JSON.stringify(found));
    process.stdin.destroy();
  });`;

describe('a process under bounds', function () {
  this.timeout(30_000);
  let dir = '';
  before(async () => (dir = await mkdtemp(join(tmpdir(), 'bounded-'))));
  after(() => rm(dir, { recursive: true, force: true }));

  it('is the same process, with the same arguments and streams, begun anew once', async () => {
    const script = join(dir, 'script.mjs');
    await writeFile(script, SCRIPT);
    const args = ['--conditions=source', '--import', 'tsx', script, 'one', 'two'];
    const child = spawn(process.execPath, args, { stdio: ['pipe', 'pipe', 'inherit'] });
    const output = text(child.stdout);
    child.stdin.end('hello');
    await once(child, 'exit');
    const [begun = '', found = ''] = (await output).split(/(?=\{)/);
    assert.equal(begun, 'begin begin ');
    const { heapMiB, ...rest } = JSON.parse(found) as { heapMiB: number };
    const expected = { pid: child.pid, arenas: '1', input: 'hello', rest: ['one', 'two'], gc: 'function' };
    assert.deepEqual(rest, expected);
    assert.ok(heapMiB >= 100 && heapMiB < 120, `${heapMiB} MiB`);
  });
});
