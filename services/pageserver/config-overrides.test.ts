import assert from 'node:assert/strict';
import { parseConfig } from '#shared/runtime/config.js';
import { options } from './config.js';
import { expandOverrides } from './config-overrides.js';

const APP = { name: 'pageserver', description: '' };

describe('configuration of the older form', () => {
  it('becomes flags', () => {
    const argv = [
      ...['-D', '/data', '-c', 'id=7', '-c', "broker_endpoint='http://broker:50051'"],
      ...['-c', "listen_pg_addr='0.0.0.0:6400'", '-c', 'listen_http_addr="0.0.0.0:9898"'],
      ...['-c', "pg_distrib_dir='/opt/pg_install'", '-c', "remote_storage={local_path='/store'}"],
    ];
    const config = parseConfig(APP, options, expandOverrides(argv), {});
    assert.equal(config.id, 7);
    assert.equal(config.brokerEndpoint, 'broker:50051');
    assert.equal(config.listenPg, '0.0.0.0:6400');
    assert.equal(config.listenHttp, '0.0.0.0:9898');
    assert.equal(config.workdir, '/data');
    assert.equal(config.remoteStorage, 'file:///store');
  });

  it('names a bucket by a table', () => {
    const table =
      "remote_storage={endpoint='http://s3:9000', bucket_name='neon', bucket_region='eu-north-1', prefix_in_bucket='/pageserver'}";
    assert.deepEqual(expandOverrides(['-c', table]), [
      '--remote-storage',
      's3://neon/pageserver?endpoint=http%3A%2F%2Fs3%3A9000&path_style=true&region=eu-north-1',
    ]);
  });

  it('brings a gRPC port and a store when scripts know of neither', () => {
    const argv = ['-D', '/data', '-c', "broker_endpoint='http://broker:50051'", '-c', "listen_pg_addr='0.0.0.0:6400'"];
    const config = parseConfig(APP, options, expandOverrides(argv), {});
    assert.equal(config.listenGrpc, '0.0.0.0:51051');
    assert.equal(config.remoteStorage, 'file:///data/remote_storage');
    const env = { NEON_PAGESERVER_REMOTE_STORAGE: 's3://bucket/prefix', NEON_PAGESERVER_LISTEN_GRPC: '[::]:1' };
    const own = parseConfig(APP, options, expandOverrides(argv, env), env);
    assert.equal(own.remoteStorage, 's3://bucket/prefix');
    assert.equal(own.listenGrpc, '[::]:1');
    assert.deepEqual(expandOverrides(['-D', '/data']), ['-D', '/data']);
  });

  it('is refused when it is not understood', () => {
    assert.throws(() => expandOverrides(['-c', 'listen_pg_addr=0.0.0.0:6400']), { kind: 'invalid' });
    assert.throws(() => expandOverrides(['-c', 'page_cache_size=8']), /unknown key/);
    assert.throws(() => expandOverrides(['-c', 'remote_storage={}']), /bucket_name/);
    assert.throws(() => expandOverrides(['-c']), { kind: 'invalid' });
  });
});
