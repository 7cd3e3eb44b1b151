import { strict as assert } from 'node:assert';
import { planCatalog } from './catalog-plan.js';
import type { CatalogState } from './catalog-plan.js';
import { parseSpec } from './spec.js';
import { quoteIdentifier, quoteLiteral } from './sql.js';

const MD5 = 'c'.repeat(32);
function spec(cluster: object, more: object = {}) {
  const base = { tenant_id: '1'.repeat(32), timeline_id: '2'.repeat(32), pageserver_connstring: 'host=p' };
  return parseSpec(JSON.stringify({ ...base, safekeeper_connstrings: ['a:1'], cluster, ...more }), null);
}
const EMPTY: CatalogState = {
  roles: new Map([['cloud_admin', null]]),
  databases: new Map([['postgres', 'cloud_admin']]),
  superuser: 'cloud_admin',
};
const sql = (...args: Parameters<typeof planCatalog>) =>
  planCatalog(...args).map((statement) => `${statement.database}: ${statement.sql}`);

describe('catalog plan', () => {
  it('makes what is missing, with any name', () => {
    const plan = sql(
      spec({
        roles: [{ name: 'my "role"', encrypted_password: MD5, options: [{ name: 'CONNECTION LIMIT', value: '5' }] }],
        databases: [{ name: 'a%b c', owner: 'my "role"', options: [{ name: 'ENCODING', value: 'UTF8' }] }],
      }),
      EMPTY,
    );
    assert.deepEqual(plan.slice(1), [
      `postgres: CREATE ROLE "my ""role""" INHERIT CREATEROLE CREATEDB BYPASSRLS REPLICATION IN ROLE neon_superuser CONNECTION LIMIT 5 LOGIN PASSWORD 'md5${MD5}'`,
      `postgres: CREATE DATABASE "a%b c" OWNER "my ""role""" ENCODING 'UTF8'`,
      `postgres: GRANT ALL PRIVILEGES ON DATABASE "a%b c" TO "my ""role"""`,
    ]);
    assert.match(plan[0] ?? '', /CREATE ROLE neon_superuser /);
  });

  it('does nothing when all is as it should be', () => {
    const wanted = spec({ roles: [{ name: 'u', encrypted_password: MD5 }], databases: [{ name: 'd', owner: 'u' }] });
    const roles = new Map([...EMPTY.roles, ['neon_superuser', null], ['u', `md5${MD5}`]] as const);
    const databases = new Map([...EMPTY.databases, ['d', 'u']] as const);
    assert.deepEqual(sql(wanted, { ...EMPTY, roles, databases }), []);
    assert.deepEqual(sql(spec({ roles: [{ name: 'u' }] }, { skip_pg_catalog_updates: true }), EMPTY), []);
  });

  it('changes passwords and owners, and leaves the rights of the superuser alone', () => {
    const wanted = spec({
      roles: [{ name: 'cloud_admin', encrypted_password: MD5, options: [{ name: 'NOLOGIN' }] }],
      databases: [
        { name: 'postgres', owner: 'cloud_admin' },
        { name: 'd', owner: 'cloud_admin' },
      ],
    });
    const databases = new Map([...EMPTY.databases, ['d', 'u']] as const);
    assert.deepEqual(sql(wanted, { ...EMPTY, databases }), [
      `postgres: ALTER ROLE "cloud_admin" PASSWORD 'md5${MD5}'`,
      'postgres: ALTER DATABASE "d" OWNER TO "cloud_admin"',
    ]);
  });

  it('renames and deletes what exists, and only that', () => {
    const delta_operations = [
      { action: 'rename_role', name: 'old', new_name: 'new' },
      { action: 'rename_db', name: 'gone', new_name: 'x' },
      { action: 'delete_db', name: 'd' },
      { action: 'delete_role', name: 'r' },
      { action: 'delete_role', name: 'nobody' },
    ];
    const roles = new Map([...EMPTY.roles, ['old', null], ['r', null]] as const);
    const databases = new Map([...EMPTY.databases, ['d', 'old'], ['e', 'r']] as const);
    assert.deepEqual(sql(spec({}, { delta_operations }), { ...EMPTY, roles, databases }), [
      'postgres: ALTER ROLE "old" RENAME TO "new"',
      'postgres: ALTER DATABASE "d" IS_TEMPLATE false',
      'postgres: DROP DATABASE IF EXISTS "d" WITH (FORCE)',
      'postgres: REASSIGN OWNED BY "r" TO "cloud_admin"',
      'postgres: DROP OWNED BY "r"',
      'e: REASSIGN OWNED BY "r" TO "cloud_admin"',
      'e: DROP OWNED BY "r"',
      'postgres: DROP ROLE IF EXISTS "r"',
    ]);
  });

  it('refuses options that are more than words', () => {
    assert.throws(
      () => sql(spec({ roles: [{ name: 'r', options: [{ name: 'LOGIN; DROP ROLE x' }] }] }), EMPTY),
      /no option/,
    );
  });

  it('quotes', () => {
    assert.equal(quoteIdentifier('a"b'), '"a""b"');
    assert.equal(quoteLiteral("a'b"), "'a''b'");
    assert.equal(quoteLiteral('a\\b'), "E'a\\\\b'");
  });
});
