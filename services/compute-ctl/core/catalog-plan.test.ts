import { strict as assert } from 'node:assert';
import { planCatalog } from './catalog-plan.js';
import { planExtensions, wantedExtensions } from './catalog-plan.js';
import { PLAIN_ROLE } from './catalog-state.js';
import type { CatalogState, DatabaseState, RoleState } from './catalog-state.js';
import { parseSpec } from './spec.js';
import { quoteIdentifier, quoteLiteral } from './sql.js';

const MD5 = 'c'.repeat(32);
function spec(cluster: object, more: object = {}) {
  const base = { tenant_id: '1'.repeat(32), timeline_id: '2'.repeat(32), pageserver_connstring: 'host=p' };
  return parseSpec(JSON.stringify({ ...base, safekeeper_connstrings: ['a:1'], cluster, ...more }), null);
}
const role = (password: string | null, more: Partial<RoleState> = {}): RoleState => ({
  ...PLAIN_ROLE,
  password,
  ...more,
});
const database = (owner: string, more: Partial<DatabaseState> = {}): DatabaseState => ({
  ...{ owner, connectionLimit: -1, allowConnections: true, isTemplate: false, invalid: false },
  ...more,
});
const EMPTY: CatalogState = {
  roles: new Map([['cloud_admin', role(null)]]),
  databases: new Map([['postgres', database('cloud_admin')]]),
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
      'postgres: GRANT ALL PRIVILEGES ON DATABASE "a%b c" TO neon_superuser',
    ]);
    assert.match(plan[0] ?? '', /CREATE ROLE neon_superuser /);
  });

  it('does nothing when all is as it should be', () => {
    const wanted = spec({ roles: [{ name: 'u', encrypted_password: MD5 }], databases: [{ name: 'd', owner: 'u' }] });
    const roles = new Map([...EMPTY.roles, ['neon_superuser', role(null)], ['u', role(`md5${MD5}`)]] as const);
    const databases = new Map([...EMPTY.databases, ['d', database('u')]] as const);
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
    const databases = new Map([...EMPTY.databases, ['d', database('u')]] as const);
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
    const roles = new Map([...EMPTY.roles, ['old', role(null)], ['r', role(null)]] as const);
    const databases = new Map([...EMPTY.databases, ['d', database('old')], ['e', database('r')]] as const);
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

  it('brings options to what the spec says, and repeats none that is so already', () => {
    const options = [
      { name: 'NOLOGIN' },
      { name: 'CREATEDB' },
      { name: 'connection limit', value: 3 },
      { name: 'VALID UNTIL', value: '2030-01-02 03:04:05+00' },
    ];
    const wanted = spec({
      roles: [{ name: 'u', encrypted_password: MD5, options }],
      databases: [
        {
          name: 'd',
          owner: 'u',
          options: [
            { name: 'CONNECTION LIMIT', value: 9 },
            { name: 'TEMPLATE', value: 'x' },
          ],
        },
      ],
    });
    const state = (u: RoleState, d: DatabaseState): CatalogState => ({
      ...EMPTY,
      roles: new Map([...EMPTY.roles, ['neon_superuser', role(null)], ['u', u]]),
      databases: new Map([...EMPTY.databases, ['d', d]]),
    });
    const secret = `md5${MD5}`;
    const first = sql(wanted, state(role(secret, { login: true, createDb: true }), database('u')));
    assert.deepEqual(first, [
      `postgres: ALTER ROLE "u" NOLOGIN connection limit 3 VALID UNTIL '2030-01-02 03:04:05+00'`,
      'postgres: ALTER DATABASE "d" WITH CONNECTION LIMIT 9',
    ]);
    const until = Date.UTC(2030, 0, 2, 3, 4, 5);
    const done = role(secret, { createDb: true, connectionLimit: 3, validUntilMs: until });
    assert.deepEqual(sql(wanted, state(done, database('u', { connectionLimit: 9 }))), []);
  });

  it('makes a role with what the spec says instead of the usual rights', () => {
    const options = [{ name: 'NOINHERIT' }, { name: 'NOLOGIN' }, { name: 'CREATEDB' }];
    const [, made] = sql(spec({ roles: [{ name: 'r', options }] }), EMPTY);
    const rights = 'CREATEROLE BYPASSRLS REPLICATION IN ROLE neon_superuser NOINHERIT NOLOGIN CREATEDB';
    assert.equal(made, `postgres: CREATE ROLE "r" ${rights}`);
  });

  it('makes a database anew whose DROP was cut off', () => {
    const wanted = spec({ databases: [{ name: 'd', owner: 'cloud_admin' }] });
    const databases = new Map([...EMPTY.databases, ['d', database('cloud_admin', { invalid: true })]] as const);
    assert.deepEqual(sql(wanted, { ...EMPTY, databases }), [
      'postgres: DROP DATABASE IF EXISTS "d"',
      'postgres: CREATE DATABASE "d" OWNER "cloud_admin"',
    ]);
  });

  it('installs and updates extensions', () => {
    const cluster = { settings: [{ name: 'shared_preload_libraries', value: 'neon, pg_stat_statements' }] };
    const wanted = wantedExtensions(
      spec(cluster, { extensions: ['hstore', { name: 'citext', database: 'd', version: '1.6', schema: 's' }] }),
    );
    assert.deepEqual(
      wanted.map(({ name, database: at }) => `${at}.${name}`),
      ['postgres.hstore', 'd.citext', 'postgres.pg_stat_statements'],
    );
    assert.deepEqual(
      planExtensions(
        wanted,
        new Map([
          ['hstore', '1.8'],
          ['citext', '1.5'],
        ]),
      ),
      [`ALTER EXTENSION "citext" UPDATE TO '1.6'`, 'CREATE EXTENSION IF NOT EXISTS "pg_stat_statements" CASCADE'],
    );
    assert.deepEqual(planExtensions(wanted.slice(1, 2), new Map()), [
      `CREATE EXTENSION IF NOT EXISTS "citext" SCHEMA "s" VERSION '1.6' CASCADE`,
    ]);
  });

  it('quotes', () => {
    assert.equal(quoteIdentifier('a"b'), '"a""b"');
    assert.equal(quoteLiteral("a'b"), "'a''b'");
    assert.equal(quoteLiteral('a\\b'), "E'a\\\\b'");
  });
});
