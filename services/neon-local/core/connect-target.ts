/**
 * Which branch a Postgres client means, and what its start-up packet says to the compute. Pure.
 *
 * In falling order of precedence:
 *   options   "branch=NAME" or "endpoint=COMPUTE" (also "project=", and with "-c" before it); may be percent-encoded as a whole
 *   TLS       server name NAME.anything; characters that host names cannot have are "-" there
 *   user      "role@NAME"
 *   nothing   branch main
 */
import { StorageError } from '#shared/core/errors.js';
import { defaultComputeName, MAIN_BRANCH } from './catalog.js';
import type { BranchEntry, Catalog, ComputeEntry } from './catalog-schema.js';

export type Target =
  | { readonly kind: 'branch'; readonly branch: BranchEntry }
  | { readonly kind: 'compute'; readonly compute: ComputeEntry };

export interface Routed {
  readonly target: Target;
  /** For the compute: the user without "@NAME", options without ours. */
  readonly parameters: ReadonlyMap<string, string>;
}

const OUR_OPTION = /^(branch|endpoint|project)(?:=|%3[dD])(.+)$/;

interface Wanted {
  readonly kind: 'branch' | 'compute';
  readonly name: string;
}

/** Splits as Postgres does: at white space that no backslash precedes. */
function words(options: string): string[] {
  return options.match(/(?:\\.|[^\s\\])+/g) ?? [];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** What the options name, and the options that are left for Postgres. */
function takeOptions(options: string): { wanted: Wanted | null; left: string } {
  let wanted: Wanted | null = null;
  const left: string[] = [];
  const all = words(options);
  for (let at = 0; at < all.length; at++) {
    const word = all[at] ?? '';
    const following = all[at + 1];
    const isFlag = word === '-c' && following !== undefined && OUR_OPTION.test(following);
    const match = OUR_OPTION.exec(isFlag ? following : word.replace(/^-c|^--/, ''));
    if (!match) {
      left.push(word);
      continue;
    }
    if (isFlag) at += 1;
    if (wanted !== null) throw new StorageError('invalid', 'options name more than one branch or endpoint');
    wanted = { kind: match[1] === 'branch' ? 'branch' : 'compute', name: decoded(match[2] ?? '') };
  }
  return { wanted, left: left.join(' ') };
}

/** As a label of a host name. */
export function hostLabel(branchName: string): string {
  return branchName.toLowerCase().replace(/[^a-z0-9-]/g, '-');
}

function single<T>(found: readonly T[], what: string): T | null {
  if (found.length > 1) {
    throw new StorageError('precondition', `there are several ${what}; name a compute by options=endpoint%3DNAME`);
  }
  return found[0] ?? null;
}

/** Branches of the default tenant go first; those of others are found when their name is the only one. */
function branchBy(catalog: Catalog, matches: (branch: BranchEntry) => boolean, name: string): BranchEntry | null {
  const found = catalog.branches.filter(matches);
  const own = found.filter((branch) => branch.tenantId === catalog.defaultTenantId);
  return single(own.length > 0 ? own : found, `branches "${name}"`);
}

const byName = (catalog: Catalog, name: string) => branchBy(catalog, (branch) => branch.name === name, name);

function unknown(catalog: Catalog, name: string): StorageError {
  const known = catalog.branches.map((branch) => branch.name);
  const shown = known.slice(0, 10).join(', ') + (known.length > 10 ? ', …' : '');
  const hint = known.length === 0 ? 'there are none yet' : `there are: ${shown}`;
  return new StorageError('not-found', `branch "${name}" does not exist (${hint}); make it with "neon branch create"`);
}

function byOptions(catalog: Catalog, { kind, name }: Wanted): Target {
  if (kind === 'compute') {
    const compute = catalog.computes.find((entry) => entry.name === name);
    if (compute) return { kind: 'compute', compute };
  }
  const branch = byName(catalog, name);
  if (branch === null) throw unknown(catalog, name);
  return { kind: 'branch', branch };
}

/** Null: the server name says nothing ("localhost"). */
function byServerName(catalog: Catalog, serverName: string): Target | null {
  const label = serverName.split('.')[0] ?? '';
  if (label === '' || !serverName.includes('.')) return null;
  const compute = catalog.computes.find((entry) => !entry.isAutomatic && hostLabel(entry.name) === label);
  const branch =
    branchBy(catalog, (entry) => hostLabel(entry.name) === label, label) ??
    (compute ? null : branchBy(catalog, (entry) => hostLabel(defaultComputeName(entry.name)) === label, label));
  if (branch) return { kind: 'branch', branch };
  if (compute) return { kind: 'compute', compute };
  throw unknown(catalog, label);
}

/** Throws StorageError with a text for the client. `serverName`: of TLS; empty = none. */
export function routeStartup(catalog: Catalog, given: ReadonlyMap<string, string>, serverName: string): Routed {
  const parameters = new Map(given);
  const { wanted, left } = takeOptions(given.get('options') ?? '');
  if (left === '') parameters.delete('options');
  else parameters.set('options', left);
  if (wanted !== null) return { target: byOptions(catalog, wanted), parameters };
  const byHost = byServerName(catalog, serverName);
  if (byHost !== null) return { target: byHost, parameters };
  const user = given.get('user') ?? '';
  const cut = user.lastIndexOf('@');
  if (cut > 0) {
    const name = user.slice(cut + 1);
    const branch = byName(catalog, name);
    if (branch === null) throw unknown(catalog, name);
    parameters.set('user', user.slice(0, cut));
    if (!given.has('database')) parameters.set('database', user.slice(0, cut));
    return { target: { kind: 'branch', branch }, parameters };
  }
  const main = byName(catalog, MAIN_BRANCH);
  if (main === null) throw unknown(catalog, MAIN_BRANCH);
  return { target: { kind: 'branch', branch: main }, parameters };
}

const PROTOCOL_3 = 0x0003_0000;

/** Bytes of a start-up packet. */
export function startupPacket(parameters: ReadonlyMap<string, string>, minorVersion: number): Buffer {
  const texts = [...parameters].flatMap(([name, value]) => [Buffer.from(`${name}\0`), Buffer.from(`${value}\0`)]);
  const head = Buffer.alloc(8);
  head.writeUInt32BE(PROTOCOL_3 + minorVersion, 4);
  const packet = Buffer.concat([head, ...texts, Buffer.from([0])]);
  packet.writeUInt32BE(packet.length, 0);
  return packet;
}
