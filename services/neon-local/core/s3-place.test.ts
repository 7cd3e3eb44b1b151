import { strict as assert } from 'node:assert';
import { s3Environment, s3Keys, s3Url } from './s3-place.js';

const NOTHING = {
  ...{ endpoint: '', region: '', accessKeyId: '', secretAccessKey: '', sessionToken: '' },
  virtualHostStyle: false,
};

describe('S3 places', () => {
  it('are URLs without keys', () => {
    assert.equal(s3Url('s3://bucket/prefix', undefined), 's3://bucket/prefix');
    const given = {
      ...NOTHING,
      endpoint: 'http://127.0.0.1:9000',
      region: 'r',
      accessKeyId: 'id',
      secretAccessKey: 'k',
    };
    assert.equal(
      s3Url('s3://bucket/prefix?endpoint=http://other', { ...given, virtualHostStyle: true }),
      's3://bucket/prefix?endpoint=http%3A%2F%2F127.0.0.1%3A9000&region=r&path_style=false',
    );
    for (const bad of ['bucket', 'http://bucket', 's3:///prefix'])
      assert.throws(() => s3Url(bad, NOTHING), /no S3 URL/);
    assert.throws(() => s3Url('s3://id:key@bucket/x', NOTHING), /not in the URL/);
  });

  it('take both keys or none', () => {
    assert.equal(s3Keys(undefined), undefined);
    assert.equal(s3Keys(NOTHING), undefined);
    assert.throws(() => s3Keys({ ...NOTHING, accessKeyId: 'id' }), /give both/);
    const keys = s3Keys({ ...NOTHING, accessKeyId: 'id', secretAccessKey: 'k' });
    assert.deepEqual(keys, { accessKeyId: 'id', secretAccessKey: 'k', sessionToken: '' });
  });

  it('give their keys to a child, and nothing else of that kind that we have', () => {
    assert.deepEqual(s3Environment(undefined), {});
    const child = {
      AWS_SESSION_TOKEN: 'ours',
      ...s3Environment({ accessKeyId: 'id', secretAccessKey: 'k', sessionToken: '' }),
    };
    assert.deepEqual(child, {
      ...{ AWS_ACCESS_KEY_ID: 'id', AWS_SECRET_ACCESS_KEY: 'k' },
      ...{ AWS_SESSION_TOKEN: undefined, AWS_PROFILE: undefined },
    });
  });
});
