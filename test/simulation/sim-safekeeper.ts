/**
 * A simulated safekeeper: the production acceptor on a simulated disk and control file. It crashes between any two effects, and keeps
 * account of what it told others, which no crash may take back.
 */
import { strict as assert } from 'node:assert';
import { StorageError } from '#shared/core/errors.js';
import { lsn } from '#shared/core/lsn.js';
import { segmentStart } from '#shared/postgres/wal-layout.js';
import { createAcceptor, step } from '../../services/safekeeper/core/acceptor.js';
import type {
  AcceptorEffect,
  AcceptorInput,
  AcceptorReply,
  AcceptorState,
  ControlState,
} from '../../services/safekeeper/core/acceptor-types.js';
import type { Connection } from './network.js';
import { SimDisk } from './sim-disk.js';
import { lastRecordEnd, SEG_SIZE, ToyDecoder } from './toy-wal.js';
import type { World } from './world.js';

class Crash extends Error {}

export class SimSafekeeper {
  readonly index: number;
  /** Null while it is down. */
  state: AcceptorState | null = null;
  disk = new SimDisk();
  /** The timeline is here. */
  isPresent = true;
  /** The control file. */
  private control: ControlState;
  private readonly world: World;
  /** Highest term told to anybody, or acted in. */
  private toldTerm = 0;
  /** Highest flush position told, of the log as it is since the last truncation. */
  private toldFlushLsn = 0;
  /** As far as the control file must follow: see isControlFileStale. */
  private commitLsnBeforeCrash = 0;
  private termStartReached = 0;

  /** `isPresent`: false for one that gets the timeline later, if at all. */
  constructor(world: World, index: number, control: ControlState, isPresent: boolean) {
    this.world = world;
    this.index = index;
    this.control = control;
    this.isPresent = isPresent;
    if (!isPresent) return;
    if (control.timelineStartLsn !== 0) this.disk.start(control.timelineStartLsn);
    this.restart();
  }

  get isUp(): boolean {
    return this.state !== null;
  }

  /** It will come back by `restart`. */
  get isDown(): boolean {
    return this.isPresent && this.state === null;
  }

  /** Gets the timeline as another one has it. */
  install(control: ControlState, source: SimDisk, flushLsn: number): void {
    this.disk = new SimDisk();
    const needed = Math.min(control.remoteConsistentLsn, control.backupLsn, control.commitLsn);
    this.disk.copy(source, Math.max(source.removedBelow, segmentStart(lsn(needed), SEG_SIZE)), flushLsn);
    this.control = control;
    this.isPresent = true;
    this.toldTerm = 0;
    this.toldFlushLsn = 0;
    this.commitLsnBeforeCrash = control.commitLsn;
    this.termStartReached = 0;
    this.restart();
  }

  /** Loses the timeline for good: it is no member any more. */
  leave(): void {
    if (!this.isPresent) return;
    this.isPresent = false;
    this.state = null;
    this.world.network.lostSafekeeper(this);
    this.disk = new SimDisk();
    this.world.checker.committedIsKept(`leave of safekeeper ${this.index}`);
  }

  restart(): void {
    const { control } = this;
    const isThere = this.disk.removedBelow <= control.commitLsn;
    assert.ok(isThere, `safekeeper ${this.index} removed WAL that its start needs, of ${control.commitLsn}`);
    const end =
      control.timelineStartLsn === 0 ? 0 : lastRecordEnd(this.disk.bytes, control.commitLsn, this.disk.bytes.length);
    const makeDecoder = (at: number): ToyDecoder => new ToyDecoder(lsn(at));
    const state = createAcceptor({ nodeId: this.index + 1, control, flushLsn: lsn(end), makeDecoder });
    const name = `safekeeper ${this.index}`;
    assert.ok(control.term >= this.toldTerm, `${name} forgot term ${this.toldTerm}, has ${control.term}`);
    assert.ok(end >= this.toldFlushLsn, `${name} lost WAL it acknowledged: ${this.toldFlushLsn}, has ${end}`);
    const behind = this.commitLsnBeforeCrash - control.commitLsn;
    assert.ok(
      behind < control.segSize && control.commitLsn >= this.termStartReached,
      `${name} forgot its commit position ${this.commitLsnBeforeCrash}, has ${control.commitLsn}`,
    );
    this.commitLsnBeforeCrash = control.commitLsn;
    this.state = state;
    this.world.checker.safekeeper(this);
  }

