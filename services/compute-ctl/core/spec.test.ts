import { strict as assert } from 'node:assert';
import { StorageError } from '#shared/core/errors.js';
import { parseConnstr } from './connstr.js';
import { parseSpec } from './spec.js';

const TENANT = '1'.repeat(32);
const TIMELINE = '2'.repeat(32);
const plain = {
  tenant_id: TENANT,
  timeline_id: TIMELINE,
  pageserver_connstring: 'host=ps port=6400',
  safekeeper_connstrings: ['sk1:5454', 'sk2:5454'],
};
const parse = (spec: unknown, grpc: string | null = null) => parseSpec(JSON.stringify(spec), grpc);
const fails = (spec: unknown, text: RegExp) =>
  assert.throws(
    () => parse(spec),
    (error: Error) => error instanceof StorageError && text.test(error.message),
  );

describe('spec', () => {
  it('reads a spec with fields at the top', () => {
    const spec = parse({ ...plain, format_version: 1.0, something_new: [1] });
    assert.deepEqual(spec.ttid, { tenantId: TENANT, timelineId: TIMELINE });
    assert.deepEqual(spec.safekeepers, ['sk1:5454', 'sk2:5454']);
    assert.equal(spec.pageserverGrpcAddr, 'ps:51051');
    assert.equal(parse(plain, 'other:1').pageserverGrpcAddr, 'other:1');
  });

  it('reads a spec with everything among the settings, wrapped, with a generation', () => {
    const setting = (name: string, value: string) => ({ name, value, vartype: 'string' });
    const spec = parse({
      spec: {
        cluster: {
          settings: [
            setting('neon.tenant_id', TENANT),
            setting('neon.timeline_id', TIMELINE),
            setting('neon.pageserver_connstring', 'postgresql://x@ps.local:6400'),
            setting('neon.safekeepers', 'g#7:a:1, b:2,c:3'),
            setting('Shared_Buffers', '1MB'),
            { name: 'fsync', value: 'off', vartype: 'bool' },
          ],
          roles: [{ name: 'u', encrypted_password: 'AB'.repeat(16), options: null }],
          databases: [{ name: 'd', owner: 'u' }],
        },
      },
      compute_ctl_config: { jwks: { keys: [] } },
    });
    assert.equal(spec.safekeepersGeneration, 7);
    assert.deepEqual(spec.safekeepers, ['a:1', 'b:2', 'c:3']);
    assert.equal(spec.pageserverGrpcAddr, 'ps.local:51051');
    assert.deepEqual(
      [...spec.settings],
      [
        ['shared_buffers', '1MB'],
        ['fsync', 'off'],
      ],
    );
    assert.equal(spec.roles[0]?.password, `md5${'ab'.repeat(16)}`);
    assert.deepEqual(spec.databases, [{ name: 'd', owner: 'u', options: [] }]);
  });

  it('takes the page server from the connection info', () => {
    const shards = { '0000': { pageservers: [{ id: 1, libpq_url: 'postgresql://ps:64', grpc_url: 'grpc://ps:65' }] } };
    const { pageserver_connstring: _, ...rest } = plain;
    const spec = parse({ ...rest, pageserver_connection_info: { shards } });
    assert.deepEqual([spec.pageserverConnstring, spec.pageserverGrpcAddr], ['postgresql://ps:64', 'ps:65']);
  });

  it('says what is wrong', () => {
    assert.throws(() => parseSpec('{', null), /not JSON/);
    fails({ ...plain, tenant_id: 'x' }, /"x" is not a tenant id/);
    fails({ ...plain, timeline_id: undefined }, /lacks timeline_id/);
    fails({ ...plain, safekeeper_connstrings: [] }, /names no safekeepers/);
    fails({ ...plain, safekeeper_connstrings: ['a:1', 'a:1'] }, /named twice/);
    fails({ ...plain, safekeeper_connstrings: ['a'] }, /not host:port/);
    fails({ ...plain, mode: 'Static' }, /has the mode "Static"/);
    fails({ ...plain, cluster: { settings: [{ name: "x' = y", value: '' }] } }, /impossible name/);
    fails({ ...plain, cluster: { roles: [{ name: 'r', encrypted_password: 'plain' }] } }, /neither an MD5 nor/);
    fails({ ...plain, delta_operations: [{ action: 'rename_db', name: 'a' }] }, /new_name/);
    fails({ ...plain, cluster: { roles: 7 } }, /cluster\.roles/);
  });
});

describe('connection string', () => {
  it('is read in both forms', () => {
    const whole = { host: 'h', port: 5, user: 'u v', database: 'd' };
    assert.deepEqual(parseConnstr('postgresql://u%20v@h:5/d'), whole);
    assert.deepEqual(parseConnstr("host=h port = 5 user='u v' dbname=d"), whole);
    assert.deepEqual(parseConnstr('postgres://[::1]/'), { host: '::1', port: null, user: null, database: null });
    assert.equal(parseConnstr("host='a\\'b'").host, "a'b");
    for (const text of ['', 'x', 'port=1', 'postgres://', "host='x", 'host=a port=99999'])
      assert.throws(() => parseConnstr(text));
  });
});
