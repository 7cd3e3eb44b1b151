import { strict as assert } from 'node:assert';
import { chmodSync, copyFileSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isPlaceholder } from '#shared/postgres/control-file.js';
import { ownFile, PG_BIN, TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { silentLogger } from '#shared/runtime/log.js';
import { beginServer, canGoOn, clearGround, serverInAdvance, startServer } from './early-server.js';
import type { EarlyServer } from './early-server.js';
import { Host } from './host.js';

const NEON = [
  "shared_preload_libraries = 'neon'",
  `neon.tenant_id = '${'1'.repeat(32)}'`,
  `neon.timeline_id = '${'2'.repeat(32)}'`,
  "neon.pageserver_connstring = 'host=127.0.0.1 port=1'",
];

const conf = (lines: readonly string[]): string => `${lines.join('\n')}\n`;

describe('early server', function () {
  this.timeout(60_000);
  let root: string;
  let host: Host;
  before(() => {
    root = mkdtempSync(join(tmpdir(), 'early-server-'));
    chmodSync(root, 0o755);
    host = new Host(join(PG_BIN, 'postgres'), 'postgres');
  });
  after(() => rmSync(root, { recursive: true, force: true }));

  const options = (name: string) => ({ pgdata: join(root, name), host, log: silentLogger });

  async function exitOf(server: EarlyServer): Promise<string> {
    const { code } = await server.process.exited;
    return `${code}: ${server.process.lastWords()}`;
  }

  /** Its first configuration, and the pg_control that leads nowhere. */
  async function hasRead(pgdata: string): Promise<void> {
    const endMs = Date.now() + 20_000;
    for (; !existsSync(join(pgdata, 'neon.feedback')); await sleep(10)) assert.ok(Date.now() < endMs);
  }

  it('waits in an empty directory, and ends with its gate', async () => {
    const where = options('given-up');
    const server = await serverInAdvance(where);
    assert.ok(server !== null);
    assert.equal(isPlaceholder(readFileSync(join(where.pgdata, 'global/pg_control'))), true);
    await sleep(1_000);
    assert.equal(server.process.exit, null);
    assert.equal((await server.process.stop('immediate')).code, 1);
    assert.match(server.process.lastWords(), /the start was given up before the data directory was there/);
    assert.equal(existsSync(join(where.pgdata, 'postmaster.pid')), false);
    assert.equal(await canGoOn(server, conf(NEON), where), false);
  });

  it('ends with its second gate, when it listens already', async () => {
    const where = options('given-up-later');
    const lines = [...NEON, `unix_socket_directories = '${where.pgdata}'`, "listen_addresses = ''"];
    const server = startServer(where, await clearGround(where), { conf: conf(lines) });
    const endMs = Date.now() + 20_000;
    const isStarting = (): boolean => {
      const path = join(where.pgdata, 'postmaster.pid');
      return existsSync(path) && readFileSync(path, 'utf8').split('\n')[7]?.trim() === 'starting';
    };
    for (; !isStarting(); await sleep(10)) assert.ok(Date.now() < endMs);
    await sleep(300);
    assert.equal(server.process.exit, null);
    assert.equal((await server.process.stop('immediate')).code, 1);
    assert.match(
      server.process.lastWords(),
      /FATAL: {2}neon: the start was given up before the data directory was there/,
    );
    assert.doesNotMatch(server.process.lastWords(), /PANIC|was shut down at/);
    assert.equal(existsSync(join(where.pgdata, 'postmaster.pid')), false);
  });

  it('goes on with another configuration, unless its memory depends on it', async () => {
    const other = [...NEON, 'wal_level = replica', 'port = 7777', "neon.endpoint_id = 'x'", 'work_mem = 1MB'];
    for (const [lines, isRight] of [
      [other, true],
      [[...other, 'shared_buffers = 1MB'], false],
      [[...other, 'max_connections = 20'], false],
      [[...other, "neon.compute_mode = 'replica'"], false],
      [[...other, `${NEON[0]?.slice(0, -1)},pg_stat_statements'`], false],
    ] as const) {
      const where = options('other');
      const server = beginServer(where, await clearGround(where), { conf: conf([...NEON, 'wal_level = replica']) });
      await hasRead(where.pgdata);
      assert.equal(await canGoOn(server, conf(lines), where), isRight, lines.at(-1));
      assert.equal(server.process.exit === null, isRight);
      assert.equal(existsSync(join(where.pgdata, 'postmaster.pid')), isRight);
      if (isRight) assert.equal(readFileSync(join(where.pgdata, 'postmaster.pid'), 'utf8').split('\n')[3], '7777');
      await server.process.stop('immediate');
    }
  });

  it('says what is wrong with its configuration', async () => {
    for (const [lines, message] of [
      [
        [...NEON, 'max_connections = 3'],
        /superuser_reserved_connections \(3\) must be less than max_connections \(3\)/,
      ],
      [[...NEON, 'shared_buffers = many'], /invalid value for parameter "shared_buffers"/],
      [[`${NEON[0]?.slice(0, -1)},no_such_library'`, ...NEON.slice(1)], /could not access file "no_such_library"/],
    ] as const) {
      const where = options('refused');
      const server = startServer(where, await clearGround(where), { conf: conf(lines) });
      server.process.open();
      assert.match(await exitOf(server), message);
    }
  });

  it('refuses a data directory of another kind, and one that never came', async () => {
    const cluster = await TempCluster.create({ initdbArgs: ['--data-checksums'] });
    try {
      for (const [hasCome, message] of [
        [true, /not of the kind that this server was started for/],
        [false, /the data directory is not complete/],
      ] as const) {
        const where = options('other');
        const lines = [...NEON, `unix_socket_directories = '${where.pgdata}'`, "listen_addresses = ''"];
        const server = startServer(where, await clearGround(where), { conf: conf(lines) });
        await hasRead(where.pgdata);
        const control = join(where.pgdata, 'global/pg_control');
        if (hasCome) copyFileSync(join(cluster.dataDir, 'global/pg_control'), control);
        if (hasCome) ownFile(control);
        server.process.open();
        assert.match(await exitOf(server), message);
      }
    } finally {
      await cluster.destroy();
    }
  });
});
