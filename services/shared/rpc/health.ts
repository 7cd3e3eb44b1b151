/** The standard gRPC health service: states of the services of one server, for probes that ask and those that watch. */
import type * as grpc from '@grpc/grpc-js';
import { HealthCheckResponse_ServingStatus as Status, HealthService } from '#gen/grpc/health/v1/health.js';
import type { HealthCheckRequest, HealthCheckResponse, HealthServer } from '#gen/grpc/health/v1/health.js';
import { StorageError } from '../core/errors.js';
import { unary } from './handlers.js';

/** Watches held at a time; more are refused. Probes need one each. */
const WATCHES_MAX = 1_000;

type Watch = grpc.ServerWritableStream<HealthCheckRequest, HealthCheckResponse>;

export class Health {
  private readonly statuses = new Map<string, Status>();
  private readonly watches = new Set<Watch>();

  /** `names`: full names of services; "" stands for the server as a whole. All serve at first. */
  constructor(names: readonly string[]) {
    for (const name of names) this.statuses.set(name, Status.SERVING);
  }

  addTo(server: grpc.Server): void {
    const implementation: HealthServer = {
      check: unary(async ({ service }) => {
        const status = this.statuses.get(service);
        if (status === undefined) throw new StorageError('not-found', `there is no service "${service}" here`);
        return { status };
      }),
      list: unary(async () => ({
        statuses: Object.fromEntries([...this.statuses].map(([name, status]) => [name, { status }])),
      })),
      watch: (call) => this.watch(call),
    };
    server.addService(HealthService, implementation);
  }

  /** No service serves any more; those who watch are told. */
  stopServing(): void {
    for (const name of this.statuses.keys()) this.statuses.set(name, Status.NOT_SERVING);
    for (const watch of this.watches) this.tell(watch);
  }

  private watch(call: Watch): void {
    if (this.watches.size >= WATCHES_MAX) {
      call.emit('error', { code: 8, details: `more than ${WATCHES_MAX} watches` });
      return;
    }
    this.watches.add(call);
    const end = (): boolean => this.watches.delete(call);
    call.on('cancelled', end);
    call.on('close', end);
    call.on('error', end);
    this.tell(call);
  }

  private tell(call: Watch): void {
    call.write({ status: this.statuses.get(call.request.service) ?? Status.SERVICE_UNKNOWN });
  }
}
