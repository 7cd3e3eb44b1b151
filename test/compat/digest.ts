/**
 * What a database of any size holds, as one number to compare: pg_dump read as a stream, never held. Statements count in their order;
 * the rows of each COPY as a set with repetitions, since the order of rows follows where free space was known.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { PG_BIN } from '#shared/postgres/testing/temp-cluster.js';

const WORD = 1n << 64n;
/** So many numbers below 2^32 add up to less than 2^53. */
const SUMMANDS_MAX = 1 << 20;

export interface Digest {
  readonly text: string;
  readonly rows: number;
  readonly bytes: number;
}

/** The sum of 64 bit hashes of rows, modulo 2^64. Their halves are added up as numbers, which is exact, and folded now and then. */
class RowSet {
  private sum = 0n;
  private pending = 0;
  private high = 0;
  private low = 0;

  add(line: string): void {
    const hash = createHash('md5').update(line).digest();
    this.high += hash.readUInt32LE(0);
    this.low += hash.readUInt32LE(4);
    this.pending += 1;
    if (this.pending === SUMMANDS_MAX) this.fold();
  }

  value(): string {
    this.fold();
    return this.sum.toString(16);
  }

  private fold(): void {
    this.sum = (this.sum + (BigInt(this.high) << 32n) + BigInt(this.low)) % WORD;
    this.high = this.low = this.pending = 0;
  }
}

/** Digest of a dump given line by line. */
export class DumpDigest {
  private readonly statements = createHash('sha256');
  private set: RowSet | null = null;
  private rows = 0;
  private bytes = 0;

  line(line: string): void {
    this.bytes += line.length + 1;
    if (this.set !== null) {
      if (line === '\\.') {
        this.statements.update(`${this.set.value()}\n`);
        this.set = null;
      } else {
        this.set.add(line);
        this.rows += 1;
      }
      return;
    }
    // Random tokens around the output, since the 2025 minor releases.
    if (/^\\(un)?restrict /.test(line)) return;
    this.statements.update(`${line}\n`);
    if (/^COPY .* FROM stdin;$/.test(line)) this.set = new RowSet();
  }

  end(): Digest {
    return { text: this.statements.digest('hex').slice(0, 16), rows: this.rows, bytes: this.bytes };
  }
}

export async function digestDatabase(url: string): Promise<Digest> {
  const child = spawn(join(PG_BIN, 'pg_dump'), ['--no-owner', '-d', url], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(child, 'exit');
  const digest = new DumpDigest();
  // Every byte is a character: rows are compared, not read.
  child.stdout.setEncoding('latin1');
  for await (const line of createInterface({ input: child.stdout, crlfDelay: Infinity })) digest.line(line);
  const [code] = (await ended) as [number | null];
  if (code !== 0) throw new Error(`pg_dump ended with code ${code}`);
  return digest.end();
}
