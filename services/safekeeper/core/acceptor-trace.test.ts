/**
 * Golden traces of the acceptor: testdata/*.txt hold commands, `----`, and what came of them. REWRITE=1 writes what came.
 *
 *   new [start=N]                                   a fresh acceptor; with `start` its timeline was created before
 *   restart end=N                                   built anew from its control file, with WAL up to N on disk
 *   greet C [gen=N] [pg=N] [members=1,2]            C is a connection
 *   vote C term=N [gen=N]
 *   elected C term=N start=N history=1@100,2@200
 *   append C term=N at=N [records=4,5] [cut=N] [commit=N] [truncate=N] [damage]
 *   flush | announce | checkpoint | disconnect C | feedback remote=N
 *   backup at=N | remove keep=N lag=N | evict | resident | bump term=N | members gen=N members=1,2 [new=3,4]
 *   partials list=uploaded/TERM/FLUSH/COMMIT,...
 *   peer last=N commit=N [horizon=N] [backup=N] [remote=N]
 * `records` are lengths of toy records; `cut` sends only so many of their bytes, `rest` sends what a cut left.
 */
import { strict as assert } from 'node:assert';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { StorageError } from '#shared/core/errors.js';
import { parseTenantId, parseTimelineId } from '#shared/core/ids.js';
import { lsn, MAX_LSN, type Lsn } from '#shared/core/lsn.js';
import type { TermHistory } from '#shared/consensus/term-history.js';
import { ToyDecoder, toyRecord } from '../testing/toy-wal.js';
import { createAcceptor, step } from './acceptor.js';
import type {
  AcceptorEffect,
  AcceptorInput,
  AcceptorReply,
  AcceptorState,
  ControlState,
  Member,
  PartialObject,
} from './acceptor-types.js';
import { newControlState } from './control-state.js';

const DIR = path.join(import.meta.dirname, 'testdata');
const SEG_SIZE = 1 << 20;

class Trace {
  private state: AcceptorState = this.boot(this.fresh(0), lsn(0));
  private control: ControlState = this.state.control;
  private rest: Uint8Array = new Uint8Array(0);

  run(line: string): string[] {
    const [command = '', ...words] = line.split(' ');
    const args = new Map(words.map((word) => word.split('=') as [string, string?]).map(([k, v]) => [k, v ?? '']));
    const number = (name: string): number => Number(args.get(name) ?? 0);
    if (command === 'new') {
      this.control = this.fresh(number('start'));
      this.state = this.boot(this.control, lsn(number('start')));
      return [this.summary()];
    }
    if (command === 'restart') {
      this.state = this.boot(this.control, lsn(number('end')));
      return [this.summary()];
    }
    try {
      const effects = step(this.state, this.input(command, args, number));
      for (const effect of effects) if (effect.kind === 'persist') this.control = effect.control;
      return [...effects.map(showEffect), this.summary()];
    } catch (error) {
      if (!(error instanceof StorageError)) throw error;
      return [`refused (${error.kind}): ${error.message}`, this.summary()];
    }
  }

  private fresh(start: number): ControlState {
    return newControlState({
      ttid: { tenantId: parseTenantId('1'.repeat(32)), timelineId: parseTimelineId('2'.repeat(32)) },
      startLsn: lsn(start),
      pgVersion: 0,
      systemId: 0n,
      segSize: SEG_SIZE,
      membership: { generation: 0, members: [], newMembers: [] },
      nowMs: 0,
    });
  }

  private boot(control: ControlState, flushLsn: Lsn): AcceptorState {
    return createAcceptor({ nodeId: 1, control, flushLsn, makeDecoder: (at) => new ToyDecoder(at) });
  }

  private input(command: string, args: Map<string, string>, number: (name: string) => number): AcceptorInput {
    const connection = Number([...args.keys()][0]?.replace('c', ''));
    const generation = number('gen');
    const term = number('term');
    switch (command) {
      case 'greet': {
        const { ttid } = this.state.control;
        const membership = { generation, members: parseMembers(args.get('members')), newMembers: [] };
        const pgVersion = number('pg') === 0 ? 150018 : number('pg');
        return { kind: 'greeting', connection, ttid, membership, pgVersion, systemId: 7n, segSize: SEG_SIZE };
      }
      case 'vote':
        return { kind: 'vote', connection, generation, term };
      case 'elected': {
        const history = parseHistory(args.get('history') ?? '');
        return { kind: 'elected', connection, generation, term, startStreamingAt: lsn(number('start')), history };
      }
      case 'append': {
        const positions = { commitLsn: lsn(number('commit')), truncateLsn: lsn(number('truncate')) };
        const bytes = this.bytes(args);
        return { kind: 'append', connection, generation, term, beginLsn: lsn(number('at')), ...positions, bytes };
      }
      case 'peer':
        return {
          kind: 'peer-info',
          lastLogTerm: number('last'),
          commitLsn: lsn(number('commit')),
          backupLsn: lsn(number('backup')),
          peerHorizonLsn: lsn(number('horizon')),
          remoteConsistentLsn: lsn(number('remote')),
        };
      case 'feedback':
        return { kind: 'feedback', remoteConsistentLsn: lsn(number('remote')) };
      case 'disconnect':
        return { kind: 'disconnect', connection };
      case 'backup':
        return { kind: 'backup', backupLsn: lsn(number('at')) };
      case 'remove':
        return {
          kind: 'remove-wal',
          keepFrom: args.has('keep') ? lsn(number('keep')) : MAX_LSN,
          lagBytesMax: number('lag'),
        };
      case 'members': {
        const [members, newMembers] = [parseMembers(args.get('members')), parseMembers(args.get('new'))];
        return { kind: 'membership', membership: { generation, members, newMembers } };
      }
      case 'bump':
        return { kind: 'bump-term', term };
      case 'partials':
        return { kind: 'partials', partials: parsePartials(args.get('list') ?? '') };
      case 'evict':
      case 'resident':
        return { kind: command };
      case 'flush':
      case 'announce':
      case 'checkpoint':
        return { kind: command };
      default:
        throw new Error(`unknown command ${command}`);
    }
  }

