import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import { lsn, MAX_LSN } from '#shared/core/lsn.js';
import type { WireSink } from '#shared/postgres/wire/server-session.js';
import { WireSession } from '#shared/postgres/wire/server-session.js';
import type { RelTag } from '../core/keyspace.js';
import { parseCommand } from './command.js';
import type { PageAddress, PageReader } from './page-reader.js';
import { relationNotFound } from './page-reader.js';
import type { PagestreamVersion } from './pagestream-codec.js';
import { PagestreamRequest } from './pagestream-codec.js';
import { Pagestream } from './pagestream.js';
import { PagestreamStats } from './pagestream-stats.js';
import { checkReadLsn, effectiveLsn } from './read-lsn.js';

const IN_FLIGHT_MAX = 8;

/** Pages carry block and LSN. Blocks in `slow` are answered when the test says so. */
class ScriptedReader implements PageReader {
  lastRecordLsn = lsn(1000);
  minReadableLsn = lsn(100);
  readonly slow = new Set<number>();
  /** How many pages were asked for with each plan. */
  readonly plans: number[] = [];
  readonly pending: Array<{ block: number; finish: (error?: unknown) => void }> = [];

  async waitLsn(target: Lsn): Promise<void> {
    throw new StorageError('unavailable', `no WAL up to ${target}`);
  }
  tryPage(_rel: RelTag, block: number, at: Lsn): Uint8Array | undefined {
    return this.slow.has(block) ? undefined : pageOf(block, at);
  }
  page(_rel: RelTag, block: number, at: Lsn): Promise<Uint8Array> {
    return new Promise((resolve, reject) => {
      this.pending.push({
        block,
        finish: (error) => (error === undefined ? resolve(pageOf(block, at)) : reject(error)),
      });
    });
  }
  async pages(wanted: readonly PageAddress[], at: Lsn): Promise<Array<Uint8Array | StorageError>> {
    this.plans.push(wanted.length);
    return Promise.all(
      wanted.map((address) =>
        this.page(address, address.block, at).catch((error: unknown) => {
          if (error instanceof StorageError) return error;
          throw error;
        }),
      ),
    );
  }
  async relSize(rel: RelTag): Promise<number | null> {
    return rel.rel === 404 ? null : rel.rel;
  }
  async dbSize(db: number): Promise<number> {
    return db * 8192;
  }
  async slruSegment(): Promise<Uint8Array | null> {
    return new Uint8Array(2 * 8192).fill(7);
  }
}

function pageOf(block: number, at: Lsn): Uint8Array {
  const page = Buffer.alloc(8192, block & 0xff);
  page.writeUInt32BE(block, 0);
  page.writeUInt32BE(at, 4);
  return page;
}

class Sink implements WireSink {
  bytes: Buffer = Buffer.alloc(0);
  ended = false;
  paused = false;
  write(bytes: Uint8Array): boolean {
    this.bytes = Buffer.concat([this.bytes, bytes]);
    return true;
  }
  cork(): void {}
  uncork(): void {}
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  end(): void {
    this.ended = true;
  }
  /** Bodies of the CopyData messages written so far. */
  takeAnswers(): Buffer[] {
    const answers: Buffer[] = [];
    for (let at = 0; at < this.bytes.length;) {
      const end = at + 1 + this.bytes.readUInt32BE(at + 1);
      if (this.bytes.toString('latin1', at, at + 1) === 'd') answers.push(this.bytes.subarray(at + 5, end));
      at = end;
    }
    this.bytes = Buffer.alloc(0);
    return answers;
  }
}

function frame(type: string, body: Buffer): Buffer {
  const header = Buffer.alloc(5);
  header.write(type, 'latin1');
  header.writeUInt32BE(4 + body.length, 1);
  return Buffer.concat([header, body]);
}

