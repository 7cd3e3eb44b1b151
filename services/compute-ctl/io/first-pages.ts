/**
 * Fetches what a new server will probably read first (extension/first-pages.c) while it starts. It needs none of it: what comes late or not
 * at all is asked for page by page.
 */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { PageServiceClient } from '#gen/neon/pageserver/v1/page_service.js';
import type { GetFirstPagesResponse } from '#gen/neon/pageserver/v1/page_service.js';
import { errorText } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsnToWire } from '#shared/core/lsn.js';
import { createClient, traceMetadata } from '#shared/rpc/client.js';
import type { BackupFetchOptions } from './backup-fetch.js';
import { writeOwned } from './pgdata.js';

const FILE = 'neon.first-pages';
const BYTES_MAX = 64 << 20;
/** By then the server has asked itself. */
const TIMEOUT_MS = 5_000;

/** Resolves when the file is there, or will not be. Never rejects. */
export async function fetchFirstPages(options: BackupFetchOptions, lsn: Lsn): Promise<void> {
  const { addr, ttid, pgdata, account, log } = options;
  const path = join(pgdata, FILE);
  const client = createClient(PageServiceClient, addr);
  const deadline = Date.now() + TIMEOUT_MS;
  const stream = client.getFirstPages({ ttid: { ...ttid }, lsn: lsnToWire(lsn) }, traceMetadata(), { deadline });
  const abort = (): void => stream.cancel();
  options.signal.addEventListener('abort', abort, { once: true });
  try {
    const chunks: Buffer[] = [];
    for await (const { chunk } of stream as AsyncIterable<GetFirstPagesResponse>) chunks.push(chunk);
    if (chunks.length === 0) return;
    const file = await promisify(zstdDecompress)(Buffer.concat(chunks), { maxOutputLength: BYTES_MAX });
    if (options.signal.aborted) return;
    // The server finds it whole or not at all.
    writeOwned(`${path}.new`, file, account);
    renameSync(`${path}.new`, path);
    log.debug({ bytes: file.length }, 'have the first pages');
  } catch (error) {
    log.debug({ reason: errorText(error) }, 'could not get the first pages');
  } finally {
    options.signal.removeEventListener('abort', abort);
    stream.on('error', () => undefined);
    stream.cancel();
    client.close();
  }
}
