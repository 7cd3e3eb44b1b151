import { strict as assert } from 'node:assert';
import { lsn } from '#shared/core/lsn.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import {
  addBranch,
  addSnapshot,
  addStorage,
  addTenant,
  beginTimeline,
  removeBranch,
  removeStorage,
  renameBranch,
  replaceBranch,
  resolveTenant,
} from './catalog.js';
import { emptyCatalog, readCatalog } from './catalog-schema.js';
import type { BranchEntry, Catalog } from './catalog-schema.js';
import { commonPoint, ownerOf } from './history.js';
import { readStackConfig } from './stack-config.js';
import { adoptNames, takenNames } from './storage-names.js';
import { parseBytes, parseDurationS, parseTimeMs } from './time-text.js';

const tenant = parseTenantId('a'.repeat(32));
let made = 0;

function branch(name: string, parentName: string | null, parentLsn = 0): BranchEntry {
  made += 1;
  const timelineId = parseTimelineId(made.toString(16).padStart(32, '0'));
  return { name, tenantId: tenant, timelineId, parentName, parentLsn: lsn(parentLsn), createdAtMs: 0, retention: null };
}

function tree(): Catalog {
  let catalog = addTenant(emptyCatalog('file:///x'), tenant, 'default', true);
  for (const [name, parent, at] of [
    ['main', null, 0],
    ['a', 'main', 0x100],
    ['b', 'main', 0x200],
    ['a1', 'a', 0x180],
  ] as const) {
    catalog = addBranch(catalog, branch(name, parent, at));
  }
  return catalog;
}

const named = (catalog: Catalog, name: string) => {
  const found = catalog.branches.find((entry) => entry.name === name);
  assert.ok(found, name);
  return found;
};

describe('catalog file', () => {
  it('reads what version 1 wrote', () => {
    const old = {
      version: 1,
      defaultTenantId: tenant,
      tenantIds: [tenant],
      branches: [
        { name: 'main', tenantId: tenant, timelineId: 'b'.repeat(32), parentName: null, parentLsn: 0, createdAtMs: 5 },
      ],
      computes: [
        { name: 'main', tenantId: tenant, branchName: 'main', pgPort: 5, pgPortFixed: true, settings: { a: 'b' } },
      ],
    };
    const catalog = readCatalog(old, 's3://bucket/x');
    assert.deepEqual(catalog.tenants, [{ tenantId: tenant, storageName: 'default' }]);
    assert.equal(catalog.storages[0]?.type, 's3');
    assert.equal(catalog.computes[0]?.suspendAfterS, 0);
    assert.deepEqual(readCatalog(JSON.parse(JSON.stringify(catalog)), 'file:///other'), catalog);
    assert.throws(() => readCatalog({ ...old, version: 3 }, 'file:///x'), /newer program/);
    assert.throws(() => readCatalog({ ...catalog, branches: [{ name: 5 }] }, 'file:///x'));
  });

  it('reads the configuration of version 1, and refuses one of the future', () => {
    const old = { version: 1, safekeeperCount: 3, remoteStorage: 'file:///x', initdbImage: '/i.tar' };
    const config = readStackConfig(old);
    assert.equal(config.ports.connect, 0);
    assert.deepEqual(readStackConfig(JSON.parse(JSON.stringify(config))), config);
    assert.throws(() => readStackConfig({ ...old, version: 9 }), /newer program/);
    assert.throws(() => readStackConfig({ ...old, safekeeperCount: 0 }));
  });
});

