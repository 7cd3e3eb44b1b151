/**
 * What an S3 server must do, as 29 checks by the vendor's client. A server that passes them all is fit for every use the services make of
 * it; the fake is held to them so that what is tried on it counts for real servers.
 */
import { strict as assert } from 'node:assert';
import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CopyObjectCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  DeleteObjectsCommand,
  GetObjectCommand,
  HeadBucketCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  S3ServiceException,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { CompletedPart, GetObjectCommandInput, PutObjectCommandInput } from '@aws-sdk/client-s3';
import type { S3Server } from './s3-fake.js';

const DATA = randomBytes(300_000);
const PART_BYTES = 5 << 20;

export function s3Client(server: S3Server, secret = server.secretKey): S3Client {
  return new S3Client({
    endpoint: server.endpoint,
    region: 'us-east-1',
    credentials: { accessKeyId: server.accessKey, secretAccessKey: secret },
    forcePathStyle: true,
    maxAttempts: 1,
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
  });
}

export async function createBucket(server: S3Server, bucket: string): Promise<void> {
  await s3Client(server).send(new CreateBucketCommand({ Bucket: bucket }));
}

/** A bucket and short forms of the requests. */
export class S3Probe {
  readonly server: S3Server;
  readonly bucket = `probe-${randomBytes(6).toString('hex')}`;
  readonly client: S3Client;
  /** Keys listed and deleted: more than one page of a listing has. */
  readonly manyKeys: number;

  constructor(server: S3Server, manyKeys: number) {
    this.server = server;
    this.manyKeys = manyKeys;
    this.client = s3Client(server);
  }

  where(key: string): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: key };
  }

  put(key: string, body: PutObjectCommandInput['Body'] = 'x', more: Partial<PutObjectCommandInput> = {}) {
    return this.client.send(new PutObjectCommand({ ...this.where(key), Body: body, ...more }));
  }

  async get(key: string, more: Partial<GetObjectCommandInput> = {}): Promise<Buffer> {
    const { Body } = await this.client.send(new GetObjectCommand({ ...this.where(key), ...more }));
    return Buffer.from(await Body!.transformToByteArray());
  }

  head(key: string) {
    return this.client.send(new HeadObjectCommand(this.where(key)));
  }

  async keys(prefix: string): Promise<string[]> {
    const { Contents } = await this.client.send(new ListObjectsV2Command({ Bucket: this.bucket, Prefix: prefix }));
    return (Contents ?? []).map(({ Key }) => Key!);
  }

  async upload(key: string, bodies: readonly Buffer[]) {
    const { UploadId } = await this.client.send(new CreateMultipartUploadCommand(this.where(key)));
    const place = { ...this.where(key), UploadId };
    const parts: CompletedPart[] = [];
    for (const [at, Body] of bodies.entries()) {
      const { ETag } = await this.client.send(new UploadPartCommand({ ...place, PartNumber: at + 1, Body }));
      parts.push({ PartNumber: at + 1, ETag });
    }
    const complete = (more: { IfNoneMatch?: string } = {}) =>
      this.client.send(new CompleteMultipartUploadCommand({ ...place, MultipartUpload: { Parts: parts }, ...more }));
    return { place, complete };
  }
}

/** The status of the answer, whatever it is. */
async function status(request: Promise<{ $metadata: { httpStatusCode?: number | undefined } }>): Promise<number> {
  const answer = await request.catch((error: unknown) => {
    if (error instanceof S3ServiceException) return error;
    throw error;
  });
  return answer.$metadata.httpStatusCode ?? 0;
}

async function code(request: Promise<unknown>): Promise<string> {
  return request.then(
    () => 'no error',
    (error: unknown) => (error instanceof Error ? error.name : String(error)),
  );
}

export interface S3Check {
  readonly name: string;
  readonly run: (probe: S3Probe) => Promise<void>;
}