  private bytes(args: Map<string, string>): Uint8Array {
    if (args.has('rest')) return this.rest;
    const lengths = args.get('records')?.split(',').map(Number) ?? [];
    const whole = Buffer.concat(lengths.map((length) => toyRecord(length, 7)));
    const cut = args.has('cut') ? Number(args.get('cut')) : whole.length;
    this.rest = whole.subarray(cut);
    if (args.has('damage')) whole[cut - 1] = (whole[cut - 1] ?? 0) ^ 1;
    return whole.subarray(0, cut);
  }

  private summary(): string {
    const { control, writeLsn, writeRecordLsn, flushLsn, decoder } = this.state;
    const horizon = control.peerHorizonLsn === 0 ? '' : ` horizon=${control.peerHorizonLsn}`;
    const may = decoder === null ? ' (cut first)' : '';
    return `  term=${control.term} write=${writeLsn}/${writeRecordLsn} flush=${flushLsn} commit=${control.commitLsn}${horizon}${may}`;
  }
}

function parseMembers(text: string | undefined): Member[] {
  return (text?.split(',') ?? []).map((id) => ({ nodeId: Number(id), grpcAddr: `sk${id}` }));
}

function parsePartials(text: string): PartialObject[] {
  return text.split(',').map((one) => {
    const [status, term, flush, commit] = one.split('/');
    const positions = { flushLsn: lsn(Number(flush)), commitLsn: lsn(Number(commit)) };
    return { status: status as PartialObject['status'], term: Number(term), ...positions };
  });
}

function parseHistory(text: string): TermHistory {
  return text
    .split(',')
    .filter((entry) => entry !== '')
    .map((entry) => ({ term: Number(entry.split('@')[0]), lsn: lsn(Number(entry.split('@')[1])) }));
}

function showHistory(history: TermHistory): string {
  return `[${history.map((entry) => `${entry.term}@${entry.lsn}`).join(' ')}]`;
}

function showEffect(effect: AcceptorEffect): string {
  switch (effect.kind) {
    case 'persist': {
      const { term, history, commitLsn, membership, evictedLsn } = effect.control;
      const evicted = evictedLsn === 0 ? '' : ` evicted=${evictedLsn}`;
      return `persist term=${term} history=${showHistory(history)} commit=${commitLsn} gen=${membership.generation}${evicted}`;
    }
    case 'start-wal':
      return `start-wal ${effect.at}`;
    case 'truncate-wal':
      return `truncate-wal ${effect.to}`;
    case 'write-wal':
      return `write-wal ${effect.at}+${effect.bytes.length}`;
    case 'flush-wal':
      return 'flush-wal';
    case 'remove-wal':
      return `remove-wal below ${effect.below === MAX_LSN ? 'everything' : effect.below}`;
    case 'reply':
      return `c${effect.connection} <- ${showReply(effect.reply)}`;
  }
}

function showReply(reply: AcceptorReply): string {
  switch (reply.kind) {
    case 'greeting':
      return `greeting term=${reply.term} gen=${reply.membership.generation}`;
    case 'vote':
      return `vote term=${reply.term} given=${reply.voteGiven} flush=${reply.flushLsn} history=${showHistory(reply.history)}`;
    case 'append':
      return `append term=${reply.term} flush=${reply.flushLsn} commit=${reply.commitLsn}`;
  }
}

describe('acceptor traces', () => {
  for (const name of readdirSync(DIR).sort()) {
    it(name, () => {
      const file = path.join(DIR, name);
      const text = readFileSync(file, 'utf8');
      const trace = new Trace();
      const out = text
        .trimEnd()
        .split(/\n\n+/)
        .map((block) => {
          const input = (block.split('\n----')[0] ?? '').split('\n');
          const commands = input.filter((line) => line !== '' && !line.startsWith('#'));
          return `${input.join('\n')}\n----\n${commands.flatMap((line) => trace.run(line)).join('\n')}`;
        })
        .join('\n\n');
      if (process.env['REWRITE'] === '1') writeFileSync(file, `${out}\n`);
      else assert.equal(`${out}\n`, text);
    });
  }
});
