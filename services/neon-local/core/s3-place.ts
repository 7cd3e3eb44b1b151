/** How S3 storages are named and reached: what people give, as the URL that services take and as keys. Keys are never in the URL. Pure. */
import { StorageError } from '#shared/core/errors.js';
import type { S3Keys } from '#shared/core/s3-keys.js';

/** What is given beside the URL; empty texts are not given. */
export interface S3Input extends S3Keys {
  readonly endpoint: string;
  readonly region: string;
  readonly virtualHostStyle: boolean;
}

/** What is given beside the URL counts more than what is in it. */
export function s3Url(path: string, s3: S3Input | undefined): string {
  let url: URL;
  try {
    url = new URL(path);
  } catch (cause) {
    throw new StorageError('invalid', `"${path}" is no S3 URL; write s3://bucket/prefix`, { cause });
  }
  if (url.protocol !== 's3:' || url.hostname === '') {
    throw new StorageError('invalid', `"${path}" is no S3 URL; write s3://bucket/prefix`);
  }
  if (url.username !== '' || url.password !== '') {
    throw new StorageError('invalid', 'give keys by --access-key-id and --secret-access-key, not in the URL');
  }
  if (s3?.endpoint) url.searchParams.set('endpoint', s3.endpoint);
  if (s3?.region) url.searchParams.set('region', s3.region);
  if (s3?.virtualHostStyle) url.searchParams.set('path_style', 'false');
  return url.href;
}

/** Undefined when none are given: then the AWS chain of the daemon counts. */
export function s3Keys(s3: S3Input | undefined): S3Keys | undefined {
  if (s3 === undefined) return undefined;
  const { accessKeyId, secretAccessKey, sessionToken } = s3;
  if ((accessKeyId === '') !== (secretAccessKey === '')) {
    throw new StorageError('invalid', 'give both, --access-key-id and --secret-access-key, or none of them');
  }
  return accessKeyId === '' ? undefined : { accessKeyId, secretAccessKey, sessionToken };
}

/**
 * The environment by which AWS programs take keys; nothing when a storage has none of its own. Whatever else of that kind the daemon has
 * would be mixed with them, or be preferred to them: undefined removes it.
 */
export function s3Environment(keys: S3Keys | undefined): Record<string, string | undefined> {
  if (keys === undefined) return {};
  return {
    AWS_ACCESS_KEY_ID: keys.accessKeyId,
    AWS_SECRET_ACCESS_KEY: keys.secretAccessKey,
    AWS_SESSION_TOKEN: keys.sessionToken === '' ? undefined : keys.sessionToken,
    AWS_PROFILE: undefined,
  };
}
