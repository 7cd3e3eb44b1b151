/**
 * An S3 server in this process, for tests: strict where real servers are (signatures, checksums, conditions, byte order, part sizes), in
 * memory, one owner, path-style addresses. It must pass the checks of s3-checks.ts, as real servers must.
 */
import { createServer } from 'node:http';
import type { ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { metadataOf, S3Bucket } from './s3-fake-bucket.js';
import type { S3Object } from './s3-fake-bucket.js';
import { readS3Request, S3Failure } from './s3-fake-request.js';
import type { S3Request } from './s3-fake-request.js';

const DELETE_MAX = 1000;

export interface S3Server extends AsyncDisposable {
  readonly endpoint: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

interface Answer {
  readonly status: number;
  readonly headers?: Record<string, string>;
  readonly body?: Buffer | string;
}

const escape = (text: string): string => text.replace(/[<>&"']/g, (c) => `&#${c.charCodeAt(0)};`);
const unescape = (text: string): string =>
  text
    .replace(/&#(x?)([0-9a-fA-F]+);/g, (_, hex: string, code: string) =>
      String.fromCodePoint(parseInt(code, hex ? 16 : 10)),
    )
    .replace(
      /&(lt|gt|quot|apos|amp);/g,
      (_, name: string) => ({ lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' })[name]!,
    );

const tag = (name: string, ...content: Array<string | number | boolean>): string =>
  `<${name}>${content.join('')}</${name}>`;
const text = (name: string, value: string | number): string => tag(name, escape(String(value)));

function xml(status: number, body: string): Answer {
  return {
    status,
    headers: { 'content-type': 'application/xml' },
    body: `<?xml version="1.0" encoding="UTF-8"?>${body}`,
  };
}

function values(body: Buffer, name: string): string[] {
  return [...body.toString('utf8').matchAll(new RegExp(`<${name}>([^<]*)</${name}>`, 'g'))].map((m) => unescape(m[1]!));
}

function objectHeaders(object: S3Object): Record<string, string> {
  const { etag, modified, metadata } = object;
  return { etag, 'last-modified': modified.toUTCString(), 'accept-ranges': 'bytes', ...metadata };
}

function read(request: S3Request, bucket: S3Bucket): Answer {
  const object = bucket.find(request.key);
  const headers = objectHeaders(object);
  if (request.header('if-none-match') === object.etag) return { status: 304, headers };
  const size = object.bytes.length;
  const range = /^bytes=(\d*)-(\d*)$/.exec(request.header('range') ?? '');
  if (range === null) return { status: 200, headers, body: object.bytes };
  const start = range[1] === '' ? Math.max(0, size - Number(range[2])) : Number(range[1]);
  const end = range[1] === '' || range[2] === '' ? size : Math.min(size, Number(range[2]) + 1);
  if (start >= end) throw new S3Failure(416, 'InvalidRange');
  const body = object.bytes.subarray(start, end);
  return { status: 206, headers: { ...headers, 'content-range': `bytes ${start}-${end - 1}/${size}` }, body };
}

function list(request: S3Request, bucket: S3Bucket, name: string, pageMax: number): Answer {
  const { query } = request;
  const prefix = query.get('prefix') ?? '';
  const delimiter = query.get('delimiter') ?? '';
  const token = query.get('continuation-token');
  const after = token === null ? (query.get('start-after') ?? '') : Buffer.from(token, 'base64url').toString();
  const limit = Math.min(pageMax, Number(query.get('max-keys') ?? pageMax));
  const found: string[] = [];
  const groups = new Set<string>();
  let last = '';
  let isTruncated = false;
  for (const key of bucket.keys()) {
    if (!key.startsWith(prefix) || Buffer.compare(Buffer.from(key), Buffer.from(after)) <= 0) continue;
    const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    const group = cut < 0 ? null : key.slice(0, cut + delimiter.length);
    if (group !== null && (groups.has(group) || after.startsWith(group))) {
      last = key;
      continue;
    }
    if (found.length + groups.size === limit) {
      isTruncated = true;
      break;
    }
    if (group === null) found.push(key);
    else groups.add(group);
    last = key;
  }
  const encode = query.get('encoding-type') === 'url' ? encodeURIComponent : (value: string) => value;
  const contents = found.map((key) => {
    const { bytes, etag, modified } = bucket.find(key);
    const fields = [text('Key', encode(key)), text('LastModified', modified.toISOString()), text('ETag', etag)];
    return tag('Contents', ...fields, text('Size', bytes.length), text('StorageClass', 'STANDARD'));
  });
  const head = [text('Name', name), text('Prefix', prefix), text('KeyCount', found.length + groups.size)];
  const tail = [tag('IsTruncated', isTruncated)];
  if (isTruncated) tail.push(text('NextContinuationToken', Buffer.from(last).toString('base64url')));
  const prefixes = [...groups].map((group) => tag('CommonPrefixes', text('Prefix', encode(group))));
  return xml(200, tag('ListBucketResult', ...head, ...contents, ...prefixes, ...tail));
}

function deleteMany(request: S3Request, bucket: S3Bucket): Answer {
  const keys = values(request.body, 'Key');
  if (keys.length === 0 || keys.length > DELETE_MAX) throw new S3Failure(400, 'MalformedXML');
  for (const key of keys) bucket.objects.delete(key);
  return xml(200, tag('DeleteResult'));
}

function postObject(request: S3Request, bucket: S3Bucket, name: string): Answer {
  const where = text('Bucket', name) + text('Key', request.key);
  if (request.query.has('uploads')) {
    return xml(200, tag('InitiateMultipartUploadResult', where, text('UploadId', bucket.beginUpload(request))));
  }
  const etags = values(request.body, 'ETag');
  const wanted = values(request.body, 'PartNumber').map((number, at) => ({
    number: Number(number),
    etag: etags[at] ?? '',
  }));
  const { etag } = bucket.completeUpload(request, wanted);
  return xml(200, tag('CompleteMultipartUploadResult', where, text('ETag', etag)));
}

function putObject(request: S3Request, bucket: S3Bucket, buckets: ReadonlyMap<string, S3Bucket>): Answer {
  if (request.query.has('uploadId')) return { status: 200, headers: { etag: bucket.putPart(request) } };
  const source = request.header('x-amz-copy-source');
  if (source === undefined) return { status: 200, headers: { etag: bucket.put(request).etag } };
  const [from = '', ...key] = decodeURIComponent(source).replace(/^\//, '').split('/');
  const original = buckets.get(from)?.find(key.join('/'));
  if (original === undefined) throw new S3Failure(404, 'NoSuchBucket');
  const headers = { ...original.metadata, ...metadataOf(request) };
  const copy = bucket.put({ ...request, headers }, original.bytes);
  return xml(200, tag('CopyObjectResult', text('ETag', copy.etag), text('LastModified', copy.modified.toISOString())));
}

function getObject(request: S3Request, bucket: S3Bucket): Answer {
  if (!request.query.has('uploadId')) return read(request, bucket);
  const { parts } = bucket.upload(request);
  const listed = [...parts].map(([number, part]) =>
    tag('Part', text('PartNumber', number), text('ETag', part.etag), text('Size', part.bytes.length)),
  );
  return xml(200, tag('ListPartsResult', ...listed, tag('IsTruncated', false)));
}

function onBucket(request: S3Request, bucket: S3Bucket, pageMax: number): Answer {
  if (request.method === 'HEAD') return { status: 200 };
  if (request.method === 'POST' && request.query.has('delete')) return deleteMany(request, bucket);
  if (request.method !== 'GET') throw new S3Failure(405, 'MethodNotAllowed');
  if (!request.query.has('uploads')) return list(request, bucket, request.bucket, pageMax);
  const uploads = [...bucket.uploads].map(([id, { key }]) => tag('Upload', text('Key', key), text('UploadId', id)));
  return xml(200, tag('ListMultipartUploadsResult', ...uploads, tag('IsTruncated', false)));
}

function onObject(request: S3Request, bucket: S3Bucket, buckets: ReadonlyMap<string, S3Bucket>): Answer {
  switch (request.method) {
    case 'PUT':
      return putObject(request, bucket, buckets);
    case 'POST':
      return postObject(request, bucket, request.bucket);
    case 'GET':
    case 'HEAD':
      return getObject(request, bucket);
    case 'DELETE':
      if (request.query.has('uploadId')) {
        bucket.upload(request);
        bucket.uploads.delete(request.query.get('uploadId') ?? '');
      } else bucket.objects.delete(request.key);
      return { status: 204 };
    default:
      throw new S3Failure(405, 'MethodNotAllowed');
  }
}

export class S3Fake implements S3Server {
  readonly accessKey = 'fake-access';
  readonly secretKey = 'fake-secret';
  readonly buckets = new Map<string, S3Bucket>();
  readonly #server = createServer((request, response) => {
    readS3Request(request, this.secretKey)
      .then((read) => this.#answer(read))
      .catch((error: unknown) => this.#failure(error))
      .then((answer) => this.#send(response, request.method === 'HEAD', answer))
      .catch(() => response.destroy());
  });

  readonly #pageMax: number;

  private constructor(pageMax: number) {
    this.#pageMax = pageMax;
  }

  /** `pageMax`: keys in a page of a listing; 1000 as everywhere, fewer make a test of pages cheap. */
  static async start({ pageMax = 1000 } = {}): Promise<S3Fake> {
    const fake = new S3Fake(pageMax);
    await new Promise<void>((resolve) => fake.#server.listen(0, '127.0.0.1', resolve));
    return fake;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #answer(request: S3Request): Answer {
    if (request.method === 'PUT' && request.key === '') {
      if (this.buckets.has(request.bucket)) throw new S3Failure(409, 'BucketAlreadyOwnedByYou');
      this.buckets.set(request.bucket, new S3Bucket());
      return { status: 200 };
    }
    const bucket = this.buckets.get(request.bucket);
    if (bucket === undefined) throw new S3Failure(404, 'NoSuchBucket');
    return request.key === '' ? onBucket(request, bucket, this.#pageMax) : onObject(request, bucket, this.buckets);
  }

  #failure(error: unknown): Answer {
    const { status, code, message } =
      error instanceof S3Failure ? error : new S3Failure(500, 'InternalError', String(error));
    return xml(status, tag('Error', text('Code', code), text('Message', message)));
  }

  #send(response: ServerResponse, isHead: boolean, { status, headers = {}, body = '' }: Answer): void {
    const bytes = Buffer.from(body);
    response.writeHead(status, {
      ...headers,
      ...(status === 204 || status === 304 ? {} : { 'content-length': bytes.length }),
    });
    if (isHead || status === 204 || status === 304) response.end();
    else response.end(bytes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
