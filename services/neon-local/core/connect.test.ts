import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { parseStartupPacket } from '#shared/postgres/wire/startup-packet.js';
import fc from 'fast-check';
import { BackendWatch } from './backend-watch.js';
import { addBranch, addCompute, addTenant } from './catalog.js';
import { emptyCatalog } from './catalog-schema.js';
import { routeStartup, startupPacket } from './connect-target.js';

const tenant = parseTenantId('a'.repeat(32));

function catalogOf(...names: string[]) {
  let catalog = addTenant(emptyCatalog('file:///x'), tenant, 'default', true);
  for (const [at, name] of names.entries()) {
    const timelineId = parseTimelineId(String(at).padStart(32, '0'));
    const parent = { parentName: null, parentLsn: lsn(0), createdAtMs: 0, retention: null };
    catalog = addBranch(catalog, { name, tenantId: tenant, timelineId, ...parent });
  }
  const compute = {
    pgPort: 0,
    pgPortFixed: false,
    settings: {},
    suspendAfterS: 0,
    minCu: 0,
    maxCu: 0,
    isAutomatic: false,
  };
  return addCompute(catalog, { name: 'worker', tenantId: tenant, branchName: 'main', ...compute });
}

const catalog = catalogOf('main', 'feature', 'team/red');

function route(parameters: Record<string, string>, serverName = '') {
  const { target, parameters: left } = routeStartup(catalog, new Map(Object.entries(parameters)), serverName);
  const name = target.kind === 'branch' ? `branch ${target.branch.name}` : `compute ${target.compute.name}`;
  return [name, Object.fromEntries(left)] as const;
}

describe('connect target', () => {
  it('is named by options, which Postgres does not see', () => {
    assert.deepEqual(route({ user: 'u', options: 'branch=feature' }), ['branch feature', { user: 'u' }]);
    assert.deepEqual(route({ user: 'u', options: '-c work_mem=1MB -c branch=team/red' }), [
      'branch team/red',
      { user: 'u', options: '-c work_mem=1MB' },
    ]);
    assert.equal(route({ user: 'u', options: 'endpoint%3Dworker' })[0], 'compute worker');
    assert.equal(route({ user: 'u', options: 'endpoint=feature' })[0], 'branch feature');
    assert.equal(route({ user: 'u', options: 'project=worker' })[0], 'compute worker');
    assert.throws(
      () => route({ user: 'u', options: 'branch=nope' }),
      /"nope" does not exist \(there are: main, feature/,
    );
    assert.throws(() => route({ user: 'u', options: 'branch=main endpoint=worker' }), /more than one/);
  });

  it('is named by host name or user, and main otherwise', () => {
    assert.equal(route({ user: 'u' }, 'feature.localhost')[0], 'branch feature');
    assert.equal(route({ user: 'u' }, 'team-red.db.example.com')[0], 'branch team/red');
    assert.equal(route({ user: 'u' }, 'worker.localhost')[0], 'compute worker');
    assert.equal(route({ user: 'u' }, 'localhost')[0], 'branch main');
    assert.throws(() => route({ user: 'u' }, 'nope.localhost'), /does not exist/);
    assert.deepEqual(route({ user: 'u@feature', database: 'd' }), ['branch feature', { user: 'u', database: 'd' }]);
    assert.deepEqual(route({ user: 'u@team/red' }), ['branch team/red', { user: 'u', database: 'u' }]);
    assert.deepEqual(route({ user: 'u', options: '-c a=b' }), ['branch main', { user: 'u', options: '-c a=b' }]);
    // A role with "@" in its name says its branch by options.
    assert.deepEqual(route({ user: 'a@b.c', options: 'branch=main' })[1], { user: 'a@b.c' });
    assert.throws(() => route({ user: 'u@nope' }), /"nope" does not exist/);
  });

  it('makes a start-up packet that says the same', () => {
    const parameters = new Map([
      ['user', 'ü'],
      ['database', 'd'],
    ]);
    const bytes = startupPacket(parameters, 2);
    const parsed = parseStartupPacket(bytes, 4, bytes.length);
    assert.deepEqual(parsed, { kind: 'startup', minorVersion: 2, parameters });
  });
});

describe('backend watch', () => {
  const message = (type: string, body: Buffer) => {
    const head = Buffer.alloc(5);
    head.write(type, 0);
    head.writeUInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  };

  it('finds the cancel key however the bytes are cut', () => {
    const key = Buffer.from('0000002a12345678', 'hex');
    const stream = Buffer.concat([
      message('R', Buffer.alloc(4)),
      message('S', Buffer.from('a\0b\0')),
      message('K', key),
      message('Z', Buffer.from('I')),
    ]);
    fc.assert(
      fc.property(fc.array(fc.nat(stream.length), { maxLength: 6 }), (cuts) => {
        const watch = new BackendWatch();
        const ends = [...cuts, stream.length].sort((a, b) => a - b);
        let from = 0;
        for (const to of ends) {
          watch.feed(stream.subarray(from, to));
          from = to;
        }
        assert.equal(watch.cancelKey, key.toString('hex'));
        assert.ok(watch.isDone);
      }),
    );
  });

  it('gives up at what is no start of Postgres', () => {
    for (const bytes of [message('Z', Buffer.from('I')), Buffer.from('HTTP/1.1 400'), Buffer.alloc(9)]) {
      const watch = new BackendWatch();
      watch.feed(bytes);
      assert.equal(watch.cancelKey, null);
      assert.ok(watch.isDone);
    }
  });
});
