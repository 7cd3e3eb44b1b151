import { strict as assert } from 'node:assert';
import fc from 'fast-check';
import { StorageError } from '#shared/core/errors.js';
import { FrontendReader } from './frontend-reader.js';
import type { CopyHandler, WireOptions, WireSink } from './server-session.js';
import { WireSession } from './server-session.js';

class RecordingSink implements WireSink {
  readonly chunks: Buffer[] = [];
  full = false;
  paused = false;
  ended = false;
  write(bytes: Uint8Array): boolean {
    this.chunks.push(Buffer.from(bytes));
    return !this.full;
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
  /** Type letters of the messages written, "N" for the refusal of encryption; empties the record. */
  types(): string {
    let all = Buffer.concat(this.chunks.splice(0));
    let types = '';
    while (all.length > 0) {
      types += all.toString('latin1', 0, 1);
      all = types.endsWith('N') && all.length === 1 ? Buffer.alloc(0) : all.subarray(1 + all.readUInt32BE(1));
    }
    return types;
  }
}

function frame(type: string, body: Buffer | string): Buffer {
  const bytes = Buffer.from(body as string);
  const out = Buffer.alloc(5 + bytes.length);
  out.write(type, 0, 'latin1');
  out.writeUInt32BE(4 + bytes.length, 1);
  bytes.copy(out, 5);
  return out;
}

function opening(code: number, body = ''): Buffer {
  const out = Buffer.alloc(8 + body.length);
  out.writeUInt32BE(out.length, 0);
  out.writeUInt32BE(code, 4);
  out.write(body, 8, 'latin1');
  return out;
}

const STARTUP = opening(0x30000, 'user\0me\0database\0db\0\0');

/** Echoes every CopyData body back as a row count in `seen`. */
class CountingCopy implements CopyHandler {
  seen: string[] = [];
  isDone = false;
  isClosed = false;
  accept = true;
  data(buffer: Buffer, start: number, end: number): boolean {
    this.seen.push(buffer.toString('latin1', start, end));
    return this.accept;
  }
  done(): void {
    this.isDone = true;
  }
  closed(): void {
    this.isClosed = true;
  }
}

function open(overrides: Partial<WireOptions> = {}): { sink: RecordingSink; session: WireSession; copy: CountingCopy } {
  const sink = new RecordingSink();
  const copy = new CountingCopy();
  const session = new WireSession(sink, {
    messageBytesMax: 1000,
    parameters: { server_version: '15.0' },
    query: (text, s) => {
      if (text === 'copy') s.startCopyBoth(copy);
      else if (text === 'rows') s.complete('SELECT 1', ['a'], [['x']]);
      else if (text === 'bad') throw new StorageError('not-found', 'no such thing');
      else if (text !== 'later') s.complete('OK');
    },
    ...overrides,
  });
  return { sink, session, copy };
}

describe('wire session', () => {
  it('refuses encryption, then starts up', () => {
    const { sink, session } = open();
    session.feed(opening(80877103));
    assert.equal(sink.types(), 'N');
    session.feed(opening(80877104));
    assert.equal(sink.types(), 'N');
    session.feed(STARTUP);
    assert.equal(sink.types(), 'RSZ');
    assert.equal(session.startup.get('user'), 'me');
  });

  it('refuses plain text smuggled in behind an encryption request', () => {
    const { sink, session } = open();
    session.feed(Buffer.concat([opening(80877103), STARTUP]));
    assert.equal(sink.types(), 'E');
    assert.ok(sink.ended);
  });

  it('answers a newer minor version with what it speaks', () => {
    const { sink, session } = open();
    session.feed(opening(0x30002, 'user\0me\0\0'));
    assert.equal(sink.types(), 'vRSZ');
  });

  it('closes on a cancel request without a word', () => {
    const { sink, session } = open();
    session.feed(opening(80877102, '12345678'));
    assert.equal(sink.types(), '');
    assert.ok(sink.ended);
  });

  it('asks for a password and checks it', () => {
    const authenticate = (_: ReadonlyMap<string, string>, password: string): void => {
      if (password !== 'secret') throw new StorageError('invalid', 'wrong password');
    };
    const good = open({ authenticate });
    good.session.feed(STARTUP);
    assert.equal(good.sink.types(), 'R');
    good.session.feed(frame('p', 'secret\0'));
    assert.equal(good.sink.types(), 'RSZ');
    const bad = open({ authenticate });
    bad.session.feed(Buffer.concat([STARTUP, frame('p', 'guess\0')]));
    assert.equal(bad.sink.types(), 'RE');
    assert.ok(bad.session.isClosed);
  });

  it('answers queries in order, also when they come in one chunk, and goes on after an error', () => {
    const { sink, session } = open();
    session.feed(
      Buffer.concat([STARTUP, frame('Q', 'rows\0'), frame('Q', 'bad\0'), frame('Q', ' ; \0'), frame('Q', 'x\0')]),
    );
    assert.equal(sink.types(), 'RSZ' + 'TDCZ' + 'EZ' + 'IZ' + 'CZ');
  });

  it('takes nothing while a query runs', () => {
    const { sink, session } = open();
    session.feed(Buffer.concat([STARTUP, frame('Q', 'later\0'), frame('Q', 'rows\0')]));
    assert.equal(sink.types(), 'RSZ');
    assert.ok(sink.paused);
    session.complete('LATER');
    assert.equal(sink.types(), 'CZTDCZ');
    assert.ok(!sink.paused);
  });

  it('refuses the extended protocol and skips to Sync', () => {
    const { sink, session } = open();
    session.feed(
      Buffer.concat([STARTUP, frame('P', '\0x\0'), frame('B', ''), frame('E', ''), frame('S', ''), frame('Q', 'x\0')]),
    );
    assert.equal(sink.types(), 'RSZ' + 'E' + 'Z' + 'CZ');
  });

  it('hands COPY data to the handler, stops when it is full, and ends in good order', () => {
    const { sink, session, copy } = open();
    session.feed(Buffer.concat([STARTUP, frame('Q', 'copy\0'), frame('d', 'one')]));
    assert.equal(sink.types(), 'RSZW');
    copy.accept = false;
    session.feed(Buffer.concat([frame('d', 'two'), frame('d', 'three')]));
    assert.deepEqual(copy.seen, ['one', 'two']);
    assert.ok(sink.paused);
    copy.accept = true;
    session.resumeCopy();
    assert.deepEqual(copy.seen, ['one', 'two', 'three']);
    session.feed(frame('c', ''));
    assert.ok(copy.isDone);
    session.endCopy('COPY');
    session.feed(frame('Q', 'x\0'));
    assert.equal(sink.types(), 'cCZ' + 'CZ');
  });

  it('stops while the sink is full', () => {
    const { sink, session, copy } = open();
    session.feed(Buffer.concat([STARTUP, frame('Q', 'copy\0')]));
    sink.full = true;
    session.write(Buffer.from('S\0\0\0\x04', 'latin1'));
    session.feed(frame('d', 'one'));
    assert.deepEqual(copy.seen, []);
    sink.full = false;
    session.drained();
    assert.deepEqual(copy.seen, ['one']);
  });

  it('tells the handler when the connection goes away', () => {
    const { session, copy } = open();
    session.feed(Buffer.concat([STARTUP, frame('Q', 'copy\0')]));
    session.closed();
    assert.ok(copy.isClosed);
    session.feed(frame('d', 'late'));
    assert.deepEqual(copy.seen, []);
  });

  it('gives the same answers however the bytes are cut', () => {
    const conversation = Buffer.concat([
      STARTUP,
      frame('Q', 'rows\0'),
      frame('Q', 'copy\0'),
      ...Array.from({ length: 20 }, (_, i) => frame('d', `data ${i}`)),
    ]);
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (sizes) => {
        const { sink, session, copy } = open();
        for (let at = 0, i = 0; at < conversation.length; i++) {
          const size = sizes[i % sizes.length] ?? 1;
          session.feed(Buffer.from(conversation.subarray(at, at + size)));
          at += size;
        }
        assert.equal(sink.types(), 'RSZTDCZW');
        assert.equal(copy.seen.length, 20);
      }),
    );
  });

