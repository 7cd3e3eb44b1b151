/**
 * Object store over an S3 API. The SDK makes one try of a request; tries, pauses and what is worth a further try are ours
 * (object-retry.ts), since most failures that matter come after the SDK is done: bodies that break off, stall, or arrive damaged.
 *
 * Every object is kept with the CRC-32 of its content (metadata `crc32`), which reads of the whole compare; uploads carry an MD5 that
 * the server compares. Large files are uploaded in parts (s3-multipart.ts).
 */
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { crc32 } from 'node:zlib';
import {
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import type { HeadObjectCommandOutput, ListObjectsV2CommandOutput } from '@aws-sdk/client-s3';
import { StorageError } from '../core/errors.js';
import { crcText, digestFile, fileBody, readBody, saveBody } from './object-body.js';
import type { S3Keys } from '../core/s3-keys.js';
import type { IncomingBody } from './object-body.js';
import { retryPolicy, withRetries } from './object-retry.js';
import type { Attempt, RetryPolicy } from './object-retry.js';
import { compareObjectKeys, isValidObjectKey } from './object-store.js';
import type { ObjectInfo, ObjectStore, StoreOptions } from './object-store.js';
import { explainS3Error, statusOf } from './s3-errors.js';
import { uploadInParts } from './s3-multipart.js';

/** An S3 DeleteObjects request takes at most this many keys. */
const DELETE_BATCH = 1000;
/** Connections to one server: above what the callers of one process use at once. */
const SOCKETS_MAX = 128;
const CONNECT_TIMEOUT_MS = 5_000;
const nothing = (): void => undefined;
/** The SDK would write to the console. What fails is told to the caller. */
const SILENT = { trace: nothing, debug: nothing, info: nothing, warn: nothing, error: nothing };
const CRC_METADATA = 'crc32';

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

function credentialsOf({ accessKeyId, secretAccessKey, sessionToken }: S3Keys) {
  return { accessKeyId, secretAccessKey, ...(sessionToken === '' ? {} : { sessionToken }) };
}

function createClient(where: S3Location, keys: S3Keys | undefined): S3Client {
  return new S3Client({
    region: where.region,
    forcePathStyle: where.pathStyle,
    maxAttempts: 1,
    logger: SILENT,
    // Servers other than AWS refuse the trailing-checksum framing that is the SDK's default.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: CONNECT_TIMEOUT_MS,
      httpAgent: { keepAlive: true, maxSockets: SOCKETS_MAX },
      httpsAgent: { keepAlive: true, maxSockets: SOCKETS_MAX },
    },
    ...(where.endpoint === null ? {} : { endpoint: where.endpoint }),
    ...(keys === undefined ? {} : { credentials: credentialsOf(keys) }),
  });
}

class S3Store implements ObjectStore {
  readonly url: string;
  private readonly client: S3Client;
  private readonly where: S3Location;
  private readonly policy: RetryPolicy;

  constructor(where: S3Location, policy: RetryPolicy, keys: S3Keys | undefined) {
    this.where = where;
    this.policy = policy;
    this.url = `s3://${where.bucket}/${where.prefix}`;
    this.client = createClient(where, keys);
  }

  private target(key: string): { Bucket: string; Key: string } {
    if (!isValidObjectKey(key)) throw new StorageError('invalid', `"${key}" is not an object key`);
    return { Bucket: this.where.bucket, Key: this.where.prefix + key };
  }

  private run<T>(doing: string, signal: AbortSignal | undefined, act: (attempt: Attempt) => Promise<T>): Promise<T> {
    return withRetries({ doing: `${doing} in ${this.url}`, signal, act, explain: explainS3Error }, this.policy);
  }

  private async putBytes(
    key: string,
    bytes: Uint8Array,
    options: { IfNoneMatch?: '*'; abortSignal: AbortSignal },
  ): Promise<void> {
    const { abortSignal, ...condition } = options;
    const command = new PutObjectCommand({
      ...this.target(key),
      Body: bytes,
      ContentLength: bytes.length,
      ContentMD5: createHash('md5').update(bytes).digest('base64'),
      Metadata: { [CRC_METADATA]: crcText(crc32(bytes)) },
      ...condition,
    });
    await this.client.send(command, { abortSignal });
  }