const basic: S3Check[] = [
  {
    name: 'a bucket is made, and found',
    run: async ({ client, bucket }) => {
      await client.send(new CreateBucketCommand({ Bucket: bucket }));
      assert.equal(await status(client.send(new HeadBucketCommand({ Bucket: bucket }))), 200);
    },
  },
  {
    name: 'put and get',
    run: async (p) => void (await p.put('a/1', DATA), assert.ok((await p.get('a/1')).equals(DATA))),
  },
  {
    name: 'put of a stream with known length and trailing checksum (aws-chunked)',
    run: async (p) => {
      const more = { ContentLength: DATA.length, ChecksumAlgorithm: 'CRC32' } as const;
      await p.put('a/stream', Readable.from([DATA.subarray(0, 70_000), DATA.subarray(70_000)]), more);
      assert.ok((await p.get('a/stream')).equals(DATA));
    },
  },
  {
    name: 'put with a CRC-32C',
    run: async (p) => void (await p.put('a/crc', DATA, { ChecksumAlgorithm: 'CRC32C' })),
  },
  {
    name: 'put with a wrong Content-MD5 is refused, and leaves nothing',
    run: async (p) => {
      const ContentMD5 = createHash('md5').update('other').digest('base64');
      assert.equal(await status(p.put('a/badmd5', DATA, { ContentMD5 })), 400);
      assert.deepEqual(await p.keys('a/badmd5'), []);
    },
  },
  {
    name: 'an empty object',
    run: async (p) => void (await p.put('a/empty', Buffer.alloc(0)), assert.equal((await p.get('a/empty')).length, 0)),
  },
  {
    name: 'the first bytes and the last of an object',
    run: async (p) => {
      assert.ok((await p.get('a/1', { Range: 'bytes=100-199' })).equals(DATA.subarray(100, 200)));
      assert.ok((await p.get('a/1', { Range: 'bytes=-10' })).equals(DATA.subarray(-10)));
    },
  },
  {
    name: 'a range that ends behind the object is cut',
    run: async (p) => {
      const range = `bytes=${DATA.length - 7}-${DATA.length + 100}`;
      assert.ok((await p.get('a/1', { Range: range })).equals(DATA.subarray(-7)));
    },
  },
  {
    name: 'a range that begins behind the object is refused with 416',
    run: async (p) => {
      const input = { ...p.where('a/1'), Range: 'bytes=900000-900009' };
      assert.equal(await status(p.client.send(new GetObjectCommand(input))), 416);
    },
  },
  {
    name: 'get of a missing object is 404 NoSuchKey, of a missing bucket NoSuchBucket',
    run: async (p) => {
      assert.equal(await code(p.get('none')), 'NoSuchKey');
      const elsewhere = new GetObjectCommand({ Bucket: `${p.bucket}-none`, Key: 'x' });
      assert.equal(await code(p.client.send(elsewhere)), 'NoSuchBucket');
    },
  },
  { name: 'head gives the size', run: async (p) => assert.equal((await p.head('a/1')).ContentLength, DATA.length) },
  { name: 'head of a missing object is 404', run: async (p) => assert.equal(await status(p.head('none')), 404) },
  {
    name: 'metadata is kept, and comes with get and head',
    run: async (p) => {
      await p.put('meta', 'x', { Metadata: { crc32: '8cdc1683' } });
      const got = await p.client.send(new GetObjectCommand(p.where('meta')));
      assert.equal(got.Metadata?.['crc32'], '8cdc1683');
      await got.Body?.transformToByteArray();
      assert.equal((await p.head('meta')).Metadata?.['crc32'], '8cdc1683');
    },
  },
  {
    name: 'a read sees the newest write at once',
    run: async (p) => {
      for (let n = 0; n < 50; n++) {
        await p.put('often', `value ${n}`);
        assert.equal((await p.get('often')).toString(), `value ${n}`);
      }
    },
  },
];

const conditions: S3Check[] = [
  {
    name: 'put If-None-Match: * on an existing object is 412',
    run: async (p) => assert.equal(await status(p.put('a/1', 'x', { IfNoneMatch: '*' })), 412),
  },
  {
    name: 'put If-None-Match: * on a new key',
    run: async (p) => assert.equal(await status(p.put('inm/new', 'x', { IfNoneMatch: '*' })), 200),
  },
  {
    name: 'of 8 at once with If-None-Match: * exactly one wins, and its bytes are there',
    run: async (p) => {
      const puts = Array.from({ length: 8 }, (_, n) => status(p.put('inm/race', `v${n}`, { IfNoneMatch: '*' })));
      const all = await Promise.all(puts);
      assert.equal(all.filter((one) => one === 200).length, 1, all.join());
      assert.equal((await p.get('inm/race')).toString(), `v${all.indexOf(200)}`);
    },
  },
  {
    name: 'put If-Match with another ETag is 412',
    run: async (p) => assert.equal(await status(p.put('a/1', DATA, { IfMatch: `"${'0'.repeat(32)}"` })), 412),
  },
  {
    name: 'put If-Match with the right ETag',
    run: async (p) => {
      const { ETag } = await p.head('a/1');
      assert.equal(await status(p.put('a/1', DATA, { IfMatch: ETag })), 200);
    },
  },
  {
    name: 'get If-None-Match with its ETag is 304',
    run: async (p) => {
      const { ETag } = await p.head('a/1');
      assert.equal(await status(p.client.send(new GetObjectCommand({ ...p.where('a/1'), IfNoneMatch: ETag }))), 304);
    },
  },
];

function manyKeys(probe: S3Probe): string[] {
  return Array.from({ length: probe.manyKeys }, (_, n) => `many/${String(n).padStart(5, '0')}`);
}

