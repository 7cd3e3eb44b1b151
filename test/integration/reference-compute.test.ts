/**
 * The compute script of existing deployments, as it is, against our services: its environment, its legacy HTTP calls, its flags and
 * paths, its spec. In a world of its own, since ports and paths are fixed. What runs is test/fixtures/reference-compute, which does the
 * same call by call, or the original, which is not ours to keep here:
 *   NEON_REFERENCE_COMPUTE=compute.sh NEON_REFERENCE_SPEC=spec.prep.DOCKER.json mocha test/integration/reference-compute.test.ts
 * The start scripts of our own add-on run the same way (deploy/helm/kubeblocks-neon).
 */
import { strict as assert } from 'node:assert';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants } from 'node:fs';
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';
import { unexpectedLogLines } from '../harness/log-check.js';
import { until } from '../harness/stack.js';
import { World, worldMissing } from '../harness/world.js';

const ROOT = resolve(import.meta.dirname, '../..');
const FIXTURE = join(ROOT, 'test/fixtures/reference-compute');
const CHART = join(ROOT, 'deploy/helm/kubeblocks-neon');
const READY_MS = 180_000;
const PROGRAMS = '/opt/neondatabase-neon';

const fqdn = (component: string, ordinal: number) =>
  `neon-cluster-${component}-${ordinal}.neon-cluster-${component}-headless.default.svc.cluster.local`;
const SAFEKEEPERS = [0, 1, 2];
const PAGESERVER = fqdn('pageserver', 0);
const BROKER = fqdn('broker', 0);
const HOSTS = Object.fromEntries([
  [BROKER, '127.0.2.1'],
  [PAGESERVER, '127.0.3.1'],
  ...SAFEKEEPERS.map((ordinal) => [fqdn('safekeeper', ordinal), `127.0.1.${ordinal + 1}`]),
]) as Record<string, string>;

/** What the add-on's component definition sets. */
const COMPUTE_ENV = {
  NEON_PAGESERVER_POD_FQDN_LIST: PAGESERVER,
  NEON_PAGESERVER_PGPORT: '6400',
  NEON_PAGESERVER_HTTPPORT: '9898',
  NEON_SAFEKEEPERS_POD_FQDN_LIST: SAFEKEEPERS.map((ordinal) => fqdn('safekeeper', ordinal)).join(','),
  NEON_SAFEKEEPERS_PORT: '5454',
  NEON_COMPUTE_PGPORT: '55432',
  NEON_COMPUTE_PGUSER: 'cloud_admin',
  NEON_COMPUTE_PGPASSWORD: 'secret1234',
};

/** Programs that the compute image brings, for machines without them: as much of them as the script uses. */
const STAND_INS: Readonly<Record<string, string>> = {
  nc: '#!/bin/bash\n[ "$1" = -z ] && (exec 3<>"/dev/tcp/$2/$3") 2>/dev/null\n',
  jq: `#!${process.execPath}
const [flag, filter = flag] = process.argv.slice(2);
let value = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
for (const name of filter.split('.').filter(Boolean)) value = value[name];
console.log(flag === '-r' && typeof value === 'string' ? value : JSON.stringify(value, null, 2));
`,
};