  it('refuses lengths out of bounds at once, without waiting for the bytes', () => {
    for (const length of [0, 3, 2000, 0x7fffffff, 0xffffffff]) {
      const { sink, session } = open();
      const bad = frame('Q', '');
      bad.writeUInt32BE(length, 1);
      session.feed(Buffer.concat([STARTUP, bad]));
      assert.equal(sink.types(), 'RSZE', `length ${length}`);
      assert.ok(session.isClosed);
    }
    for (const length of [0, 7, 10_001, 0x7fffffff]) {
      const { sink, session } = open();
      const bad = Buffer.alloc(4);
      bad.writeUInt32BE(length, 0);
      session.feed(bad);
      assert.equal(sink.types(), 'E', `length ${length}`);
    }
  });

  it('survives any bytes at any point', () => {
    const prefixes = [Buffer.alloc(0), STARTUP, Buffer.concat([STARTUP, frame('Q', 'copy\0')])];
    fc.assert(
      fc.property(fc.constantFrom(...prefixes), fc.array(fc.uint8Array({ maxLength: 60 })), (prefix, chunks) => {
        const { session } = open();
        session.feed(Buffer.from(prefix));
        for (const chunk of chunks) session.feed(Buffer.from(chunk));
      }),
      { numRuns: 2000 },
    );
  });
});

describe('frontend reader', () => {
  it('never keeps more than one message and one chunk', () => {
    const reader = new FrontendReader(100);
    reader.endStartup();
    for (let i = 0; i < 100; i++) {
      reader.push(frame('d', 'x'.repeat(100)).subarray(0, 60));
      reader.push(frame('d', 'x'.repeat(100)).subarray(60));
      assert.ok(reader.next());
      assert.ok(!reader.next());
      assert.equal(reader.bufferedBytes, 0);
    }
  });
});
