/**
 * Runs the walproposer core: connections to the safekeepers with reconnects, the clock, and the WAL source. Inputs are taken one at a
 * time; effects are performed in order before the next input.
 */
import { errorText } from '#shared/core/errors.js';
import type { StorageError } from '#shared/core/errors.js';
import type { Lsn } from '#shared/core/lsn.js';
import type { Logger } from '#shared/runtime/log.js';
import type { Membership, PageserverFeedback, StandbyFeedback } from '../core/messages.js';
import type { PeerIndex } from '../core/peer.js';
import { WalProposer } from '../core/walproposer.js';
import type { Effect, Input, ProposerConfig } from '../core/walproposer.js';
import { ProposerEncoder } from '../rpc/proposer-encoder.js';
import { SafekeeperConnection } from './safekeeper-connection.js';
import { WalSource } from './wal-source.js';

const RECONNECT_MIN_MS = 100;
const RECONNECT_MAX_MS = 1_000;
/** An election counts in milliseconds; a leader only looks for silence. */
const ELECTION_TICK_MS = 20;
const LEADER_TICK_MS = 200;
/** For the news of a commit to go with the next WAL; the page server gets the WAL of a lone commit that much later. */
const COMMIT_NEWS_MS = 2;

export interface ProposerEvents {
  /** A new timeline: answer by `setStartLsn`. */
  onNeedStartLsn(): void;
  /** May come again with another position before `onRecovered`, when the safekeeper with the newest WAL was lost. */
  onElected(term: number, startLsn: Lsn): void;
  onRecovered(lsn: Lsn): void;
  onCommitted(lsn: Lsn): void;
  onFeedback(feedback: PageserverFeedback): void;
  onStandbyFeedback(feedback: StandbyFeedback): void;
  onFenced(message: string): void;
}

export interface RunnerOptions {
  readonly proposer: ProposerConfig;
  /** host:port of each safekeeper. */
  readonly addrs: readonly string[];
  readonly windowBytes: number;
  readonly log: Logger;
  readonly events: ProposerEvents;
}

interface Link {
  readonly addr: string;
  /** It left the configuration. */
  dropped: boolean;
  connection: SafekeeperConnection | null;
  reconnectTimer: NodeJS.Timeout | null;
  failures: number;
}

export class ProposerRunner {
  readonly proposer: WalProposer;
  readonly source: WalSource;
  private readonly options: RunnerOptions;
  private readonly log: Logger;
  private readonly links: Link[];
  private readonly encoder = new ProposerEncoder();
  private readonly queue: Input[] = [];
  private stepping = false;
  private closed = false;
  private ticker: NodeJS.Timeout | null = null;
  private newsTimer: NodeJS.Timeout | null = null;

  constructor(options: RunnerOptions) {
    this.options = options;
    this.log = options.log;
    this.proposer = new WalProposer({ ...options.proposer, addrs: options.addrs });
    this.links = options.addrs.map(newLink);
    this.source = new WalSource({
      ttid: options.proposer.ttid,
      windowBytes: options.windowBytes,
      term: () => this.proposer.term,
      donorsAt: (fromLsn, served) => {
        const donors = this.proposer.donorsAt(fromLsn).filter((donor) => donor.index !== served);
        return donors.map((donor) => ({ addr: this.addr(donor.index), flushLsn: donor.flushLsn }));
      },
    });
  }

  start(): void {
    this.links.forEach((_, peer) => this.connect(peer));
    this.scheduleTick();
  }

  private scheduleTick(): void {
    const delayMs = this.proposer.phase === 'leading' ? LEADER_TICK_MS : ELECTION_TICK_MS;
    this.ticker = setTimeout(() => {
      this.take({ kind: 'tick' });
      if (!this.closed) this.scheduleTick();
    }, delayMs);
  }

  setStartLsn(lsn: Lsn): void {
    this.take({ kind: 'start-lsn', lsn });
  }

  /** The control plane's word about who votes; ignored when it is not newer. */
  setMembership(membership: Membership): void {
    this.take({ kind: 'membership', membership });
  }

  /** WAL from Postgres; copied before this returns. */
  feed(beginLsn: Lsn, bytes: Uint8Array): void {
    this.source.append(beginLsn, bytes);
    this.take({ kind: 'wal-available', endLsn: (beginLsn + bytes.length) as Lsn });
  }

  /** Ends all connections; nothing is told to anybody any more. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    if (this.ticker !== null) clearTimeout(this.ticker);
    if (this.newsTimer !== null) clearTimeout(this.newsTimer);
    for (const link of this.links) {
      if (link.reconnectTimer !== null) clearTimeout(link.reconnectTimer);
      link.connection?.close('the walproposer ends');
    }
    this.source.close();
  }

  /** host:port of each safekeeper, by its number. */
  get addrs(): readonly string[] {
    return this.links.map(({ addr }) => addr);
  }

