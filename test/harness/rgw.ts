/**
 * A real S3 server for tests: Ceph's RADOS gateway with one monitor and one object store daemon in memory, on free ports of loopback, all
 * below one temporary directory. It takes about 15 s to start and 400 MB of memory. Where its programs are not installed
 * (`npm run setup:s3` brings them on Debian) there is none, and the tests that want it are skipped.
 */
import { execFile, spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants, openSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import type { S3Server } from '#shared/io/testing/s3-fake.js';
import { until } from './stack.js';

const PROGRAMS = ['ceph', 'ceph-mon', 'ceph-osd', 'ceph-authtool', 'monmaptool', 'radosgw', 'radosgw-admin'];
const STEP_TIMEOUT_MS = 120_000;
const MEMORY_BYTES = 4 * 2 ** 30;

/** Why there is no RADOS gateway here; null when there is. */
export function rgwMissing(): string | null {
  const dirs = (process.env['PATH'] ?? '').split(delimiter);
  const has = (program: string) =>
    dirs.some((dir) => {
      try {
        accessSync(join(dir, program), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
  const missing = PROGRAMS.filter((program) => !has(program));
  if (missing.length > 0)
    return `no S3 server here (${missing.join(', ')} not installed; "npm run setup:s3" installs it)`;
  return process.getuid?.() === 0 ? null : 'the S3 server runs as root only here';
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function config(dir: string, ports: { mon: number; s3: number }, fsid: string): string {
  return `[global]
fsid = ${fsid}
mon host = [v2:127.0.0.1:${ports.mon}]
mon initial members = a
public addr = 127.0.0.1
cluster addr = 127.0.0.1
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon data avail crit = 1
mon allow pool size one = true
auth allow insecure global id reclaim = false
run dir = ${dir}/run
log file = ${dir}/log/$name.log
admin socket = ${dir}/run/$name.asok
ms bind ipv6 = false
[mon.a]
mon data = ${dir}/mon
[osd]
osd objectstore = memstore
memstore device bytes = ${MEMORY_BYTES}
osd data = ${dir}/osd
[client.rgw.a]
rgw frontends = beast endpoint=127.0.0.1:${ports.s3} tcp_nodelay=1
rgw data = ${dir}/rgw
`;
}

/** Ends with us, whatever happens to us: the shell waits for the end of its input. */
const KEEPER = 'trap "" INT TERM HUP; "$0" "$@" </dev/null & read -r _; kill -9 $!; wait';

export class Rgw implements S3Server {
  readonly accessKey = `test-${randomBytes(6).toString('hex')}`;
  readonly secretKey = randomBytes(20).toString('hex');
  readonly #dir: string;
  readonly #keepers: ChildProcess[] = [];
  #port = 0;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async start(): Promise<Rgw> {
    const rgw = new Rgw(await mkdtemp(join(tmpdir(), 'neon-rgw-')));
    try {
      await rgw.#start();
      return rgw;
    } catch (cause) {
      const logs = await rgw.#logs();
      await rgw[Symbol.asyncDispose]();
      throw new Error(`the S3 server did not start; its logs end:\n${logs}`, { cause });
    }
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  async #run(program: string, args: readonly string[], input = ''): Promise<string> {
    const running = promisify(execFile)(program, [...args], { timeout: STEP_TIMEOUT_MS });
    running.child.stdin?.end(input);
    return (await running).stdout;
  }

  /** A program of the cluster's administrator. */
  #admin(program: string, args: readonly string[], input?: string): Promise<string> {
    return this.#run(program, ['-c', `${this.#dir}/ceph.conf`, '--keyring', `${this.#dir}/keyring`, ...args], input);
  }

  #daemon(program: string, args: readonly string[]): void {
    const log = openSync(`${this.#dir}/log/${program}.out`, 'a');
    const all = ['-c', KEEPER, program, '-f', '-c', `${this.#dir}/ceph.conf`, ...args];
    this.#keepers.push(spawn('sh', all, { stdio: ['pipe', log, log] }));
  }

  async #start(): Promise<void> {
    const dir = this.#dir;
    for (const name of ['mon', 'osd', 'rgw', 'log', 'run']) await mkdir(join(dir, name));
    const fsid = randomUUID();
    const ports = { mon: await freePort(), s3: await freePort() };
    this.#port = ports.s3;
    await writeFile(join(dir, 'ceph.conf'), config(dir, ports, fsid));
    await this.#startMonitor(fsid, ports.mon);
    await this.#startObjectDaemon();
    await this.#startGateway();
  }

  async #startMonitor(fsid: string, port: number): Promise<void> {
    const dir = this.#dir;
    const keyring = `${dir}/keyring`;
    await this.#run('monmaptool', [
      '--create',
      '--addv',
      'a',
      `[v2:127.0.0.1:${port}]`,
      '--fsid',
      fsid,
      `${dir}/monmap`,
    ]);
    const all = ['--cap', 'mon', 'allow *'];
    await this.#run('ceph-authtool', ['--create-keyring', keyring, '--gen-key', '-n', 'mon.', ...all]);
    const admin = [...all, '--cap', 'osd', 'allow *', '--cap', 'mgr', 'allow *'];
    await this.#run('ceph-authtool', [keyring, '--gen-key', '-n', 'client.admin', ...admin]);
    await this.#admin('ceph-mon', ['--mkfs', '-i', 'a', '--monmap', `${dir}/monmap`]);
    this.#daemon('ceph-mon', ['-i', 'a']);
  }

  async #startObjectDaemon(): Promise<void> {
    const data = `${this.#dir}/osd`;
    const uuid = randomUUID();
    const key = (await this.#run('ceph-authtool', ['--gen-print-key'])).trim();
    await this.#admin('ceph', ['osd', 'new', uuid, '-i', '-'], JSON.stringify({ cephx_secret: key }));
    const keyring = `[osd.0]\n\tkey = ${key}\n`;
    await writeFile(`${data}/keyring`, keyring);
    const conf = ['-c', `${this.#dir}/ceph.conf`];
    const make = ['-i', '0', '--mkfs', '--osd-uuid', uuid, '--keyring', `${data}/keyring`];
    await this.#run('ceph-osd', [...conf, ...make]);
    await writeFile(`${data}/keyring`, keyring);
    this.#daemon('ceph-osd', ['-i', '0', '--keyring', `${data}/keyring`]);
    // A rather full disk of the machine does not matter to what lies in memory.
    for (const name of ['full', 'backfillfull', 'nearfull'])
      await this.#admin('ceph', ['osd', `set-${name}-ratio`, '0.99']);
  }

  async #startGateway(): Promise<void> {
    const keyring = `${this.#dir}/rgw/keyring`;
    const caps = ['mon', 'allow rwx', 'osd', 'allow rwx'];
    await writeFile(keyring, await this.#admin('ceph', ['auth', 'get-or-create', 'client.rgw.a', ...caps]));
    const user = [
      '--uid=test',
      '--display-name=test',
      `--access-key=${this.accessKey}`,
      `--secret-key=${this.secretKey}`,
    ];
    await this.#admin('radosgw-admin', ['user', 'create', ...user]);
    this.#daemon('radosgw', ['-n', 'client.rgw.a', '--keyring', keyring]);
    await until('the S3 server to answer', STEP_TIMEOUT_MS, () =>
      fetch(this.endpoint).then(
        () => true,
        () => false,
      ),
    );
  }

  async #logs(): Promise<string> {
    const names = ['ceph-mon', 'ceph-osd', 'radosgw'];
    const texts = names.map((name) => readFile(`${this.#dir}/log/${name}.out`, 'utf8').catch(() => ''));
    return (await Promise.all(texts)).map((text) => text.slice(-1000)).join('\n');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const keeper of this.#keepers.toReversed()) {
      keeper.stdin?.end();
      if (keeper.exitCode === null && keeper.signalCode === null) await once(keeper, 'exit');
    }
    await rm(this.#dir, { recursive: true, force: true });
  }
}