  /** Loses power. */
  crash(): void {
    this.world.note('power lost', this.index);
    this.world.counts.crashes += 1;
    this.disk.losePower(this.world.random);
    this.state = null;
    this.world.network.lostSafekeeper(this);
    this.world.checker.committedIsKept(`crash of safekeeper ${this.index}`);
  }

  /** Takes one input; a broken rule ends the connection, as in the real shell. Damage is never excused. */
  take(input: AcceptorInput, connection: Connection | null): void {
    const { state } = this;
    if (state === null) return;
    let effects: AcceptorEffect[];
    try {
      effects = this.world.fault?.acceptorStep?.(state, input, step) ?? step(state, input);
    } catch (error) {
      if (connection === null || !(error instanceof StorageError) || error.kind === 'corrupt') throw error;
      this.world.counts.refusals += 1;
      this.world.network.closeAtSafekeeper(connection);
      return;
    }
    try {
      for (const effect of effects) this.perform(effect, effects.length > 1);
    } catch (error) {
      if (!(error instanceof Crash)) throw error;
      this.crash();
      return;
    }
    if (effects.length > 0) this.afterStep(state);
  }

  private afterStep({ control }: AcceptorState): void {
    this.toldTerm = Math.max(this.toldTerm, control.term);
    this.commitLsnBeforeCrash = control.commitLsn;
    const termStart = control.history.at(-1)?.lsn ?? 0;
    if (control.commitLsn >= termStart) this.termStartReached = Math.max(this.termStartReached, termStart);
    this.world.checker.safekeeper(this);
  }

  private perform(effect: AcceptorEffect, isOneOfMany: boolean): void {
    const { crashOdds } = this.world;
    // Between effects of one step a crash does most harm.
    if (crashOdds > 0 && this.world.random(isOneOfMany ? crashOdds : 8 * crashOdds) === 0) throw new Crash();
    switch (effect.kind) {
      case 'persist':
        this.control = effect.control;
        break;
      case 'start-wal':
        this.disk.start(effect.at);
        break;
      case 'truncate-wal':
        if (lastRecordEnd(this.disk.bytes, effect.to, this.disk.bytes.length) > effect.to) this.world.counts.cuts += 1;
        this.toldFlushLsn = Math.min(this.toldFlushLsn, effect.to);
        this.disk.truncate(effect.to);
        this.world.checker.committedIsKept(`truncation of safekeeper ${this.index}`);
        break;
      case 'write-wal':
        this.disk.write(effect.at, effect.bytes);
        break;
      case 'flush-wal':
        this.disk.sync();
        break;
      case 'remove-wal':
        this.world.checker.removed(this, effect.below);
        assert.ok(
          effect.below <= this.control.commitLsn,
          `safekeeper ${this.index} removes WAL below ${effect.below}, a start needs it from ${this.control.commitLsn} on`,
        );
        this.disk.remove(effect.below);
        break;
      case 'reply':
        this.tell(effect.reply);
        this.world.network.reply(effect.connection, effect.reply);
        break;
    }
  }

  private tell(reply: AcceptorReply): void {
    assert.ok(reply.term >= this.toldTerm, `safekeeper ${this.index} went from term ${this.toldTerm} to ${reply.term}`);
    this.toldTerm = reply.term;
    if (reply.kind === 'greeting' || reply.flushLsn === 0) return;
    const { flushLsn } = reply;
    assert.ok(flushLsn >= this.toldFlushLsn, `safekeeper ${this.index} took back ${this.toldFlushLsn}: ${flushLsn}`);
    this.toldFlushLsn = flushLsn;
  }
}
