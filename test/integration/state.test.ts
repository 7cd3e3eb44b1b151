/** The directory of a stack: a daemon that is killed at any moment, a second daemon, and what is left after an orderly stop. */
import { strict as assert } from 'node:assert';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { long } from '#shared/testing/long.js';
import { listeningPorts, processesOf, runtimeFiles } from '../harness/processes.js';
import { query, sleep, TestStack, until, value } from '../harness/stack.js';

/** Less than compute_ctl's limit for an orderly stop. */
const COMPUTES_END_MS = 15_000;

/** About as long as a command takes, so that some are killed early and some late. */
const KILL_AFTER_MS_MAX = 2_500;

interface CatalogFile {
  readonly branches: readonly { readonly name: string; readonly timelineId: string }[];
  readonly unfinished: readonly unknown[];
}

describe('state of a stack', function () {
  this.timeout(900_000);
  let stack: TestStack;

  const catalog = async () => JSON.parse(await readFile(join(stack.repoDir, 'catalog.json'), 'utf8')) as CatalogFile;

  before(async () => {
    stack = await TestStack.start({ safekeepers: 1 });
  });
  after(() => stack?.[Symbol.asyncDispose]());
  afterEach(async function () {
    if (this.currentTest?.state === 'failed') process.stderr.write(await stack.logs());
  });

  it('refuses a second daemon', async () => {
    await assert.rejects(stack.secondDaemon(), /is running already/);
    await stack.neon('start');
    assert.equal((await stack.status()).services.filter((service) => service.state === 'running').length, 3);
  });

  it('is put right by the next start when the daemon is killed during a command', async () => {
    const main = await stack.startCompute('main');
    await query(main, 'create table t as select i from generate_series(1, 1000) i');
    const commands = [
      ['branch', 'create', 'one'],
      ['snapshot', 'create', 'snap'],
      ['pg', 'stop', 'main'],
      ['branch', 'reset', 'one'],
    ];
    for (const [round, command] of commands.entries()) {
      const running = stack.neon(...command).then(
        () => 'done',
        () => 'failed',
      );
      await sleep(300 + 250 * round);
      await stack.killDaemon();
      // Computes do not wait for a quorum that ends as they do: the next daemon would have to wait for them.
      await until('computes to end with the daemon', COMPUTES_END_MS, async () => {
        const left = await processesOf(stack.repoDir);
        return !left.some((line) => line.includes('compute-ctl'));
      });
      await running;
      await stack.startDaemon();
      const { services } = await stack.status();
      assert.deepEqual([...new Set(services.map((service) => service.state))], ['running']);
      await until('unfinished work to be done', 120_000, async () => (await catalog()).unfinished.length === 0);
      assert.equal(await value(await stack.neon('pg', 'start', 'main'), 'select count(*) from t'), '1000');
    }
    const known = (await catalog()).branches.map((branch) => branch.name);
    if (!known.includes('one')) await stack.neon('branch', 'create', 'one');
    const one = await stack.startCompute('one');
    assert.equal(await value(one, 'select count(*) from t'), '1000');
  });

  long('is put right whatever command the daemon is killed in: the command can be given again', async function () {
    this.timeout(1_800_000);
    const images = join(stack.repoDir, '..', 'images');
    const other = join(stack.repoDir, '..', 'other');
    const commands: readonly (readonly string[])[] = [
      ['snapshot', 'push', 'snap', '--to', images],
      ['storage', 'attach', 'other', '--path', other],
      ['pg', 'create', 'app', '-s', 'other'],
      ['pg', 'start', 'app'],
      ['pg', 'checkout', 'main', '--snapshot', 'snap', '--preserve-as', 'present'],
      ['branch', 'rename', 'present', 'was'],
      ['snapshot', 'pull', 'snap', '--from', images, '--branch', 'pulled'],
      ['branch', 'delete', 'pulled'],
      ['pitr', 'set', 'main', '--keep', '1d'],
      ['snapshot', 'destroy', 'snap'],
      ['storage', 'detach', 'other'],
      ['storage', 'attach', 'other', '--path', other],
      ['pg', 'destroy', 'app'],
      ['tenant', 'create', '--tenant-id', 'ab'.repeat(16)],
    ];
    const main = await stack.startCompute('main').catch(() => stack.neon('pg', 'start', 'main'));
    await query(main, 'create table if not exists t as select i from generate_series(1, 1000) i');
    const before = (await catalog()).branches.map(({ name }) => name);
    if (!(await stack.neon('snapshot', 'list', '--quiet')).includes('snap'))
      await stack.neon('snapshot', 'create', 'snap');
    for (const command of commands) {
      const pauseMs = Math.round(Math.random() * KILL_AFTER_MS_MAX);
      const running = stack.neon(...command).catch(() => undefined);
      await sleep(pauseMs);
      await stack.killDaemon();
      await running;
      await stack.startDaemon();
      const told = `${command.join(' ')}, killed after ${pauseMs} ms`;
      const { services } = await stack.status();
      assert.deepEqual([...new Set(services.map((service) => service.state))], ['running'], told);
      await until('unfinished work to be done', 120_000, async () => (await catalog()).unfinished.length === 0);
      await stack.neon(...command).catch((error: unknown) => {
        if (!/already|does not exist|has no|not attached/.test(String(error)))
          throw new Error(`${told}, then again`, { cause: error });
      });
      const rows = await value(await stack.neon('pg', 'start', 'main'), 'select count(*) from t');
      assert.equal(rows, '1000', told);
    }
    const after = (await catalog()).branches.map(({ name }) => name);
    assert.deepEqual(after.sort(), [...before, 'app', 'main', 'was'].sort());
  });

  it('says what is wrong', async () => {
    const findings = JSON.parse(await stack.neon('doctor', '--json')) as { verdict: string; subject: string }[];
    assert.deepEqual(
      findings.filter(({ verdict }) => verdict === 'failure'),
      [],
    );
    assert.ok(findings.some(({ subject }) => subject === 'storage default'));
  });

  it('leaves nothing behind when it is stopped, and refuses a damaged directory', async () => {
    const status = await stack.status();
    const addrs = [
      ...status.services.flatMap(({ grpcAddr, httpAddr, pgAddr }) => [grpcAddr, httpAddr, pgAddr]),
      status.connectAddr,
      status.restUrl,
    ];
    const ports = addrs.filter((addr) => addr !== '').map((addr) => Number(addr.slice(addr.lastIndexOf(':') + 1)));
    assert.equal((await listeningPorts(ports)).length, ports.length);
    assert.ok((await processesOf(stack.repoDir)).length > 4);
    await stack.stopDaemon();
    assert.deepEqual(await processesOf(stack.repoDir), []);
    assert.deepEqual(await listeningPorts(ports), []);
    assert.deepEqual(await runtimeFiles(stack.repoDir), []);

    const path = join(stack.repoDir, 'catalog.json');
    const good = await readFile(path);
    await writeFile(path, good.subarray(0, good.length / 2));
    await assert.rejects(stack.startDaemon(), /catalog.json is damaged/);
    await assert.rejects(stack.neon('doctor'), /./);
    await writeFile(path, JSON.stringify({ ...JSON.parse(good.toString('utf8')), version: 99 }));
    await assert.rejects(stack.startDaemon(), /newer program/);
    await writeFile(path, good);
    await stack.startDaemon();
  });
});
