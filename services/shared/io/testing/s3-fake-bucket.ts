/** One bucket of the S3 fake: objects and unfinished uploads in memory, with the conditions of a strict server. */
import { createHash } from 'node:crypto';
import { S3Failure } from './s3-fake-request.js';
import type { S3Request } from './s3-fake-request.js';

export interface S3Object {
  readonly bytes: Buffer;
  readonly etag: string;
  readonly modified: Date;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Upload {
  readonly key: string;
  readonly metadata: Readonly<Record<string, string>>;
  readonly parts: Map<number, S3Object>;
}

/** Of all parts but the last. */
const PART_BYTES_MIN = 5 << 20;

const md5 = (bytes: Buffer): Buffer => createHash('md5').update(bytes).digest();

export function metadataOf(request: S3Request): Record<string, string> {
  const found = Object.entries(request.headers).filter(([name]) => name.startsWith('x-amz-meta-'));
  return Object.fromEntries(found.map(([name, value]) => [name, String(value)]));
}

/** `If-None-Match: *` and `If-Match: "…"` of a write. */
function checkWriteConditions(request: S3Request, existing: S3Object | undefined): void {
  const none = request.header('if-none-match');
  const match = request.header('if-match');
  const isRefused = (none === '*' && existing !== undefined) || (match !== undefined && match !== existing?.etag);
  if (isRefused) throw new S3Failure(412, 'PreconditionFailed');
}

export class S3Bucket {
  readonly objects = new Map<string, S3Object>();
  readonly uploads = new Map<string, Upload>();
  #nextUpload = 1;

  find(key: string): S3Object {
    const found = this.objects.get(key);
    if (found === undefined) throw new S3Failure(404, 'NoSuchKey');
    return found;
  }

  put(request: S3Request, bytes = request.body): S3Object {
    checkWriteConditions(request, this.objects.get(request.key));
    const etag = `"${md5(bytes).toString('hex')}"`;
    const object = { bytes: Buffer.from(bytes), etag, modified: new Date(), metadata: metadataOf(request) };
    this.objects.set(request.key, object);
    return object;
  }

  beginUpload(request: S3Request): string {
    const id = `upload-${this.#nextUpload++}`;
    this.uploads.set(id, { key: request.key, metadata: metadataOf(request), parts: new Map() });
    return id;
  }

  upload(request: S3Request): Upload {
    const upload = this.uploads.get(request.query.get('uploadId') ?? '');
    if (upload?.key !== request.key) throw new S3Failure(404, 'NoSuchUpload');
    return upload;
  }

  putPart(request: S3Request): string {
    const number = Number(request.query.get('partNumber'));
    if (!Number.isInteger(number) || number < 1 || number > 10_000) throw new S3Failure(400, 'InvalidArgument');
    const etag = `"${md5(request.body).toString('hex')}"`;
    const part = { bytes: Buffer.from(request.body), etag, modified: new Date(), metadata: {} };
    this.upload(request).parts.set(number, part);
    return etag;
  }

  /** `wanted`: the parts by number and ETag, as the client lists them. */
  completeUpload(request: S3Request, wanted: ReadonlyArray<{ number: number; etag: string }>): S3Object {
    const upload = this.upload(request);
    checkWriteConditions(request, this.objects.get(request.key));
    const parts = wanted.map(({ number, etag }, at) => {
      const part = upload.parts.get(number);
      if (part === undefined || part.etag !== etag) throw new S3Failure(400, 'InvalidPart');
      if (at > 0 && number <= wanted[at - 1]!.number) throw new S3Failure(400, 'InvalidPartOrder');
      if (at < wanted.length - 1 && part.bytes.length < PART_BYTES_MIN) throw new S3Failure(400, 'EntityTooSmall');
      return part;
    });
    if (parts.length === 0) throw new S3Failure(400, 'MalformedXML');
    const sums = Buffer.concat(parts.map((part) => md5(part.bytes)));
    const object = {
      bytes: Buffer.concat(parts.map((part) => part.bytes)),
      etag: `"${md5(sums).toString('hex')}-${parts.length}"`,
      modified: new Date(),
      metadata: upload.metadata,
    };
    this.objects.set(request.key, object);
    this.uploads.delete(request.query.get('uploadId') ?? '');
    return object;
  }

  /** In byte order. */
  keys(): string[] {
    return [...this.objects.keys()].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  }
}
