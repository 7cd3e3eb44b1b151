/**
 * Upload of a large file in parts: each part is tried again on its own. The object appears when the upload is completed, whole. What a
 * crash leaves is parts without an object, which cost space until the bucket's rule for unfinished uploads removes them.
 */
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  HeadObjectCommand,
  UploadPartCommand,
} from '@aws-sdk/client-s3';
import type { CompletedPart, S3Client } from '@aws-sdk/client-s3';
import { StorageError } from '../core/errors.js';
import { fileBody } from './object-body.js';
import type { FileDigest, FilePart } from './object-body.js';
import type { Attempt } from './object-retry.js';
import { statusOf } from './s3-errors.js';

export interface PartedUpload {
  readonly client: S3Client;
  readonly target: { readonly Bucket: string; readonly Key: string; readonly Metadata: Record<string, string> };
  readonly path: string;
  readonly digest: FileDigest;
  /** With tries. */
  readonly run: <T>(act: (attempt: Attempt) => Promise<T>) => Promise<T>;
}

type Place = { readonly Bucket: string; readonly Key: string; readonly UploadId: string };

async function sendPart(upload: PartedUpload, place: Place, part: FilePart, number: number): Promise<CompletedPart> {
  return upload.run(async (attempt) => {
    const Body = fileBody(upload.path, part, attempt);
    try {
      const body = { Body, ContentLength: part.end - part.start, ContentMD5: part.md5 };
      const command = new UploadPartCommand({ ...place, ...body, PartNumber: number });
      const { ETag } = await upload.client.send(command, { abortSignal: attempt.signal });
      return { PartNumber: number, ETag };
    } finally {
      Body.destroy();
    }
  });
}

/** The answer to an earlier try of the completion may have been lost. */
async function isThere({ client, target, digest }: PartedUpload, attempt: Attempt): Promise<boolean> {
  const { Bucket, Key, Metadata } = target;
  const asked = client.send(new HeadObjectCommand({ Bucket, Key }), { abortSignal: attempt.signal });
  const found = await asked.catch((error: unknown) => {
    if (statusOf(error) === 404) return null;
    throw error;
  });
  return found?.ContentLength === digest.sizeBytes && found.Metadata?.['crc32'] === Metadata['crc32'];
}

async function complete(upload: PartedUpload, place: Place, parts: CompletedPart[]): Promise<void> {
  await upload.run(async (attempt) => {
    try {
      const command = new CompleteMultipartUploadCommand({ ...place, MultipartUpload: { Parts: parts } });
      await upload.client.send(command, { abortSignal: attempt.signal });
    } catch (error) {
      const mayBeDone = attempt.number > 1 && statusOf(error) === 404;
      if (!mayBeDone || !(await isThere(upload, attempt))) throw error;
    }
  });
}

export async function uploadInParts(upload: PartedUpload): Promise<void> {
  const { client, target, digest, run } = upload;
  const { UploadId } = await run((attempt) =>
    client.send(new CreateMultipartUploadCommand(target), { abortSignal: attempt.signal }),
  );
  if (UploadId === undefined) throw new StorageError('unavailable', 'an upload in parts got no id');
  const place = { Bucket: target.Bucket, Key: target.Key, UploadId };
  try {
    const parts: CompletedPart[] = [];
    for (const [at, part] of digest.parts.entries()) parts.push(await sendPart(upload, place, part, at + 1));
    await complete(upload, place, parts);
  } catch (error) {
    // As good as it goes: the upload has failed anyway.
    await client.send(new AbortMultipartUploadCommand(place)).catch(() => undefined);
    throw error;
  }
}
