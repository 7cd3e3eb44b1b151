/** What is done to a stack, and when. Follows from the seed alone. Pure. */
import { Random } from './random.js';

/** Connections from some to some services. */
export interface Links {
  readonly from: 'anybody' | 'computes' | 'services';
  readonly to: readonly string[];
}

export type NetworkFault =
  /** Connections are reset, new ones refused. */
  | { readonly kind: 'cut-network'; readonly links: Links; readonly forMs: number }
  /**
   * Nothing passes and nobody is told. Then what was held back arrives; or, when the network forgets, it never does on connections of
   * that time, and only new ones work.
   */
  | { readonly kind: 'silence-network'; readonly links: Links; readonly forMs: number; readonly forgets: boolean }
  /** The same in one direction. */
  | {
      readonly kind: 'one-way-network';
      readonly links: Links;
      readonly forMs: number;
      readonly lost: 'requests' | 'answers';
      readonly forgets: boolean;
    }
  /** Each piece of up to 64 KiB is so late, and the next one waits for it. */
  | { readonly kind: 'slow-network'; readonly links: Links; readonly forMs: number; readonly delayMs: number };

export type Fault =
  | NetworkFault
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

export const SAFEKEEPERS = 3;
const PAUSE_MS_MAX = 2_500;

type FaultMaker = (random: Random) => Fault;
const forMs = (random: Random): number => random.int(200, PAUSE_MS_MAX);

function links(random: Random): Links {
  const safekeepers = (count: number): string[] => random.sample(count, SAFEKEEPERS).map((id) => `safekeeper-${id}`);
  const from = random.pick(['anybody', 'computes', 'computes', 'services'] as const);
  switch (random.pick(['one', 'one', 'more', 'more', 'pageserver', 'broker', 'all'] as const)) {
    case 'one':
      return { from, to: safekeepers(1) };
    case 'more':
      return { from, to: safekeepers(random.int(2, SAFEKEEPERS)) };
    case 'pageserver':
      return { from: 'anybody', to: ['pageserver'] };
    case 'broker':
      return { from: 'anybody', to: ['storage-broker'] };
    case 'all':
      return { from, to: ['storage-broker', 'pageserver', ...safekeepers(SAFEKEEPERS)] };
  }
}

/** Longer than services take to lose patience with each other, or not even noticed. */
const silenceMs = (random: Random): number =>
  random.next() < 0.5 ? random.int(500, 4_000) : random.int(4_000, 16_000);
const forgets = (random: Random): boolean => random.next() < 0.5;

const NETWORK_FAULTS: readonly [(random: Random) => NetworkFault, ...((random: Random) => NetworkFault)[]] = [
  (random) => ({ kind: 'cut-network', links: links(random), forMs: random.int(200, 6_000) }),
  (random) => ({ kind: 'cut-network', links: links(random), forMs: random.int(200, 6_000) }),
  (random) => ({ kind: 'silence-network', links: links(random), forMs: silenceMs(random), forgets: forgets(random) }),
  (random) => ({ kind: 'silence-network', links: links(random), forMs: silenceMs(random), forgets: forgets(random) }),
  (random) => ({
    ...{ kind: 'one-way-network', links: links(random), forMs: silenceMs(random) },
    ...{ lost: random.pick(['requests', 'answers'] as const), forgets: forgets(random) },
  }),
  (random) => ({
    ...{ kind: 'slow-network', links: links(random), forMs: random.int(1_000, 8_000), delayMs: random.int(20, 300) },
  }),
];

/** One fault of the network, with nothing else beside it. */
export function networkFault(random: Random): NetworkFault {
  return random.pick(NETWORK_FAULTS)(random);
}

/** Each as often as it stands here. */
const FAULTS: readonly [FaultMaker, ...FaultMaker[]] = [
  ...NETWORK_FAULTS,
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
