/** A request to the S3 fake: read, its signature (AWS Signature Version 4) and its checksums compared. */
import { createHash, createHmac } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { crc32 } from 'node:zlib';
import { crc32c } from '../../postgres/crc32c.js';

export class S3Failure extends Error {
  readonly status: number;
  readonly code: string;

  constructor(status: number, code: string, message = code) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export interface S3Request {
  readonly method: string;
  readonly bucket: string;
  readonly key: string;
  readonly query: URLSearchParams;
  readonly header: (name: string) => string | undefined;
  readonly headers: IncomingMessage['headers'];
  readonly body: Buffer;
}

const sha256 = (data: string | Buffer): string => createHash('sha256').update(data).digest('hex');
const hmac = (key: string | Buffer, text: string): Buffer => createHmac('sha256', key).update(text).digest();

/** As RFC 3986 wants it, which is what is signed. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
}

function canonicalQuery(query: URLSearchParams): string {
  return [...query]
    .map(([name, value]) => `${encode(name)}=${encode(value)}`)
    .sort()
    .join('&');
}

/** Throws S3Failure unless the request is signed with the secret. */
function checkSignature(request: IncomingMessage, path: string, query: URLSearchParams, secret: string): void {
  const { authorization = '' } = request.headers;
  const parts =
    /^AWS4-HMAC-SHA256 Credential=([^/]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/.exec(
      authorization,
    );
  if (parts === null) throw new S3Failure(403, 'AccessDenied', 'the request is not signed');
  const [, , day, region, signed, signature] = parts as unknown as string[];
  const headers = signed!.split(';').map((name) => `${name}:${String(request.headers[name] ?? '').trim()}\n`);
  const payload = String(request.headers['x-amz-content-sha256']);
  const canonical = [request.method, path, canonicalQuery(query), headers.join(''), signed, payload].join('\n');
  const scope = `${day}/${region}/s3/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', String(request.headers['x-amz-date']), scope, sha256(canonical)].join('\n');
  const key = ['s3', 'aws4_request'].reduce(hmac, hmac(hmac(`AWS4${secret}`, day!), region!));
  if (hmac(key, text).toString('hex') !== signature) throw new S3Failure(403, 'SignatureDoesNotMatch');
}

/** `hex length[;extension] CRLF data CRLF … 0 CRLF trailers CRLF`: gives the data, adds the trailers to the headers. */
function unchunk(body: Buffer, headers: IncomingMessage['headers']): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; ;) {
    const eol = body.indexOf('\r\n', at);
    const length = Number.parseInt(body.toString('latin1', at, eol), 16);
    if (eol < 0 || Number.isNaN(length)) throw new S3Failure(400, 'IncompleteBody');
    at = eol + 2;
    if (length === 0) {
      for (const line of body.toString('latin1', at).split('\r\n')) {
        const [name, value] = line.split(':');
        if (name && value !== undefined) headers[name.trim().toLowerCase()] = value.trim();
      }
      return Buffer.concat(pieces);
    }
    pieces.push(body.subarray(at, at + length));
    at += length + 2;
  }
}

function base64OfWord(word: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(word >>> 0);
  return bytes.toString('base64');
}

function checkSums(body: Buffer, header: S3Request['header']): void {
  const md5 = header('content-md5');
  if (md5 !== undefined && md5 !== createHash('md5').update(body).digest('base64')) {
    throw new S3Failure(400, 'BadDigest');
  }
  const sums = { 'x-amz-checksum-crc32': () => crc32(body), 'x-amz-checksum-crc32c': () => crc32c(body) };
  for (const [name, sum] of Object.entries(sums)) {
    const wanted = header(name);
    if (wanted !== undefined && wanted !== base64OfWord(sum())) throw new S3Failure(400, 'BadDigest', name);
  }
}

async function readAll(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const body = Buffer.concat(chunks);
  const length = request.headers['content-length'];
  if (length !== undefined && Number(length) !== body.length) throw new S3Failure(400, 'IncompleteBody');
  return body;
}

/** Throws S3Failure for what a real server refuses before it looks at the bucket. */
export async function readS3Request(request: IncomingMessage, secret: string): Promise<S3Request> {
  const [path = '/', search = ''] = (request.url ?? '/').split('?');
  const query = new URLSearchParams(search.replaceAll('+', '%2B'));
  let body = await readAll(request);
  checkSignature(request, path, query, secret);
  const { headers } = request;
  const payload = String(headers['x-amz-content-sha256']);
  if (/^[0-9a-f]{64}$/.test(payload) && payload !== sha256(body)) throw new S3Failure(400, 'XAmzContentSHA256Mismatch');
  if (payload.startsWith('STREAMING-')) body = unchunk(body, headers);
  const header = (name: string): string | undefined => headers[name] as string | undefined;
  checkSums(body, header);
  const [, bucket = '', ...rest] = path.split('/');
  const key = rest.map(decodeURIComponent).join('/');
  return { method: request.method ?? '', bucket, key, query, header, headers, body };
}
