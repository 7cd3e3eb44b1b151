import { strict as assert } from 'node:assert';
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn } from '#shared/core/lsn.js';
import prettier from 'prettier';
import { addBranch, addTenant } from '../core/catalog.js';
import { emptyCatalog } from '../core/catalog-schema.js';
import { completionsOf } from './completion.js';
import { buildProgram } from './program.js';
import { referenceText } from './reference.js';

const REFERENCE = resolve(import.meta.dirname, '../../../docs/cli.md');

describe('commands', () => {
  it('are described in docs/cli.md as they are', async () => {
    const options = (await prettier.resolveConfig(REFERENCE)) ?? {};
    const fresh = await prettier.format(referenceText(buildProgram()), { ...options, parser: 'markdown' });
    const hint = 'docs/cli.md is out of date: npm run docs';
    assert.equal(readFileSync(REFERENCE, 'utf8'), fresh, hint);
  });

  it('have a description each, and no two options of one name', () => {
    const visit = (command: ReturnType<typeof buildProgram>, path: string): void => {
      assert.notEqual(command.description(), '', path);
      const flags = command.options
        .flatMap((option) => [option.short, option.long])
        .filter((flag) => flag !== undefined);
      assert.equal(new Set(flags).size, flags.length, path);
      for (const option of command.options) assert.notEqual(option.description, '', `${path} ${option.flags}`);
      for (const child of command.commands.filter((entry) => !entry.name().startsWith('__'))) {
        visit(child, `${path} ${child.name()}`);
      }
    };
    visit(buildProgram(), 'neon');
  });

  it('are completed, with names from the catalog', () => {
    const tenantId = parseTenantId('a'.repeat(32));
    const place = { parentName: null, parentLsn: lsn(0), createdAtMs: 0, retention: null };
    const timelineId = parseTimelineId('b'.repeat(32));
    const catalog = addBranch(addTenant(emptyCatalog('file:///x'), tenantId, 'default', true), {
      ...{ name: 'feature', tenantId, timelineId, ...place },
    });
    const found = (...words: string[]) => completionsOf(buildProgram(), words, catalog);
    assert.ok(found('').includes('branch'));
    assert.ok(!found('').includes('__complete'));
    assert.ok(found('branch', '').includes('rename'));
    assert.deepEqual(found('branch', 'delete', ''), ['feature']);
    assert.deepEqual(found('branch', 'create', 'x', '--from', ''), ['feature']);
    assert.ok(found('branch', 'create', '--').includes('--snapshot'));
    assert.deepEqual(completionsOf(buildProgram(), ['pg', 'start', ''], null), []);
  });
});
