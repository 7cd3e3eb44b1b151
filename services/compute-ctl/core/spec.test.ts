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

  it('takes shards in their order, and shard 0 for base backups', () => {
    const at = (port: number) => ({
      pageservers: [{ id: 1, libpq_url: `postgresql://ps:${port}`, grpc_url: `grpc://ps:${port + 1}` }],
    });
    const { pageserver_connstring: _, ...rest } = plain;
    const info = { shard_count: 2, stripe_size: 8, shards: { '0102': at(74), '0002': at(64) } };
    const spec = parse({ ...rest, pageserver_connection_info: info });
    assert.equal(spec.pageserverConnstring, 'postgresql://ps:64,postgresql://ps:74');
    assert.equal(spec.pageserverGrpcAddr, 'ps:65');
    assert.deepEqual([spec.stripeBlocks, spec.ttid.tenantId], [8, TENANT]);
    assert.equal(spec.pageserverTtid.tenantId, `${TENANT}-0002`);
    const lacking = { ...info, shards: { '0002': at(64) } };
    assert.throws(() => parse({ ...rest, pageserver_connection_info: lacking }), /has 1 of 2 shards/);
    const list = parse({ ...plain, pageserver_connstring: 'host=a port=1, host=b,c port=2', shard_stripe_size: 16 });
    assert.deepEqual([list.pageserverTtid.tenantId, list.stripeBlocks], [`${TENANT}-0002`, 16]);
  });

  it('takes safekeepers with or without ports, and a list of page servers', () => {
    const setting = (name: string, value: string) => ({ name, value, vartype: 'string' });
    const settings = [
      setting('neon.safekeepers', 'sk-0.ns:5454, sk-1.ns,[::1]:7,'),
      setting('neon.pageserver_connstring', 'host=ps-0.ns,ps-1.ns port=6400'),
    ];
    const spec = parse({ tenant_id: TENANT, timeline_id: TIMELINE, cluster: { settings } });
    assert.deepEqual(spec.safekeepers, ['sk-0.ns:5454', 'sk-1.ns:5454', '[::1]:7']);
    assert.equal(spec.pageserverGrpcAddr, 'ps-0.ns:51051');
    assert.deepEqual(parse({ ...plain, safekeeper_connstrings: ['a', 'b:1'] }).safekeepers, ['a:5454', 'b:1']);
  });

  it('keeps secrets as Postgres stores them', () => {
    const scram = 'SCRAM-SHA-256$4096:c2FsdA==$aaaa:bbbb';
    const secrets = ['AB'.repeat(16), `md5${'AB'.repeat(16)}`, scram, null];
    const roles = secrets.map((encrypted_password, at) => ({ name: `r${at}`, encrypted_password }));
    const md5 = `md5${'ab'.repeat(16)}`;
    assert.deepEqual(
      parse({ ...plain, cluster: { roles } }).roles.map((role) => role.password),
      [md5, md5, scram, null],
    );
  });

  it('says what is wrong', () => {
    assert.throws(() => parseSpec('{', null), /not JSON/);
    fails({ ...plain, tenant_id: 'x' }, /tenant_id: must be 32 hexadecimal digits/);
    fails({ ...plain, timeline_id: undefined }, /timeline_id: is missing, and so is the setting neon\.timeline_id/);
    fails({ ...plain, safekeeper_connstrings: [] }, /names no safekeepers/);
    fails({ ...plain, safekeeper_connstrings: ['a:1', 'a:1'] }, /named twice/);
    fails({ ...plain, safekeeper_connstrings: ['a', 'a:5454'] }, /named twice/);
    fails({ ...plain, safekeeper_connstrings: ['a:b'] }, /safekeeper_connstrings\.0: .*not host:port/);
    fails({ ...plain, mode: 'Other' }, /mode/);
    fails({ ...plain, format_version: 2 }, /format_version/);
    fails({ ...plain, cluster: { settings: [{ name: "x' = y", value: '' }] } }, /settings\.0\.name/);
    fails({ ...plain, cluster: { settings: [{ name: 'x', value: 'a\0b' }] } }, /settings\.0\.value/);
    fails({ ...plain, cluster: { settings: [{ name: 'x', value: 'maybe', vartype: 'bool' }] } }, /value: is no bool/);
    fails({ ...plain, cluster: { settings: [{ name: 'x', value: '1', vartype: 'int' }] } }, /vartype/);
    fails({ ...plain, cluster: { roles: [{ name: 'r', encrypted_password: 'plain' }] } }, /neither an MD5 nor/);
    fails({ ...plain, cluster: { roles: [{ name: 'pg_x' }] } }, /reserved/);
    fails({ ...plain, cluster: { roles: [{ name: 'r', options: [{ name: 'LOGIN; DROP ROLE x' }] }] } }, /no option/);
    fails({ ...plain, cluster: { databases: [{ name: 'd'.repeat(64), owner: 'o' }] } }, /1 to 63 bytes/);
    fails({ ...plain, cluster: { databases: [1, 2].map(() => ({ name: 'd', owner: 'o' })) } }, /"d" is there twice/);
    fails(
      { ...plain, delta_operations: [{ action: 'rename_db', name: 'a' }] },
      /delta_operations\.0\.new_name: is missing/,
    );
    fails({ ...plain, cluster: { roles: 7 } }, /cluster\.roles/);
    fails([], /./);
    fails(7, /./);
  });

  it('lists all mistakes at once, each with its place', () => {
    const wrong = {
      tenant_id: 'short',
      pageserver_connstring: 'nonsense',
      safekeeper_connstrings: ['a:1', 'b:x'],
      cluster: {
        roles: [{ name: '' }, { name: 'r', encrypted_password: 'x' }],
        databases: [{ name: 'd' }],
        settings: [{ name: 'ok', value: '1' }, { name: '9' }, { name: 'port', value: 'many', vartype: 'integer' }],
      },
    };
    const message = (() => {
      try {
        parse(wrong);
        return '';
      } catch (error) {
        return (error as Error).message;
      }
    })();
    const places = [
      'tenant_id: ',
      'timeline_id: ',
      'pageserver_connstring: ',
      'safekeeper_connstrings.1: ',
      'cluster.roles.0.name: ',
      'cluster.roles.1.encrypted_password: ',
      'cluster.databases.0.owner: ',
      'cluster.settings.1.name: ',
      'cluster.settings.2.value: ',
    ];
    for (const place of places) assert.ok(message.includes(place), `${place} is missing in: ${message}`);
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
