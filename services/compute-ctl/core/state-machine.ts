/**
 * The states of a compute and the only ways between them. The shell asks `nextPhase` before it does anything, so what is not in
 * the table cannot happen: an event without an edge is refused, and the state stays.
 */
import { StorageError } from '#shared/core/errors.js';

export const PHASES = [
  'empty',
  'configuration_pending',
  'configuration',
  'init',
  'running',
  'refresh_configuration_pending',
  'refresh_configuration',
  'termination_pending_fast',
  'termination_pending_immediate',
  'terminated',
  'failed',
] as const;
export type ComputePhase = (typeof PHASES)[number];

/**
 * - start: a spec was at hand when the process began.
 * - configure: somebody brought a spec.
 * - take: the configurator begins with the pending request.
 * - ready: Postgres answers queries and is what the spec says.
 * - fail: it does not.
 * - refresh: somebody asked for a new spec to be pulled.
 * - retry: the new spec could not be had or applied; the compute is as it was.
 * - terminate-fast, terminate-immediate: somebody asked for the end, or Postgres is lost.
 * - ended: Postgres has ended, and the time for inspection is over.
 */
export const EVENTS = [
  'start',
  'configure',
  'take',
  'ready',
  'fail',
  'refresh',
  'retry',
  'terminate-fast',
  'terminate-immediate',
  'ended',
] as const;
export type ComputeEvent = (typeof EVENTS)[number];

export interface Edge {
  readonly from: ComputePhase;
  readonly event: ComputeEvent;
  readonly to: ComputePhase;
  /** For the picture. */
  readonly label: string;
}

export const EDGES: readonly Edge[] = [
  { from: 'empty', event: 'start', to: 'init', label: 'spec at hand' },
  { from: 'empty', event: 'configure', to: 'configuration_pending', label: '/configure' },
  { from: 'configuration_pending', event: 'take', to: 'configuration', label: 'spec received' },
  { from: 'configuration', event: 'ready', to: 'running', label: 'configured' },
  { from: 'configuration', event: 'fail', to: 'failed', label: 'could not be configured' },
  { from: 'init', event: 'ready', to: 'running', label: 'Postgres started' },
  { from: 'init', event: 'fail', to: 'failed', label: 'Postgres did not start' },
  { from: 'running', event: 'configure', to: 'configuration_pending', label: '/configure' },
  { from: 'running', event: 'refresh', to: 'refresh_configuration_pending', label: '/refresh_configuration' },
  { from: 'refresh_configuration_pending', event: 'take', to: 'refresh_configuration', label: 'pulls the spec' },
  { from: 'refresh_configuration', event: 'ready', to: 'running', label: 'reconfigured' },
  { from: 'refresh_configuration', event: 'retry', to: 'refresh_configuration_pending', label: 'failed, tried again' },
  { from: 'empty', event: 'terminate-fast', to: 'termination_pending_fast', label: '/terminate' },
  { from: 'empty', event: 'terminate-immediate', to: 'termination_pending_immediate', label: '/terminate' },
  { from: 'running', event: 'terminate-fast', to: 'termination_pending_fast', label: '/terminate' },
  {
    from: 'running',
    event: 'terminate-immediate',
    to: 'termination_pending_immediate',
    label: '/terminate, SIGTERM, Postgres lost',
  },
  { from: 'termination_pending_fast', event: 'ended', to: 'terminated', label: 'after 30 s for inspection' },
  { from: 'termination_pending_immediate', event: 'ended', to: 'terminated', label: 'at once' },
  { from: 'failed', event: 'refresh', to: 'refresh_configuration_pending', label: '/refresh_configuration' },
];

/** Where the process begins, and from where it exits of its own accord. */
export const FIRST_PHASE: ComputePhase = 'empty';
export const EXIT_PHASES: readonly ComputePhase[] = ['failed', 'terminated'];

const table = new Map(EDGES.map(({ from, event, to }) => [`${from} ${event}`, to]));

export function canTake(phase: ComputePhase, event: ComputeEvent): boolean {
  return table.has(`${phase} ${event}`);
}

/** Throws StorageError `precondition` when the table has no such edge. */
export function nextPhase(phase: ComputePhase, event: ComputeEvent): ComputePhase {
  const next = table.get(`${phase} ${event}`);
  if (next === undefined) {
    const from = EDGES.filter((edge) => edge.event === event).map((edge) => edge.from);
    throw new StorageError(
      'precondition',
      `"${event}" is not possible in state ${phase}, only in ${[...new Set(from)].join(', ')}`,
    );
  }
  return next;
}

/** The table as a Mermaid diagram; `README.md` holds it, and a test keeps the two alike. */
export function renderDiagram(): string {
  const lines = ['stateDiagram-v2', `    [*] --> ${FIRST_PHASE} : spawned`];
  for (const { from, to, label } of EDGES) lines.push(`    ${from} --> ${to} : ${label}`);
  for (const phase of EXIT_PHASES) lines.push(`    ${phase} --> [*] : exit`);
  return lines.join('\n');
}
