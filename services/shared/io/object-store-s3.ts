/** Object store over an S3 API. Retries with jitter are the SDK's; what it gives up on becomes a StorageError. */
import { createReadStream, createWriteStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
} from '@aws-sdk/client-s3';
import { StorageError } from '../core/errors.js';
import { isValidObjectKey } from './object-store.js';
import type { ObjectStore } from './object-store.js';

const ATTEMPTS_MAX = 6;
/** An S3 DeleteObjects request takes at most this many keys. */
const DELETE_BATCH = 1000;

interface S3Location {
  readonly bucket: string;
  readonly prefix: string;
  readonly endpoint: string | null;
  readonly region: string;
  readonly pathStyle: boolean;
}

function parseLocation(url: string): S3Location {
  let parsed: URL;
  try {
    parsed = new URL(url);
  } catch (cause) {
    throw new StorageError('invalid', `"${url}" is not an S3 URL; use s3://bucket/prefix?endpoint=…`, { cause });
  }
  if (parsed.hostname === '') throw new StorageError('invalid', `"${url}" names no bucket`);
  const prefix = decodeURIComponent(parsed.pathname).replace(/^\/+|\/+$/g, '');
  return {
    bucket: parsed.hostname,
    prefix: prefix === '' ? '' : `${prefix}/`,
    endpoint: parsed.searchParams.get('endpoint'),
    region: parsed.searchParams.get('region') ?? process.env['AWS_REGION'] ?? 'us-east-1',
    pathStyle: (parsed.searchParams.get('path_style') ?? 'true') !== 'false',
  };
}

function failure(doing: string, error: unknown): StorageError {
  if (error instanceof StorageError) return error;
  const status = error instanceof S3ServiceException ? error.$metadata.httpStatusCode : undefined;
  if (error instanceof Error && error.name === 'AbortError')
    return new StorageError('cancelled', doing, { cause: error });
  if (status === 404) return new StorageError('not-found', doing, { cause: error });
  if (status === 401 || status === 403) {
    return new StorageError('precondition', `${doing}: access denied, check the credentials`, { cause: error });
  }
  return new StorageError('unavailable', doing, { cause: error });
}

class S3Store implements ObjectStore {
  readonly url: string;
  private readonly client: S3Client;
  private readonly where: S3Location;

  constructor(where: S3Location) {
    this.where = where;
    this.url = `s3://${where.bucket}/${where.prefix}`;
    this.client = new S3Client({
      region: where.region,
      forcePathStyle: where.pathStyle,
      maxAttempts: ATTEMPTS_MAX,
      // Servers other than AWS refuse the trailing-checksum framing that is the SDK's default.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
      ...(where.endpoint === null ? {} : { endpoint: where.endpoint }),
    });
  }

  private keyOf(key: string): string {
    if (!isValidObjectKey(key)) throw new StorageError('invalid', `"${key}" is not an object key`);
    return this.where.prefix + key;
  }

  private async run<T>(doing: string, act: () => Promise<T>): Promise<T> {
    try {
      return await act();
    } catch (error) {
      throw failure(`${doing} in ${this.url}`, error);
    }
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    const input = { Bucket: this.where.bucket, Key: this.keyOf(key), Body: bytes, ContentLength: bytes.length };
    await this.run(`could not write object ${key}`, () =>
      this.client.send(new PutObjectCommand(input), signal ? { abortSignal: signal } : {}),
    );
  }

