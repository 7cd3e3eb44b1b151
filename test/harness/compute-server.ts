/** A running compute with the small interface that the oracle's loads expect of a server. */
import { execFile } from 'node:child_process';
import path from 'node:path';
import type { ClientConfig } from 'pg';
import { PG_BIN, type RunResult } from '#shared/postgres/testing/temp-cluster.js';
import type { LoadServer } from '../oracle/loads.js';

const OUTPUT_BYTES_MAX = 64 << 20;

export class ComputeServer implements LoadServer {
  private readonly url: URL;
  private readonly database: string;

  /** `database`: where statements run that name no other. */
  constructor(url: string, database = 'postgres') {
    this.url = new URL(url);
    this.database = database;
  }

  connectArgs(): string[] {
    return ['-h', this.url.hostname, '-p', this.url.port, '-U', this.url.username];
  }

  connection(database = this.database): ClientConfig {
    return { host: this.url.hostname, port: Number(this.url.port), user: this.url.username, database };
  }

  /** Rejects at the first statement that fails. */
  async psql(sql: string, database = this.database): Promise<string> {
    const args = ['-XAtq', '-v', 'ON_ERROR_STOP=1', ...this.connectArgs(), '-d', database, '-f', '-'];
    return (await this.run('psql', args, sql)).stdout.trimEnd();
  }

  run(program: string, args: readonly string[], input = ''): Promise<RunResult> {
    return new Promise((resolve, reject) => {
      const options = { maxBuffer: OUTPUT_BYTES_MAX };
      const child = execFile(path.join(PG_BIN, program), args, options, (error, stdout, stderr) => {
        if (error) reject(new Error(`${program} failed: ${stderr || error.message}`));
        else resolve({ stdout, stderr });
      });
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(input);
    });
  }
}
