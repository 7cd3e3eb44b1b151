/** The stack's daemon by gRPC: what the `neon` command asks it, without the half second that a new process costs. */
import type { GetStatusResponse } from '#gen/neon/control/v1/control.js';
import { ControlServiceClient } from '#gen/neon/control/v1/control.js';
import { callUnary, createClient } from '#shared/rpc/client.js';
import { RepoDir } from '../../services/neon-local/io/repo-dir.js';

const START_TIMEOUT_MS = 90_000;
const DEADLINE_MS = 100_000;

const NOT_LIMITED = { autoscalingLimitMinCu: 0, autoscalingLimitMaxCu: 0 };

export class Control implements Disposable {
  private readonly client: ControlServiceClient;

  private constructor(client: ControlServiceClient) {
    this.client = client;
  }

  /** Of the daemon that runs in this directory. */
  static async open(repoDir: string): Promise<Control> {
    const daemon = await new RepoDir(repoDir).daemon();
    if (daemon === null) throw new Error(`no daemon runs in ${repoDir}`);
    return new Control(createClient(ControlServiceClient, daemon.grpcAddr));
  }

  status(): Promise<GetStatusResponse> {
    return callUnary(this.client, this.client.getStatus, {}, { deadlineMs: DEADLINE_MS });
  }

  /** On the named branch; without one, on the branch called as the compute, else on main. */
  async createCompute(name: string, settings: Record<string, string>, branch?: string): Promise<void> {
    const { client } = this;
    const rest = { tenantId: '', storageName: '', pgPort: 0, suspendAfterS: 0, ...NOT_LIMITED };
    const request = { name, branchName: branch ?? '', settings, ...rest };
    await callUnary(client, client.createCompute, request, { deadlineMs: DEADLINE_MS });
  }

  /** Returns its URL; one that runs is left alone. */
  async startCompute(name: string): Promise<string> {
    const request = { name, timeoutMs: START_TIMEOUT_MS, isReplica: false, ...NOT_LIMITED };
    const { compute } = await callUnary(this.client, this.client.startCompute, request, { deadlineMs: DEADLINE_MS });
    return compute?.url ?? '';
  }

  async stopCompute(name: string, immediate: boolean): Promise<void> {
    await callUnary(this.client, this.client.stopCompute, { name, immediate }, { deadlineMs: DEADLINE_MS });
  }

  [Symbol.dispose](): void {
    this.client.close();
  }
}