  async putFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    const Key = this.keyOf(key);
    await this.run(`could not write object ${key}`, async () => {
      const { size } = await stat(path);
      // A stream body cannot be replayed by the SDK, so every attempt opens the file anew.
      for (let attempt = 1; ; attempt++) {
        const Body = createReadStream(path);
        try {
          const command = new PutObjectCommand({ Bucket: this.where.bucket, Key, Body, ContentLength: size });
          await this.client.send(command, signal ? { abortSignal: signal } : {});
          return;
        } catch (error) {
          const kind = failure('', error).kind;
          if (attempt >= ATTEMPTS_MAX || kind !== 'unavailable') throw error;
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 100 * 2 ** attempt));
        } finally {
          Body.destroy();
        }
      }
    });
  }

  private async body(key: string, range: string | null, signal?: AbortSignal): Promise<Readable> {
    const input = { Bucket: this.where.bucket, Key: this.keyOf(key), ...(range === null ? {} : { Range: range }) };
    const response = await this.client.send(new GetObjectCommand(input), signal ? { abortSignal: signal } : {});
    if (!(response.Body instanceof Readable))
      throw new StorageError('unavailable', `object ${key} came without a body`);
    return response.Body;
  }

  private async bytes(key: string, range: string | null, signal?: AbortSignal): Promise<Buffer> {
    const chunks: Buffer[] = [];
    for await (const chunk of await this.body(key, range, signal)) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  async get(key: string, signal?: AbortSignal): Promise<Uint8Array> {
    return this.run(`could not read object ${key}`, () => this.bytes(key, null, signal));
  }

  async getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (end <= start) return new Uint8Array(0);
    return this.run(`could not read object ${key}`, async () => {
      const bytes = await this.bytes(key, `bytes=${start}-${end - 1}`, signal);
      if (bytes.length !== end - start) {
        throw new StorageError('corrupt', `object ${key}: wanted bytes [${start}, ${end}), got ${bytes.length}`);
      }
      return bytes;
    });
  }

  async getToFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    await this.run(`could not download object ${key}`, async () => {
      await pipeline(await this.body(key, null, signal), createWriteStream(path, { mode: 0o600 }));
      const handle = await open(path, 'r+');
      try {
        await handle.sync();
      } finally {
        await handle.close();
      }
    });
  }

  async head(key: string, signal?: AbortSignal): Promise<{ sizeBytes: number } | null> {
    try {
      const command = new HeadObjectCommand({ Bucket: this.where.bucket, Key: this.keyOf(key) });
      const response = await this.client.send(command, signal ? { abortSignal: signal } : {});
      return { sizeBytes: response.ContentLength ?? 0 };
    } catch (error) {
      const mapped = failure(`could not look up object ${key} in ${this.url}`, error);
      if (mapped.kind === 'not-found') return null;
      throw mapped;
    }
  }

  private async *pages(prefix: string, delimiter: string | null, signal?: AbortSignal) {
    let token: string | undefined;
    do {
      const input = {
        Bucket: this.where.bucket,
        Prefix: this.where.prefix + prefix,
        ...(delimiter === null ? {} : { Delimiter: delimiter }),
        ...(token === undefined ? {} : { ContinuationToken: token }),
      };
      const page = await this.run(`could not list objects under ${prefix}`, () =>
        this.client.send(new ListObjectsV2Command(input), signal ? { abortSignal: signal } : {}),
      );
      yield page;
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async list(prefix: string, signal?: AbortSignal): Promise<string[]> {
    const keys: string[] = [];
    for await (const page of this.pages(prefix, null, signal)) {
      for (const object of page.Contents ?? []) {
        if (object.Key !== undefined) keys.push(object.Key.slice(this.where.prefix.length));
      }
    }
    return keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }

  async listPrefixes(prefix: string, signal?: AbortSignal): Promise<string[]> {
    const cut = this.where.prefix.length + prefix.lastIndexOf('/') + 1;
    const names: string[] = [];
    for await (const page of this.pages(prefix, '/', signal)) {
      for (const common of page.CommonPrefixes ?? []) {
        if (common.Prefix !== undefined) names.push(common.Prefix.slice(cut).replace(/\/$/, ''));
      }
    }
    return names.sort();
  }

  async delete(keys: readonly string[], signal?: AbortSignal): Promise<void> {
    for (let at = 0; at < keys.length; at += DELETE_BATCH) {
      const Objects = keys.slice(at, at + DELETE_BATCH).map((key) => ({ Key: this.keyOf(key) }));
      await this.run('could not delete objects', async () => {
        const command = new DeleteObjectsCommand({ Bucket: this.where.bucket, Delete: { Objects, Quiet: true } });
        const response = await this.client.send(command, signal ? { abortSignal: signal } : {});
        const failed = response.Errors?.find((error) => error.Code !== 'NoSuchKey');
        if (failed) throw new StorageError('unavailable', `object ${failed.Key}: ${failed.Code} ${failed.Message}`);
      });
    }
  }
}

export function openS3Store(url: string): Promise<ObjectStore> {
  return Promise.resolve(new S3Store(parseLocation(url)));
}