function isInstalled(program: string): boolean {
  return (process.env['PATH'] ?? '').split(delimiter).some((dir) => {
    try {
      accessSync(join(dir, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

async function writeProgram(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, text);
  await chmod(path, 0o755);
}

/** What the image and the config maps put where the script looks. */
async function plantSeed(seed: string): Promise<void> {
  const { NEON_REFERENCE_COMPUTE: compute, NEON_REFERENCE_SPEC: spec } = process.env;
  const text = await readFile(compute ?? join(FIXTURE, 'compute.sh'), 'utf8');
  await writeProgram(join(seed, 'scripts/compute.sh'), text.replace(/^(declare )?PG_VERSION=14$/m, '$1PG_VERSION=15'));
  await mkdir(join(seed, 'config'));
  for (const name of ['spec.json', 'spec.prep.DOCKER.json'])
    await cp(spec ?? join(FIXTURE, 'spec.prep.DOCKER.json'), join(seed, 'config', name));
  const programs = join(seed, PROGRAMS);
  const main = join(ROOT, 'build/services/compute-ctl/main.js');
  const start = `#!/bin/sh\necho $$ >/data/compute_ctl.pid\nexec '${process.execPath}' '${main}' "$@"\n`;
  await writeProgram(join(programs, 'target/release/compute_ctl'), start);
  await mkdir(join(programs, 'pg_install'));
  await symlink(dirname(PG_BIN), join(programs, 'pg_install/v14'));
  await mkdir(join(programs, 'bin'));
  await symlink('../target/release/compute_ctl', join(programs, 'bin/compute_ctl'));
  for (const [name, program] of Object.entries(STAND_INS))
    if (!isInstalled(name)) await writeProgram(join(programs, 'bin', name), program);
}

class ReferenceCluster implements AsyncDisposable {
  readonly #dir: string;
  readonly #world: World;

  private constructor(dir: string, world: World) {
    this.#dir = dir;
    this.#world = world;
  }

  static async start(): Promise<ReferenceCluster> {
    const dir = await mkdtemp(join(tmpdir(), 'neon-reference-'));
    await chmod(dir, 0o711);
    await mkdir(join(dir, 'logs'));
    await mkdir(join(dir, 'seed'));
    await plantSeed(join(dir, 'seed'));
    const env = { ...process.env, PATH: `${PROGRAMS}/bin:${process.env['PATH'] ?? ''}` };
    const cluster = new ReferenceCluster(dir, await World.start({ hosts: HOSTS, seed: join(dir, 'seed') }, env));
    try {
      await cluster.#startServices();
    } catch (error) {
      await cluster.#remove();
      throw error;
    }
    return cluster;
  }

  /** With the flags of the reference's start scripts; but each safekeeper has an id, and in one network an address, of its own. */
  async #startServices(): Promise<void> {
    const broker = `http://${BROKER}:50051`;
    await this.#service('storage-broker', ['-l', '0.0.0.0:50051', '--listen-http', '127.0.0.1:50052']);
    const safekeepers = SAFEKEEPERS.map((ordinal) => {
      const address = HOSTS[fqdn('safekeeper', ordinal)] ?? '';
      const listen = ['-l', `${address}:5454`, `--listen-http=${address}:7676`];
      const data = join(this.#dir, `safekeeper-${ordinal}`);
      return this.#service('safekeeper', [`--id=${ordinal + 1}`, '-D', data, `--broker-endpoint=${broker}`, ...listen]);
    });
    const overrides = {
      id: '1',
      broker_endpoint: `'${broker}'`,
      listen_pg_addr: `'0.0.0.0:6400'`,
      listen_http_addr: `'0.0.0.0:9898'`,
      pg_distrib_dir: `'${PROGRAMS}/pg_install'`,
    };
    const flags = Object.entries(overrides).flatMap(([key, value]) => ['-c', `${key}=${value}`]);
    await Promise.all([...safekeepers, this.#service('pageserver', ['-D', join(this.#dir, 'pageserver'), ...flags])]);
  }

  async #service(service: string, args: readonly string[]): Promise<void> {
    const command = [process.execPath, join(ROOT, 'build/services', service, 'main.js'), ...args];
    const env = { NEON_PAGESERVER_INITDB_IMAGE: join(ROOT, 'build/initdb-15.tar') };
    const log = join(this.#dir, 'logs', `${service}.log`);
    const child = this.#world.spawn(command, log, { pipe: true, env });
    const ready = once(createInterface({ input: child.stdout as NodeJS.ReadableStream }), 'line').then(() => true);
    const isReady = await Promise.race([ready, once(child, 'exit').then(() => false)]);
    if (!isReady) throw new Error(`${service} ended: ${(await readFile(log, 'utf8')).slice(-2000)}`);
  }

  /** Runs a compute script until Postgres answers. `stop` ends the compute and returns the script's exit status. */
  async compute(script: string, env: Readonly<Record<string, string>> = {}): Promise<{ stop(): Promise<number> }> {
    const log = join(this.#dir, 'logs', 'compute.log');
    const child = this.#world.spawn(['bash', script], log, { env: { ...COMPUTE_ENV, ...env } });
    try {
      await until('Postgres to answer', READY_MS, async () => {
        if (child.exitCode !== null) throw new Error(`the script ended with ${child.exitCode}`);
        return (await this.sql('select 1').catch(() => '')) === '1';
      });
    } catch (cause) {
      throw new Error(`no compute; its log ends:\n${(await readFile(log, 'utf8')).slice(-4000)}`, { cause });
    }
    return { stop: () => this.#stop(child) };
  }

  async #stop(script: ChildProcess): Promise<number> {
    const ended = once(script, 'exit');
    await this.#world.run('sh', '-c', 'kill -TERM $(cat /data/compute_ctl.pid)');
    await ended;
    return script.exitCode ?? -1;
  }

  /** As a pod without a volume loses it. */
  async loseComputeDisk(): Promise<void> {
    await this.#world.run('sh', '-c', 'rm -rf /data/*');
  }

  sql(statement: string): Promise<string> {
    const connection = ['-h', 'localhost', '-p', '55432', '-U', 'cloud_admin', '-d', 'postgres'];
    return this.#world.run(join(PG_BIN, 'psql'), ...connection, '-qAtX', '-c', statement);
  }

  async timelines(tenant: string): Promise<{ timeline_id: string; ancestor_timeline_id: string | null }[]> {
    const url = `http://${PAGESERVER}:9898/v1/tenant/${tenant}/timeline`;
    return JSON.parse(await this.#world.run('curl', '-sf', url)) as Awaited<ReturnType<ReferenceCluster['timelines']>>;
  }

  async tenants(): Promise<string[]> {
    const text = await this.#world.run('curl', '-sf', `http://${PAGESERVER}:9898/v1/tenant`);
    return (JSON.parse(text) as { id: string }[]).map(({ id }) => id);
  }

  /** Replaces the script and the spec by those of our own add-on. */
  async useChart(): Promise<void> {
    await this.#world.run('cp', join(CHART, 'scripts/compute.sh'), '/scripts/chart.sh');
    await this.#world.run('cp', join(CHART, 'config/spec.json'), '/config/spec.json');
  }

  async #remove(): Promise<void> {
    await this.#world[Symbol.asyncDispose]();
    await rm(this.#dir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const logs = (await readdir(join(this.#dir, 'logs'))).map((name) => join(this.#dir, 'logs', name));
    const unexpected = await unexpectedLogLines(logs, false);
    await this.#remove();
    assert.deepEqual(unexpected, []);
  }
}

describe('the compute script of existing deployments', function () {
  this.timeout(600_000);
  const missing = worldMissing() ?? (isInstalled('curl') ? null : 'curl is not installed');
  if (missing !== null) {
    it(`is skipped: ${missing}`);
    return;
  }
  const SCRIPT = '/scripts/compute.sh';
  let cluster: ReferenceCluster;
  let ids: { TENANT: string; TIMELINE: string };
  before(async () => {
    cluster = await ReferenceCluster.start();
  });
  after(() => cluster?.[Symbol.asyncDispose]());

  it('makes a tenant and a timeline, and starts a compute on them', async () => {
    const compute = await cluster.compute(SCRIPT);
    ids = { TENANT: await cluster.sql('show neon.tenant_id'), TIMELINE: await cluster.sql('show neon.timeline_id') };
    assert.deepEqual(await cluster.tenants(), [ids.TENANT]);
    const version = Number(await cluster.sql('show server_version_num'));
    assert.equal(Math.floor(version / 10_000), 15);
    assert.equal(await cluster.sql('show shared_buffers'), '1MB');
    assert.equal(await cluster.sql("select rolname from pg_authid where rolname = 'neon'"), 'neon');
    await cluster.sql('create table t as select generate_series(1, 10000) as i');
    assert.equal(await compute.stop(), 0);
  });

  it('finds everything with TENANT and TIMELINE, its disk kept or lost', async () => {
    for (const isLost of [false, true]) {
      if (isLost) await cluster.loseComputeDisk();
      const compute = await cluster.compute(SCRIPT, ids);
      assert.equal(await cluster.sql('select count(*), sum(i) from t'), '10000|50005000');
      assert.equal(await compute.stop(), 0);
    }
    assert.equal((await cluster.timelines(ids.TENANT)).length, 1);
  });

  it('makes a branch with CREATE_BRANCH and TIMELINE', async () => {
    const branch = await cluster.compute(SCRIPT, { ...ids, CREATE_BRANCH: 'true' });
    const branchId = await cluster.sql('show neon.timeline_id');
    assert.notEqual(branchId, ids.TIMELINE);
    const made = (await cluster.timelines(ids.TENANT)).find(({ timeline_id }) => timeline_id === branchId);
    assert.equal(made?.ancestor_timeline_id, ids.TIMELINE);
    assert.equal(await cluster.sql('select count(*) from t'), '10000');
    await cluster.sql('delete from t where i > 10');
    assert.equal(await branch.stop(), 0);
    const parent = await cluster.compute(SCRIPT, ids);
    assert.equal(await cluster.sql('select count(*) from t'), '10000');
    assert.equal(await parent.stop(), 0);
    const again = await cluster.compute(SCRIPT, { TENANT: ids.TENANT, TIMELINE: branchId });
    assert.equal(await cluster.sql('select count(*) from t'), '10');
    assert.equal(await again.stop(), 0);
  });

  it('has a successor in our own add-on, which finds the data of a restarted pod by itself', async function () {
    // It asks more of jq than the stand-in gives.
    if (!isInstalled('jq')) this.skip();
    await cluster.useChart();
    const compute = await cluster.compute('/scripts/chart.sh');
    assert.equal(await cluster.sql('show neon.timeline_id'), ids.TIMELINE);
    assert.equal(await cluster.sql('select count(*) from t'), '10000');
    assert.equal(await compute.stop(), 0);
  });
});