  private addr(peer: PeerIndex): string {
    return this.links[peer]?.addr ?? '';
  }

  private link(peer: PeerIndex): Link {
    return this.links[peer] as Link;
  }

  private connect(peer: PeerIndex): void {
    const link = this.link(peer);
    link.reconnectTimer = null;
    link.connection = new SafekeeperConnection(this.addr(peer), this.encoder, {
      onMessage: (message) => {
        link.failures = 0;
        this.take({ kind: 'message', peer, message });
      },
      onClosed: (error) => this.onClosed(peer, error),
    });
    this.take({ kind: 'connected', peer });
  }

  private onClosed(peer: PeerIndex, error: StorageError): void {
    const link = this.link(peer);
    link.connection = null;
    this.source.forget(peer);
    if (this.closed) return;
    const level = link.failures === 0 || link.failures % 30 === 0 ? 'warn' : 'debug';
    this.log[level](
      { safekeeper: this.addr(peer), reason: errorText(error), attempt: link.failures + 1 },
      'no connection to safekeeper',
    );
    const delayMs = Math.min(RECONNECT_MAX_MS, RECONNECT_MIN_MS * 2 ** Math.min(link.failures, 10));
    link.failures += 1;
    if (!link.dropped) link.reconnectTimer = setTimeout(() => this.connect(peer), delayMs);
    this.take({ kind: 'disconnected', peer });
  }

  private take(input: Input): void {
    if (this.closed) return;
    this.queue.push(input);
    if (this.stepping) return;
    this.stepping = true;
    try {
      for (let next = this.queue.shift(); next !== undefined && !this.closed; next = this.queue.shift()) {
        for (const effect of this.proposer.step(next, performance.now())) this.perform(effect);
      }
    } finally {
      this.stepping = false;
    }
    if (this.newsTimer === null && !this.closed && this.proposer.owesCommit) {
      this.newsTimer = setTimeout(() => {
        this.newsTimer = null;
        this.take({ kind: 'tick' });
      }, COMMIT_NEWS_MS);
    }
  }

  private perform(effect: Effect): void {
    const { events } = this.options;
    switch (effect.kind) {
      case 'send':
        this.link(effect.peer).connection?.send(effect.message);
        break;
      case 'read-wal':
        this.link(effect.peer).connection?.whenWritable(() => this.readWal(effect));
        break;
      case 'reset':
        this.link(effect.peer).connection?.close(effect.reason);
        break;
      case 'connect':
        this.join(effect.peer, effect.addr);
        break;
      case 'drop':
        this.drop(effect.peer);
        break;
      case 'need-start-lsn':
        events.onNeedStartLsn();
        break;
      case 'elected':
        events.onElected(effect.term, effect.startLsn);
        break;
      case 'recovered':
        events.onRecovered(effect.lsn);
        break;
      case 'committed':
        events.onCommitted(effect.lsn);
        break;
      case 'feedback':
        events.onFeedback(effect.feedback);
        break;
      case 'standby-feedback':
        events.onStandbyFeedback(effect.feedback);
        break;
      case 'fenced':
        events.onFenced(effect.message);
        break;
      case 'note':
        this.log[effect.level](
          { ...(effect.peer === undefined ? {} : { safekeeper: this.addr(effect.peer) }) },
          effect.text,
        );
        break;
    }
  }

  private join(peer: PeerIndex, addr: string): void {
    const link = this.links[peer] ?? newLink(addr);
    this.links[peer] = link;
    link.dropped = false;
    if (link.connection === null && link.reconnectTimer === null) this.connect(peer);
  }

  private drop(peer: PeerIndex): void {
    const link = this.link(peer);
    link.dropped = true;
    if (link.reconnectTimer !== null) clearTimeout(link.reconnectTimer);
    link.reconnectTimer = null;
    link.connection?.close('it left the membership');
  }

  private readWal(effect: Extract<Effect, { kind: 'read-wal' }>): void {
    const { peer, epoch, fromLsn, endLsn } = effect;
    const bytes = this.source.readNow(fromLsn, endLsn);
    if (bytes !== null) {
      this.take({ kind: 'wal-read', peer, epoch, beginLsn: fromLsn, bytes });
      return;
    }
    const connection = this.link(peer).connection;
    this.source.read(peer, fromLsn, endLsn).then(
      (read) => this.take({ kind: 'wal-read', peer, epoch, beginLsn: fromLsn, bytes: read }),
      (error: unknown) => {
        if (this.link(peer).connection === connection) connection?.close(`could not read its WAL: ${errorText(error)}`);
      },
    );
  }
}

function newLink(addr: string): Link {
  return { addr, dropped: false, connection: null, reconnectTimer: null, failures: 0 };
}
