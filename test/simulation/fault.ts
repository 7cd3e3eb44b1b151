/**
 * Where a fault can be planted: around the step of the acceptor, around the messages that a walproposer is given, and in a walproposer
 * that was just made. Production code has no switches; planted-faults.ts has the faults.
 */
import type { AcceptorEffect, AcceptorInput, AcceptorState } from '../../services/safekeeper/core/acceptor-types.js';
import type { AcceptorMessage } from '../../services/compute-ctl/core/messages.js';
import type { Configuration, Member, MembershipChange } from '../../services/neon-local/core/membership-change.js';
import type { WalProposer } from '../../services/compute-ctl/core/walproposer.js';

export type AcceptorStep = (state: AcceptorState, input: AcceptorInput) => AcceptorEffect[];

export interface Fault {
  readonly name: string;
  /** What it breaks. */
  readonly about: string;
  /** Why nothing can go wrong by it. Absent: it must be noticed. */
  readonly harmless?: string;
  /** Stands in for the acceptor's step; `step` is the real one. */
  readonly acceptorStep?: (state: AcceptorState, input: AcceptorInput, step: AcceptorStep) => AcceptorEffect[];
  /** Null: the message is swallowed. */
  readonly toProposer?: (proposer: WalProposer, message: AcceptorMessage) => AcceptorMessage | null;
  readonly makeProposer?: (proposer: WalProposer) => void;
  /** Stands in for the start of a membership change. */
  readonly startChange?: (from: Configuration, newMembers: readonly Member[]) => MembershipChange;
}
