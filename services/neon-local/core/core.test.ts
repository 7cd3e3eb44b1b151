import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { addBranch, addCompute, addTenant, branchTree, checkName, findCompute, resolveTenant } from './catalog.js';
import { emptyCatalog } from './catalog-schema.js';
import type { BranchEntry } from './catalog-schema.js';
import { afterDeath, HEALTHY_AFTER_MS, NEVER_DIED, RESTART_DELAY_MS_MAX } from './restart-policy.js';
import { planServices, serviceFlags } from './stack.js';
import { parseAdvertised, readStackConfig } from './stack-config.js';

const EMPTY_CATALOG = emptyCatalog('file:///x');
const tenant = parseTenantId('a'.repeat(32));

function branch(name: string, parentName: string | null): BranchEntry {
  const timelineId = parseTimelineId('b'.repeat(32));
  return { name, tenantId: tenant, timelineId, parentName, parentLsn: lsn(0), createdAtMs: 0, retention: null };
}

describe('catalog', () => {
  it('makes the first tenant the default', () => {
    assert.throws(() => resolveTenant(EMPTY_CATALOG, ''), /neon tenant create/);
    const catalog = addTenant(EMPTY_CATALOG, tenant, 'default', false);
    assert.equal(resolveTenant(catalog, ''), tenant);
    assert.throws(() => resolveTenant(catalog, 'c'.repeat(32)), /does not exist/);
  });

  it('lists parents before children', () => {
    let catalog = addTenant(EMPTY_CATALOG, tenant, 'default', true);
    for (const [name, parent] of [
      ['main', null],
      ['a', 'main'],
      ['b', 'main'],
      ['a1', 'a'],
    ] as const) {
      catalog = addBranch(catalog, branch(name, parent));
    }
    const tree = branchTree(catalog, tenant).map(({ branch: { name }, depth }) => `${depth}${name}`);
    assert.deepEqual(tree, ['0main', '1a', '2a1', '1b']);
    assert.throws(() => addBranch(catalog, branch('a', 'main')), /exists already/);
  });

  it('refuses computes on unknown branches and names that are no names', () => {
    const catalog = addBranch(addTenant(EMPTY_CATALOG, tenant, 'default', true), branch('main', null));
    const rest = {
      pgPort: 0,
      pgPortFixed: false,
      settings: {},
      suspendAfterS: 0,
      minCu: 0,
      maxCu: 0,
      isAutomatic: false,
    };
    const compute = { name: 'main', tenantId: tenant, branchName: 'main', ...rest };
    assert.equal(findCompute(addCompute(catalog, compute), 'main').branchName, 'main');
    assert.throws(() => addCompute(catalog, { ...compute, branchName: 'none' }), /has no branch "none" .*main/);
    for (const bad of ['', '-a', 'a b', 'a//b', '../x', 'x'.repeat(64)]) assert.throws(() => checkName('branch', bad));
  });
});

describe('restart policy', () => {
  it('starts at once after the first death, then waits longer and longer up to a bound', () => {
    let state = NEVER_DIED;
    const delays = [];
    for (let death = 0; death < 12; death++) {
      const next = afterDeath(state, 10);
      state = next.state;
      delays.push(next.delayMs);
    }
    assert.deepEqual(delays.slice(0, 4), [0, 100, 200, 400]);
    assert.equal(delays.at(-1), RESTART_DELAY_MS_MAX);
    assert.equal(afterDeath(state, HEALTHY_AFTER_MS).delayMs, 0);
  });
});

describe('stack', () => {
  it('gives every service its own ports and the broker to all others', () => {
    const config = readStackConfig({
      ...{ version: 1, safekeeperCount: 3, remoteStorage: 'file:///x', initdbImage: '/i.tar', freePorts: false },
    });
    const services = planServices(config, EMPTY_CATALOG.storages);
    const ports = services.flatMap((service) => Object.values(service.defaultPorts));
    assert.equal(new Set(ports).size, ports.length);
    for (const spec of services.slice(1)) {
      const flags = serviceFlags({ spec, ports: spec.defaultPorts, brokerAddr: 'b:1', dataDir: '/d', config });
      assert.equal(flags[flags.indexOf('--broker-endpoint') + 1], 'b:1');
    }
  });

  it('tells safekeepers where others reach them', () => {
    const advertise = parseAdvertised(['safekeeper-2.grpc=db.example.com:5454', 'pageserver-fast.pg=[::1]:6400']);
    assert.deepEqual(Object.keys(advertise), ['safekeeper-2.grpc', 'pageserver-fast.pg']);
    const config = readStackConfig({
      ...{ version: 3, safekeeperCount: 2, remoteStorage: 'file:///x', initdbImage: '/i.tar', advertise },
    });
    const told = planServices(config, [])
      .filter(({ program }) => program === 'safekeeper')
      .map((spec) => {
        const flags = serviceFlags({ spec, ports: { grpc: 7, http: 8 }, brokerAddr: 'b:1', dataDir: '/d', config });
        return flags[flags.indexOf('--advertise-grpc') + 1];
      });
    assert.deepEqual(told, ['127.0.0.1:7', 'db.example.com:5454']);
    for (const bad of ['safekeeper-1=a:1', 'safekeeper-1.grpc=a', 'other.grpc=a:1', 'safekeeper-1.http=a:1']) {
      assert.throws(() => parseAdvertised([bad]), /must be like|is not host:port/);
    }
  });
});