describe('branches of the catalog', () => {
  it('keeps what others begin on, and leaves the timeline to be deleted', () => {
    const catalog = tree();
    assert.throws(() => removeBranch(catalog, named(catalog, 'a')), /delete "a1" first/);
    const without = removeBranch(catalog, named(catalog, 'a1'));
    assert.equal(without.branches.length, 3);
    assert.deepEqual(
      without.unfinished.map((entry) => entry.timelineId),
      [named(catalog, 'a1').timelineId],
    );
    const { timelineId } = named(catalog, 'b');
    const hold = parseTimelineId('f'.repeat(32));
    const snapshot = { name: 's', tenantId: tenant, branchName: 'b', timelineId, lsn: lsn(0x250), createdAtMs: 0 };
    const kept = addSnapshot(beginTimeline(catalog, { tenantId: tenant, timelineId: hold }), {
      ...snapshot,
      holdTimelineId: hold,
    });
    assert.deepEqual(kept.unfinished, []);
    assert.throws(() => removeBranch(kept, named(kept, 'b')), /neon snapshot destroy s/);
    const renamed = renameBranch(kept, named(kept, 'b'), 'c');
    assert.equal(renamed.snapshots[0]?.branchName, 'c');
    assert.throws(() => renameBranch(kept, named(kept, 'b'), 'a'), /exists already/);
  });

  it('replaces what a name means, the former state kept or not', () => {
    const catalog = tree();
    const kept = replaceBranch(catalog, named(catalog, 'a'), branch('a', 'a', 0x150), 'a-before');
    assert.equal(named(kept, 'a').parentName, 'a-before');
    assert.equal(named(kept, 'a1').parentName, 'a-before');
    assert.equal(named(kept, 'a-before').timelineId, named(catalog, 'a').timelineId);
    const gone = replaceBranch(catalog, named(catalog, 'b'), branch('b', 'main', 0x300), null);
    assert.equal(named(gone, 'b').parentLsn, 0x300);
    assert.equal(gone.unfinished[0]?.timelineId, named(catalog, 'b').timelineId);
  });

  it('knows on whose timeline a position lies, and where two branches parted', () => {
    const catalog = tree();
    assert.equal(ownerOf(catalog, named(catalog, 'a1'), lsn(0x190)).name, 'a1');
    assert.equal(ownerOf(catalog, named(catalog, 'a1'), lsn(0x170)).name, 'a');
    assert.equal(ownerOf(catalog, named(catalog, 'a1'), lsn(0x50)).name, 'main');
    const at = (name: string, head: number) => ({ branch: named(catalog, name), head: lsn(head) });
    const point = commonPoint(catalog, at('a1', 0x500), at('b', 0x600));
    assert.deepEqual([point?.branch.name, point?.lsn], ['main', 0x100]);
    const own = commonPoint(catalog, at('a', 0x500), at('a1', 0x600));
    assert.deepEqual([own?.branch.name, own?.lsn], ['a', 0x180]);
  });
});

describe('storages of the catalog', () => {
  it('takes names along when a storage goes, and brings them back', () => {
    const before = tree();
    const entry = { name: 's1', type: 'native' as const, url: 'file:///s1', createdAtMs: 0 };
    const other = parseTenantId('c'.repeat(32));
    let catalog = addTenant(addStorage(before, entry), other, 's1', false);
    catalog = addBranch(catalog, { ...branch('main', null), tenantId: other });
    assert.equal(resolveTenant(catalog, '', 's1'), other);
    assert.throws(() => addStorage(catalog, { ...entry, name: 's2' }), /attached already, as "s1"/);
    const names = takenNames(catalog, 's1');
    const gone = removeStorage(catalog, 's1');
    assert.deepEqual(gone.branches, before.branches);
    const back = adoptNames(addStorage(gone, { ...entry, name: 'again' }), 'again', names);
    assert.equal(resolveTenant(back, '', 'again'), other);
    assert.equal(back.storages.at(-1)?.nodeId, 3);
    assert.throws(() => adoptNames(catalog, 's1', names), /beside its original/);
  });
});

describe('times and sizes', () => {
  it('understands how people write them', () => {
    const now = Date.UTC(2026, 10, 29, 12);
    assert.equal(parseTimeMs('2026-11-29T03:15:00Z', now), Date.UTC(2026, 10, 29, 3, 15));
    assert.equal(parseTimeMs('2026-11-29 03:15:00', now), Date.UTC(2026, 10, 29, 3, 15));
    assert.equal(parseTimeMs('2026-11-29 03:15:00.5+02', now), Date.UTC(2026, 10, 29, 1, 15, 0, 500));
    assert.equal(parseTimeMs('2026-11-29', now), Date.UTC(2026, 10, 29));
    assert.equal(parseTimeMs('5m ago', now), now - 300_000);
    assert.equal(parseTimeMs('-2h', now), now - 7_200_000);
    for (const bad of ['', 'yesterday', '2026-13-45', '5x ago'])
      assert.throws(() => parseTimeMs(bad, now), /no (time|duration)/);
    assert.equal(parseDurationS('1.5h'), 5400);
    assert.equal(parseDurationS('90'), 90);
    assert.equal(parseBytes('64MB'), 64 << 20);
    assert.throws(() => parseBytes('7 apples'), /no size/);
  });
});
