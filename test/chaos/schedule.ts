/** What is done to a stack, and when. Follows from the seed alone. Pure. */
import { Random } from './random.js';

export type Fault =
  /** SIGKILL; the stack starts them again. Two of three is a majority, for as long as that takes. */
  | { readonly kind: 'kill-safekeepers'; readonly ids: readonly number[] }
  | { readonly kind: 'pause-safekeepers'; readonly ids: readonly number[]; readonly forMs: number }
  | { readonly kind: 'kill-pageserver' }
  | { readonly kind: 'pause-pageserver'; readonly forMs: number }
  | { readonly kind: 'kill-broker' }
  /** SIGKILL of compute_ctl: Postgres goes with it; the stack starts it again, on an empty directory. */
  | { readonly kind: 'kill-compute' }
  | { readonly kind: 'kill-postgres' }
  /** SIGSTOP of compute_ctl: Postgres goes on, no commit returns. */
  | { readonly kind: 'pause-compute'; readonly forMs: number }
  /** Stopped at once and started anew. */
  | { readonly kind: 'replace-compute' }
  /** Stopped with a checkpoint and started anew. */
  | { readonly kind: 'restart-compute' }
  /** The compute is held by SIGSTOP; another one takes the timeline over and commits; the first one wakes up. */
  | { readonly kind: 'take-over'; readonly wakeAfterMs: number }
  /** The compute is stopped; two others are started, `gapMs` apart, on the same timeline. */
  | { readonly kind: 'duel'; readonly gapMs: number };

export interface Step {
  /** Since the fault before. */
  readonly afterMs: number;
  readonly fault: Fault;
}

const SAFEKEEPERS = 3;
const PAUSE_MS_MAX = 2_500;

type FaultMaker = (random: Random) => Fault;
const forMs = (random: Random): number => random.int(200, PAUSE_MS_MAX);

/** Each as often as it stands here. */
const FAULTS: readonly [FaultMaker, ...FaultMaker[]] = [
  (random) => ({ kind: 'kill-safekeepers', ids: random.sample(1, SAFEKEEPERS) }),
  (random) => ({ kind: 'kill-safekeepers', ids: random.sample(1, SAFEKEEPERS) }),
  (random) => ({ kind: 'kill-safekeepers', ids: random.sample(random.int(2, 3), SAFEKEEPERS) }),
  (random) => ({ kind: 'pause-safekeepers', ids: random.sample(1, SAFEKEEPERS), forMs: forMs(random) }),
  (random) => ({ kind: 'pause-safekeepers', ids: random.sample(random.int(2, 3), SAFEKEEPERS), forMs: forMs(random) }),
  (random) => ({ kind: 'pause-safekeepers', ids: random.sample(1, SAFEKEEPERS), forMs: random.int(5_000, 20_000) }),
  () => ({ kind: 'kill-pageserver' }),
  () => ({ kind: 'kill-pageserver' }),
  (random) => ({ kind: 'pause-pageserver', forMs: forMs(random) }),
  () => ({ kind: 'kill-broker' }),
  () => ({ kind: 'kill-compute' }),
  () => ({ kind: 'kill-compute' }),
  () => ({ kind: 'kill-postgres' }),
  (random) => ({ kind: 'pause-compute', forMs: forMs(random) }),
  () => ({ kind: 'replace-compute' }),
  () => ({ kind: 'replace-compute' }),
  () => ({ kind: 'restart-compute' }),
  (random) => ({ kind: 'take-over', wakeAfterMs: random.int(0, 1_500) }),
  (random) => ({ kind: 'duel', gapMs: random.pick([0, 0, 50, 200, 600]) }),
];

/** Without end; take as many as fit into the time. */
export function* schedule(seed: number): Generator<Step, never> {
  const random = new Random(seed);
  for (;;) {
    // Faults that fall together are worth more than faults that are got over one by one.
    const afterMs = random.next() < 0.3 ? random.int(0, 200) : random.int(500, 3_000);
    yield { afterMs, fault: random.pick(FAULTS)(random) };
  }
}

export function describeFault(fault: Fault): string {
  const { kind, ...rest } = fault;
  return Object.keys(rest).length === 0 ? kind : `${kind} ${JSON.stringify(rest)}`;
}
