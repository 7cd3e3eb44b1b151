import { strict as assert } from 'node:assert';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { StorageError } from '../core/errors.js';
import { formatAddr, parseAddr, reachableAddr } from '../core/addr.js';
import { addrSchema, option, parseConfig } from './config.js';
import { startHttp } from './http.js';
import { silentLogger } from './log.js';
import { createMetrics } from './metrics.js';
import { parseReadyLine } from './ready.js';

const app = { name: 'test-app', description: 'a test' };
const specs = {
  listenGrpc: option('--listen-grpc <addr>', 'where', addrSchema().default('127.0.0.1:1')),
  id: option('--id <number>', 'node id', z.coerce.number().int().min(1)),
  sync: option('--no-sync', 'do not fsync', z.union([z.boolean(), z.stringbool()]).default(true)),
};

describe('config', () => {
  it('takes flags before environment before file before defaults', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'neon-config-'));
    try {
      const file = join(dir, 'config.json');
      await writeFile(file, JSON.stringify({ id: 3, listenGrpc: '127.0.0.1:3' }));
      const env = { NEON_TEST_APP_ID: '2' };
      assert.deepEqual(parseConfig(app, specs, ['--config-file', file], env), {
        listenGrpc: '127.0.0.1:3',
        id: 2,
        sync: true,
      });
      assert.equal(parseConfig(app, specs, ['--config-file', file, '--id=1'], env).id, 1);
      assert.equal(parseConfig(app, specs, ['--id', '1', '--no-sync'], {}).sync, false);
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it('knows an option by its other names', () => {
    const aliased = { listen: option('--listen-grpc <addr>', 'where', addrSchema(), ['-l, --listen-addr <addr>']) };
    assert.equal(parseConfig(app, aliased, ['-l', '0.0.0.0:5'], {}).listen, '0.0.0.0:5');
    assert.equal(parseConfig(app, aliased, ['--listen-addr', '[::]:5'], {}).listen, '[::]:5');
  });

  it('reports every mistake at once', () => {
    assert.throws(
      () => parseConfig(app, specs, ['--listen-grpc', 'nowhere'], { NEON_TEST_APP_ID: 'x' }),
      (error: StorageError) => /--listen-grpc/.test(error.message) && /--id/.test(error.message),
    );
    assert.throws(() => parseConfig(app, specs, ['--unknown'], {}), /unknown option/);
  });
});

describe('addresses', () => {
  it('parses and prints host:port', () => {
    assert.deepEqual(parseAddr('[::1]:80'), { host: '::1', port: 80 });
    assert.equal(formatAddr('::1', 80), '[::1]:80');
    assert.equal(reachableAddr('0.0.0.0:5'), '127.0.0.1:5');
    for (const bad of ['x', 'x:99999', ':1', 'a:b:1']) assert.throws(() => parseAddr(bad));
  });

  it('tells a ready line from other output', () => {
    assert.equal(parseReadyLine('hello'), null);
    assert.equal(parseReadyLine('{"ready":true,"service":"x","pid":1,"grpc":"a:1"}')?.grpc, 'a:1');
  });
});

describe('http', () => {
  it('serves health, metrics and mapped errors', async () => {
    const metrics = createMetrics('test');
    metrics.counter('things', 'things done', () => 42);
    metrics.gauge('depth', 'queue depth', () => [{ value: 2, labels: { queue: 'a' } }]);
    const server = await startHttp({
      addr: '127.0.0.1:0',
      log: silentLogger,
      metrics,
      ready: () => false,
      routes: (routes) => {
        routes.get('/missing', () => {
          throw new StorageError('not-found', 'no such thing');
        });
      },
    });
    try {
      const get = async (path: string) => {
        const response = await fetch(`http://${server.addr}${path}`);
        return { status: response.status, text: await response.text() };
      };
      assert.equal((await get('/healthz')).status, 200);
      assert.equal((await get('/readyz/')).status, 503);
      const scraped = (await get('/metrics')).text;
      assert.match(scraped, /^things_total(\{[^}]*\})? 42/m);
      assert.match(scraped, /^depth\{[^}]*queue="a"[^}]*\} 2/m);
      const missing = await get('/missing');
      assert.equal(missing.status, 404);
      assert.match(missing.text, /no such thing/);
    } finally {
      await server.close();
      await metrics.close();
    }
  });
});