  async put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.run(`could not write object ${key}`, signal, (attempt) =>
      this.putBytes(key, bytes, { abortSignal: attempt.signal }),
    );
  }

  async create(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<boolean> {
    return this.run(`could not create object ${key}`, signal, async (attempt) => {
      try {
        await this.putBytes(key, bytes, { IfNoneMatch: '*', abortSignal: attempt.signal });
        return true;
      } catch (error) {
        // 409: two at once, and neither is the first yet: a further try finds out.
        if (statusOf(error) !== 412) throw error;
        return Buffer.compare(await this.fetch(key, null, attempt), bytes) === 0;
      }
    });
  }

  async putFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    const doing = `could not write object ${key}`;
    const digest = await digestFile(path, this.policy.partBytes);
    const target = { ...this.target(key), Metadata: { [CRC_METADATA]: digest.crc } };
    if (digest.parts.length > 1) {
      const run = <T>(act: (attempt: Attempt) => Promise<T>): Promise<T> => this.run(doing, signal, act);
      await uploadInParts({ client: this.client, target, path, digest, run });
      return;
    }
    // A stream body cannot be replayed, so every try opens the file anew.
    await this.run(doing, signal, async (attempt) => {
      const Body = fileBody(path, { start: 0, end: digest.sizeBytes }, attempt);
      try {
        const body = { Body, ContentLength: digest.sizeBytes, ContentMD5: digest.parts[0]!.md5 };
        await this.client.send(new PutObjectCommand({ ...target, ...body }), { abortSignal: attempt.signal });
      } finally {
        Body.destroy();
      }
    });
  }

  private async body(key: string, range: string | null, attempt: Attempt): Promise<IncomingBody> {
    const input = { ...this.target(key), ...(range === null ? {} : { Range: range }) };
    const response = await this.client.send(new GetObjectCommand(input), { abortSignal: attempt.signal });
    attempt.alive();
    const { Body, ContentLength, Metadata } = response;
    if (!(Body instanceof Readable)) throw new StorageError('unavailable', 'the answer came without a body');
    return { stream: Body, lengthBytes: ContentLength, crc: range === null ? Metadata?.[CRC_METADATA] : undefined };
  }

  private async fetch(key: string, range: string | null, attempt: Attempt): Promise<Buffer> {
    return readBody(await this.body(key, range, attempt), attempt);
  }

  async get(key: string, signal?: AbortSignal): Promise<Uint8Array> {
    return this.run(`could not read object ${key}`, signal, (attempt) => this.fetch(key, null, attempt));
  }

  async getRange(key: string, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    if (end <= start) return new Uint8Array(0);
    return this.run(`could not read object ${key}`, signal, async (attempt) => {
      const body = await this.body(key, `bytes=${start}-${end - 1}`, attempt);
      const bytes = await readBody(body, attempt);
      if (bytes.length === end - start) return bytes;
      throw new StorageError('corrupt', `object ${key}: wanted bytes [${start}, ${end}), got ${bytes.length}`);
    });
  }

  async getToFile(key: string, path: string, signal?: AbortSignal): Promise<void> {
    await this.run(`could not download object ${key}`, signal, async (attempt) =>
      saveBody(await this.body(key, null, attempt), path, attempt),
    );
  }

  async head(key: string, signal?: AbortSignal): Promise<{ sizeBytes: number } | null> {
    return this.run(`could not look up object ${key}`, signal, async (attempt) => {
      const found = await this.headOrNull(key, attempt);
      return found === null ? null : { sizeBytes: found.ContentLength ?? 0 };
    });
  }

  private async headOrNull(key: string, attempt: Attempt): Promise<HeadObjectCommandOutput | null> {
    try {
      return await this.client.send(new HeadObjectCommand(this.target(key)), { abortSignal: attempt.signal });
    } catch (error) {
      if (statusOf(error) === 404) return null;
      throw error;
    }
  }

  private async *pages(
    prefix: string,
    delimiter: string | null,
    signal?: AbortSignal,
  ): AsyncGenerator<ListObjectsV2CommandOutput> {
    let token: string | undefined;
    do {
      const input = {
        Bucket: this.where.bucket,
        Prefix: this.where.prefix + prefix,
        ...(delimiter === null ? {} : { Delimiter: delimiter }),
        ...(token === undefined ? {} : { ContinuationToken: token }),
      };
      const page = await this.run(`could not list objects under ${prefix}`, signal, (attempt) =>
        this.client.send(new ListObjectsV2Command(input), { abortSignal: attempt.signal }),
      );
      yield page;
      token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
    } while (token !== undefined);
  }

  async list(prefix: string, signal?: AbortSignal): Promise<string[]> {
    return (await this.listObjects(prefix, signal)).map(({ key }) => key);
  }

  async listObjects(prefix: string, signal?: AbortSignal): Promise<ObjectInfo[]> {
    const objects: ObjectInfo[] = [];
    for await (const page of this.pages(prefix, null, signal)) {
      for (const { Key, Size, LastModified } of page.Contents ?? []) {
        if (Key === undefined) continue;
        const key = Key.slice(this.where.prefix.length);
        objects.push({ key, sizeBytes: Size ?? 0, modifiedMs: LastModified?.getTime() ?? 0 });
      }
    }
    return objects.sort((a, b) => compareObjectKeys(a.key, b.key));
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
      const Objects = keys.slice(at, at + DELETE_BATCH).map((key) => ({ Key: this.target(key).Key }));
      await this.run('could not delete objects', signal, async (attempt) => {
        const command = new DeleteObjectsCommand({ Bucket: this.where.bucket, Delete: { Objects, Quiet: true } });
        const response = await this.client.send(command, { abortSignal: attempt.signal });
        const failed = response.Errors?.find((error) => error.Code !== 'NoSuchKey');
        if (failed) throw new StorageError('unavailable', `object ${failed.Key}: ${failed.Code} ${failed.Message}`);
      });
    }
  }
}

export function openS3Store(url: string, options: StoreOptions = {}): Promise<ObjectStore> {
  const { keys, ...patience } = options;
  return Promise.resolve(new S3Store(parseLocation(url), retryPolicy(patience), keys));
}
