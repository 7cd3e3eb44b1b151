/** Certificate of the connect port: files that the user named, or a self-signed one that is made once. */
import type * as Selfsigned from 'selfsigned';
import { readFile, stat } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { join } from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { ensureDir, pathExists, writeFileDurable } from '#shared/io/files.js';
import type { StackConfig } from '../core/stack-config.js';

const NAMES = ['localhost', '*.localhost'];
/** It says nothing about who we are: it only keeps the line secret, as Postgres' own snake oil does. */
const DAYS = 3650;

async function makeSelfSigned(certPath: string, keyPath: string): Promise<void> {
  // Loaded only when one is made: it is large.
  const loaded = (await import('selfsigned')) as typeof Selfsigned & { readonly default?: typeof Selfsigned };
  // In a bundle, a CommonJS module has its functions below `default` only.
  const generate = loaded.default?.generate ?? loaded.generate;
  const notAfterDate = new Date(Date.now() + DAYS * 86_400_000);
  const altNames = [...NAMES.map((value) => ({ type: 2 as const, value })), { type: 7 as const, ip: '127.0.0.1' }];
  const made = await generate([{ name: 'commonName', value: 'localhost' }], {
    keyType: 'ec',
    notAfterDate,
    extensions: [{ name: 'subjectAltName', altNames }],
  });
  // The key first: a certificate without its key would look finished.
  await writeFileDurable(keyPath, Buffer.from(made.private));
  await writeFileDurable(certPath, Buffer.from(made.cert));
}

/** Throws StorageError `precondition` when the files cannot be used. */
export async function loadCertificate(repoPath: string, tls: StackConfig['tls']): Promise<SecureContext> {
  const own = join(repoPath, 'tls');
  const { certPath, keyPath } = tls ?? { certPath: join(own, 'cert.pem'), keyPath: join(own, 'key.pem') };
  if (tls === null && !(await pathExists(certPath))) {
    await ensureDir(own);
    await makeSelfSigned(certPath, keyPath);
  }
  try {
    const [cert, key] = await Promise.all([readFile(certPath), readFile(keyPath)]);
    if (((await stat(keyPath)).mode & 0o077) !== 0) {
      throw new StorageError('precondition', `others can read ${keyPath}; take that away with "chmod 600"`);
    }
    return createSecureContext({ cert, key, minVersion: 'TLSv1.2' });
  } catch (cause) {
    if (cause instanceof StorageError) throw cause;
    throw new StorageError('precondition', `the certificate ${certPath} with key ${keyPath} cannot be used`, { cause });
  }
}