function getPage(id: number, block: number, requestLsn = MAX_LSN, notModifiedSince = lsn(0), version = 3): Buffer {
  const body = Buffer.alloc(25 + 17);
  body.writeUInt8(2, 0);
  body.writeBigUInt64BE(BigInt(id), 1);
  body.writeBigUInt64BE(requestLsn === MAX_LSN ? 0xffff_ffff_ffff_ffffn : BigInt(requestLsn), 9);
  body.writeBigUInt64BE(BigInt(notModifiedSince), 17);
  body.writeUInt32BE(1663, 25);
  body.writeUInt32BE(5, 29);
  body.writeUInt32BE(1259, 33);
  body.writeUInt32BE(block, 38);
  return frame('d', version === 3 ? body : Buffer.concat([body.subarray(0, 1), body.subarray(9)]));
}

function open(version: PagestreamVersion = 3): { reader: ScriptedReader; sink: Sink; session: WireSession } {
  const reader = new ScriptedReader();
  const sink = new Sink();
  const stats = new PagestreamStats((error) => assert.fail(String(error)));
  const session = new WireSession(sink, {
    messageBytesMax: 1000,
    parameters: {},
    query: (_text, at) =>
      at.startCopyBoth(
        new Pagestream(at, reader, { version, waitLsnTimeoutMs: 1000, inFlightMax: IN_FLIGHT_MAX }, stats),
      ),
  });
  const startup = Buffer.from('\0\0\0\x11\0\x03\0\0user\0me\0\0', 'latin1');
  session.feed(Buffer.concat([startup, frame('Q', Buffer.from('pagestream\0'))]));
  sink.bytes = Buffer.alloc(0);
  return { reader, sink, session };
}

const settle = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('pagestream', () => {
  it('answers what is in memory on the spot, echoing the request', () => {
    const { sink, session } = open();
    const request = getPage(77, 3);
    session.feed(Buffer.concat([request, getPage(78, 4)]));
    const [first, second] = sink.takeAnswers();
    assert.equal(first?.readUInt8(0), 102);
    assert.ok(first.subarray(1, 42).equals(request.subarray(6)));
    assert.ok(first.subarray(42).equals(pageOf(3, lsn(1000))));
    assert.equal(second?.readBigUInt64BE(1), 78n);
  });

  it('speaks version 2, without echo', () => {
    const { sink, session } = open(2);
    session.feed(getPage(0, 9, MAX_LSN, lsn(0), 2));
    const [answer] = sink.takeAnswers();
    assert.equal(answer?.length, 1 + 8192);
    assert.ok(answer.subarray(1).equals(pageOf(9, lsn(1000))));
  });

  it('keeps the order whatever finishes first, never has too many under way, and takes each request once', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.boolean(), { minLength: 1, maxLength: 60 }),
        fc.infiniteStream(fc.nat()),
        fc.infiniteStream(fc.integer({ min: 1, max: 200 })),
        async (slowness, choices, cuts) => {
          const { reader, sink, session } = open();
          slowness.forEach((isSlow, block) => isSlow && reader.slow.add(block));
          const input = Buffer.concat(slowness.map((_, block) => getPage(block, block)));
          const answers: Buffer[] = [];
          for (let at = 0; at < input.length;) {
            const cut = cuts.next().value as number;
            session.feed(Buffer.from(input.subarray(at, at + cut)));
            at += cut;
            answers.push(...sink.takeAnswers());
            assert.ok(reader.pending.length <= IN_FLIGHT_MAX);
          }
          await settle();
          while (reader.pending.length > 0) {
            const index = (choices.next().value as number) % reader.pending.length;
            reader.pending.splice(index, 1)[0]?.finish();
            await settle();
            answers.push(...sink.takeAnswers());
            assert.ok(reader.pending.length <= IN_FLIGHT_MAX);
          }
          assert.deepEqual(
            answers.map((answer) => [answer.readUInt8(0), answer.readUInt32BE(42)]),
            slowness.map((_, block) => [102, block]),
          );
          assert.ok(!sink.paused);
        },
      ),
      { numRuns: 150 },
    );
  });

  it('answers an error in its place and goes on', async () => {
    const { reader, sink, session } = open();
    reader.slow.add(1).add(2);
    session.feed(Buffer.concat([getPage(1, 1), getPage(2, 2), getPage(3, 3), getPage(4, 4, lsn(50))]));
    await settle();
    reader.pending.pop()?.finish(relationNotFound({ spc: 1, db: 2, rel: 3, fork: 0 }));
    reader.pending.pop()?.finish();
    await settle();
    const answers = sink.takeAnswers();
    assert.deepEqual(
      answers.map((answer) => [answer.readUInt8(0), Number(answer.readBigUInt64BE(1))]),
      [
        [102, 1],
        [103, 2],
        [102, 3],
        [103, 4],
      ],
    );
    assert.equal(answers[1]?.toString('utf8', 25), 'relation not found: 1/2/3\0');
    assert.match(answers[3]?.toString('utf8', 25) ?? '', /below the GC cutoff 0\/64/);
  });

  it('reads what comes together with one plan, but not what another LSN is asked for', async () => {
    const { reader, session } = open();
    for (let block = 1; block <= 6; block++) reader.slow.add(block);
    session.feed(Buffer.concat([getPage(1, 1), getPage(2, 2), getPage(3, 3)]));
    await settle();
    session.feed(Buffer.concat([getPage(4, 4), getPage(5, 5, lsn(500)), getPage(6, 6, lsn(500))]));
    await settle();
    assert.deepEqual(reader.plans, [3, 1, 2]);
  });

  it('reads nothing for a client that is gone', async () => {
    const { reader, session } = open();
    reader.slow.add(1);
    session.feed(getPage(1, 1));
    session.closed();
    await settle();
    assert.deepEqual(reader.plans, []);
  });

  it('closes when the timeline stops, so that the client comes again', async () => {
    const { reader, sink, session } = open();
    reader.slow.add(1);
    session.feed(getPage(1, 1));
    await settle();
    reader.pending.pop()?.finish(new StorageError('cancelled', 'stopping'));
    await settle();
    assert.ok(sink.ended);
  });

  it('ends COPY when the client does, after the last answer', async () => {
    const { reader, sink, session } = open();
    reader.slow.add(1);
    session.feed(Buffer.concat([getPage(1, 1), frame('c', Buffer.alloc(0))]));
    await settle();
    assert.equal(sink.bytes.length, 0);
    reader.pending.pop()?.finish();
    await settle();
    const written = sink.bytes.toString('latin1');
    assert.ok(written.startsWith('d') && written.endsWith('Z\0\0\0\x05I'));
  });
});

