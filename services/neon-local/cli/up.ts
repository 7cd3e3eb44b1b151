/** `neon up`, which is `npm start`: the whole stack in the foreground until a signal. */
import { ControlServiceClient } from '#gen/neon/control/v1/control.js';
import { StorageError } from '#shared/core/errors.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { createLogger } from '#shared/runtime/log.js';
import { onShutdown } from '#shared/runtime/shutdown.js';
import { MAIN_BRANCH } from '../core/catalog.js';
import { Daemon } from '../io/daemon.js';
import { START_TIMEOUT_MS } from '../io/compute-manager.js';
import type { RepoDir } from '../io/repo-dir.js';
import { sizeMessage } from './arguments.js';
import { say } from './output.js';

const STOP_LIMIT_MS = 90_000;
const TENANT_DEADLINE_MS = 120_000;

/** Makes tenant, branch and compute when they are missing, and starts the compute. Returns its URL. */
async function ensureCompute(daemon: Daemon, pgPort: number): Promise<string> {
  const client = createClient(ControlServiceClient, daemon.grpcAddr);
  try {
    if (daemon.catalog.tenants.length === 0) {
      const request = { tenantId: '', setDefault: true, branchName: MAIN_BRANCH, storageName: '' };
      await callUnary(client, client.createTenant, request, { deadlineMs: TENANT_DEADLINE_MS });
    }
    if (!daemon.catalog.computes.some((compute) => compute.name === MAIN_BRANCH)) {
      const place = { tenantId: '', branchName: MAIN_BRANCH, storageName: '' };
      const request = {
        name: MAIN_BRANCH,
        ...place,
        pgPort,
        settings: {},
        suspendAfterS: 0,
        ...sizeMessage(undefined),
      };
      await callUnary(client, client.createCompute, request);
    }
    const size = sizeMessage(undefined);
    const request = { name: MAIN_BRANCH, timeoutMs: START_TIMEOUT_MS, isReplica: false, ...size };
    const { compute } = await callUnary(client, client.startCompute, request, { deadlineMs: START_TIMEOUT_MS + 5_000 });
    if (compute === undefined) throw new StorageError('internal', 'the daemon answered without a compute');
    return compute.url;
  } finally {
    client.close();
  }
}

export async function runUp(repo: RepoDir, pgPort: number): Promise<void> {
  // The foreground shows what a person needs; the services' own logs are in files.
  const log = createLogger({ service: 'neon-local', level: 'warn' });
  let daemon: Daemon | null = null;
  const shutdown = onShutdown(
    log,
    async () => {
      say('stopping …');
      await daemon?.stop();
      say('stopped; the data stays in ' + repo.path);
    },
    STOP_LIMIT_MS,
  );
  const startedAt = Date.now();
  daemon = await Daemon.start({
    repo,
    log,
    env: process.env,
    onShutdownRequest: () => shutdown.request('asked by a client'),
  });
  try {
    const url = await ensureCompute(daemon, pgPort);
    process.stdout.write(`${url}\n`);
    const safekeepers = daemon.stack.safekeeperAddrs().length;
    say(
      `ready after ${((Date.now() - startedAt) / 1000).toFixed(1)} s: 1 broker, ${safekeepers} safekeepers, 1 page server, 1 compute`,
    );
    say(`connect:  psql ${url}`);
    say('more:     npm run -s neon -- status | branch create … | pg create …      stop: Ctrl-C');
  } catch (error) {
    await daemon.stop();
    throw error;
  }
}