const listing: S3Check[] = [
  {
    name: 'listing: prefix, delimiter, pages, start-after over many keys',
    run: async (p) => {
      const keys = manyKeys(p);
      for (let n = 0; n < keys.length; n += 50) await Promise.all(keys.slice(n, n + 50).map((key) => p.put(key, key)));
      const found: string[] = [];
      let pages = 0;
      for (let token: string | undefined; ;) {
        const MaxKeys = Math.ceil(keys.length / 3);
        const input = { Bucket: p.bucket, Prefix: 'many/', MaxKeys, ContinuationToken: token };
        const page = await p.client.send(new ListObjectsV2Command(input));
        found.push(...(page.Contents ?? []).map(({ Key }) => Key!));
        pages += 1;
        token = page.NextContinuationToken;
        if (token === undefined) break;
      }
      assert.deepEqual(found, keys);
      assert.equal(pages, 3);
      const grouped = await p.client.send(new ListObjectsV2Command({ Bucket: p.bucket, Delimiter: '/' }));
      assert.deepEqual(
        grouped.CommonPrefixes?.map(({ Prefix }) => Prefix),
        ['a/', 'inm/', 'many/'],
      );
      const after = { Bucket: p.bucket, Prefix: 'many/', StartAfter: keys.at(-2) };
      assert.equal((await p.client.send(new ListObjectsV2Command(after))).Contents?.length, 1);
    },
  },
  {
    name: 'listing is in byte order',
    run: async (p) => {
      const keys = ['Z', 'a', 'é', '_', '~', '0'].map((name) => `o/${name}`);
      for (const key of keys) await p.put(key);
      assert.deepEqual(
        await p.keys('o/'),
        keys.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))),
      );
    },
  },
  {
    name: 'keys with spaces, plus, percent, unicode and markup',
    run: async (p) => {
      const key = 'w/a b+c%20ü?#&=<.x';
      await p.put(key, 'q');
      assert.deepEqual(await p.keys('w/'), [key]);
      assert.equal((await p.get(key)).toString(), 'q');
      await p.client.send(new DeleteObjectsCommand({ Bucket: p.bucket, Delete: { Objects: [{ Key: key }] } }));
      assert.deepEqual(await p.keys('w/'), []);
    },
  },
  {
    name: 'as many objects as one page lists are deleted in one request',
    run: async (p) => {
      const Objects = manyKeys(p)
        .slice(0, 1000)
        .map((Key) => ({ Key }));
      const { Errors } = await p.client.send(new DeleteObjectsCommand({ Bucket: p.bucket, Delete: { Objects } }));
      assert.deepEqual([Errors ?? [], (await p.keys('many/')).length], [[], p.manyKeys - Objects.length]);
    },
  },
  {
    name: 'deleting what is missing is fine',
    run: async (p) => assert.equal(await status(p.client.send(new DeleteObjectCommand(p.where('none')))), 204),
  },
];

const uploads: S3Check[] = [
  {
    name: 'upload in 3 parts, listed, completed, read back',
    run: async (p) => {
      const bodies = [randomBytes(PART_BYTES), randomBytes(PART_BYTES), randomBytes(12_345)];
      const { place, complete } = await p.upload('mp', bodies);
      assert.equal((await p.client.send(new ListPartsCommand(place))).Parts?.length, 3);
      assert.equal(await code(p.head('mp')), 'NotFound');
      await complete();
      assert.ok((await p.get('mp')).equals(Buffer.concat(bodies)));
    },
  },
  {
    name: 'parts below 5 MiB are refused, but for the last',
    run: async (p) => {
      const { complete } = await p.upload('mp2', [Buffer.from('tiny'), Buffer.from('last')]);
      assert.equal(await code(complete()), 'EntityTooSmall');
    },
  },
  {
    name: 'uploads under way are listed, and given up',
    run: async (p) => {
      const { place } = await p.upload('mp3', []);
      const list = async () =>
        (await p.client.send(new ListMultipartUploadsCommand({ Bucket: p.bucket }))).Uploads ?? [];
      assert.ok((await list()).some(({ Key }) => Key === 'mp3'));
      await p.client.send(new AbortMultipartUploadCommand(place));
      assert.ok(!(await list()).some(({ Key }) => Key === 'mp3'));
    },
  },
  {
    name: 'an object is copied by the server; a wrong secret is refused',
    run: async (p) => {
      await p.client.send(new CopyObjectCommand({ ...p.where('copy'), CopySource: `${p.bucket}/a/1` }));
      assert.ok((await p.get('copy')).equals(DATA));
      const stranger = s3Client(p.server, `${p.server.secretKey}x`);
      assert.equal(await status(stranger.send(new GetObjectCommand(p.where('a/1')))), 403);
    },
  },
];

/** To be run in this order on one probe. */
export const S3_CHECKS: readonly S3Check[] = [...basic, ...conditions, ...listing, ...uploads];
