import { strict as assert } from 'node:assert';
import { withDeadPeerOptions } from './connstr.js';
import { quoteConfValue, renderPostgresConf } from './postgres-conf.js';
import { parseSpec } from './spec.js';

function render(settings: Record<string, string>, conf = '') {
  const spec = parseSpec(
    JSON.stringify({
      tenant_id: '1'.repeat(32),
      timeline_id: '2'.repeat(32),
      pageserver_connstring: 'host=ps port=6400',
      safekeeper_connstrings: ['a:1', 'b:2'],
      safekeepers_generation: 3,
      endpoint_id: 'ep',
      cluster: { postgresql_conf: conf, settings: Object.entries(settings).map(([name, value]) => ({ name, value })) },
    }),
    null,
  );
  const { text, skipped } = renderPostgresConf(spec, { socketDir: '/tmp/s', port: 5 });
  const last = new Map<string, string>();
  for (const line of text.split('\n')) {
    const match = /^([a-z_.]+) = '(.*)'$/.exec(line);
    if (match !== null) last.set(match[1] ?? '', match[2] ?? '');
  }
  return { last, skipped, text };
}

describe('postgresql.conf', () => {
  it('lets the spec win over defaults, and what must be over the spec', () => {
    const { last } = render({
      wal_keep_size: '0',
      fsync: 'on',
      synchronous_standby_names: 'nobody',
      restart_after_crash: 'on',
      wal_level: 'minimal',
      max_wal_senders: '0',
      shared_preload_libraries: 'pg_stat_statements, "neon"',
    });
    assert.equal(last.get('wal_keep_size'), '0');
    assert.equal(last.get('fsync'), 'on');
    assert.equal(last.get('synchronous_standby_names'), 'walproposer');
    assert.equal(last.get('restart_after_crash'), 'off');
    assert.equal(last.get('wal_level'), 'replica');
    assert.equal(last.get('max_wal_senders'), '3');
    assert.equal(last.get('shared_preload_libraries'), 'neon,pg_stat_statements');
    assert.equal(last.get('neon.safekeepers'), 'g#3:a:1,b:2');
    assert.equal(last.get('neon.endpoint_id'), 'ep');
    assert.equal(last.get('port'), '5');
  });

  it('leaves out what only a patched server knows, and gives the extension what is its', () => {
    const { skipped, last } = render({ seccomp_mode: 'on', max_replication_write_lag: '500MB', work_mem: '4MB' });
    assert.deepEqual(skipped, ['seccomp_mode']);
    assert.equal(last.has('max_replication_write_lag'), false);
    assert.equal(last.get('neon.max_replication_write_lag'), '500MB');
    assert.equal(last.get('work_mem'), '4MB');
  });

  it('has dead connections to the page server noticed, as the spec says or else soon', () => {
    const options = 'keepalives_idle=5 keepalives_interval=5 keepalives_count=2 tcp_user_timeout=15000';
    assert.equal(render({}).last.get('neon.pageserver_connstring'), `host=ps port=6400 ${options}`);
    const [url, own] = ['postgresql://a@b:1/c', 'postgres://d?tcp_user_timeout=1&keepalives_idle=2'];
    assert.equal(
      withDeadPeerOptions(`${url},${own}`),
      `${url}?${options.replaceAll(' ', '&')},${own}&keepalives_interval=5&keepalives_count=2`,
    );
  });

  it('puts the spec’s own text first and quotes values', () => {
    assert.match(render({}, 'work_mem = 9MB').text, /work_mem = 9MB[\s\S]*port = '5'/);
    assert.equal(quoteConfValue("it's a \\ \n"), "'it''s a \\\\ \\n'");
  });
});