describe('pagestream request', () => {
  it('refuses any other bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
        const request = new PagestreamRequest(3);
        const wanted = [38, 38, 42, 29, 30][bytes[0] ?? 99];
        const parse = () => request.parse(Buffer.from(bytes), 0, bytes.length);
        if (bytes.length === wanted) parse();
        else assert.throws(parse, StorageError);
      }),
      { numRuns: 5000 },
    );
  });
});

describe('read position', () => {
  it('is the newest that is here and allowed', () => {
    assert.equal(effectiveLsn(MAX_LSN, lsn(500)), 500);
    assert.equal(effectiveLsn(lsn(300), lsn(500)), 300);
    assert.equal(effectiveLsn(lsn(700), lsn(500)), 500);
  });

  it('is refused for 0, below the horizon, and for a promise beyond the request', () => {
    assert.throws(() => checkReadLsn(lsn(0), lsn(0), lsn(0)), /not valid/);
    assert.throws(() => checkReadLsn(lsn(99), lsn(0), lsn(100)), /below the GC cutoff/);
    assert.throws(() => checkReadLsn(lsn(200), lsn(201), lsn(100)), /above the request/);
    // A primary that asks for the latest may know only an old position.
    checkReadLsn(MAX_LSN, lsn(1), lsn(100));
  });
});

describe('command of the libpq port', () => {
  it('is parsed strictly', () => {
    const tenant = 'ab'.repeat(16);
    const timeline = 'cd'.repeat(16);
    assert.deepEqual(parseCommand(` pagestream_v3 ${tenant}  ${timeline.toUpperCase()} ;`), {
      kind: 'pagestream',
      version: 3,
      ttid: { tenantId: tenant, timelineId: timeline },
    });
    assert.equal(parseCommand('SET client_encoding TO utf8').kind, 'set');
    for (const text of ['pagestream_v3 x y', `pagestream_v3 ${tenant}`, 'basebackup x', 'select 1', '']) {
      assert.throws(() => parseCommand(text), StorageError);
    }
  });
});
