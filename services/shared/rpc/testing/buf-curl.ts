/** A foreign gRPC client that knows nothing but an address: `buf curl`, by reflection. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const BUF = fileURLToPath(import.meta.resolve('@bufbuild/buf/bin/buf'));

/** Arguments of `buf curl`; returns what it prints. Rejects with its words when it fails. */
export async function bufCurl(...args: string[]): Promise<string> {
  const command = [BUF, 'curl', '--protocol', 'grpc', '--http2-prior-knowledge', ...args];
  const { stdout } = await promisify(execFile)(process.execPath, command);
  return stdout.trim();
}
