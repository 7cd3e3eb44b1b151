/** Which processes a stack has, on which ports by default, and with which flags each is started. Pure. */
import { z } from 'zod';

export const stackConfigSchema = z.object({
  version: z.literal(1),
  safekeeperCount: z.number().int().min(1).max(9),
  /** Object store URL; default: a directory of the stack. */
  remoteStorage: z.string(),
  initdbImage: z.string(),
  /** Any free ports instead of the well-known ones. */
  freePorts: z.boolean().default(false),
});
export type StackConfig = z.infer<typeof stackConfigSchema>;

/** Kinds of endpoints; the value of a port is its default. */
export type PortName = 'grpc' | 'http' | 'pg';

export interface ServiceSpec {
  /** Such as "safekeeper-1"; also the name of its directory and log. */
  readonly name: string;
  /** Folder under services/. */
  readonly program: 'storage-broker' | 'safekeeper' | 'pageserver';
  readonly defaultPorts: Partial<Record<PortName, number>>;
}

export function planServices(config: StackConfig): ServiceSpec[] {
  const safekeepers: ServiceSpec[] = Array.from({ length: config.safekeeperCount }, (_, at) => ({
    name: `safekeeper-${at + 1}`,
    program: 'safekeeper',
    defaultPorts: { grpc: 5454 + at, http: 7676 + at },
  }));
  return [
    { name: 'storage-broker', program: 'storage-broker', defaultPorts: { grpc: 50051, http: 50052 } },
    ...safekeepers,
    { name: 'pageserver', program: 'pageserver', defaultPorts: { grpc: 51051, http: 9898, pg: 6400 } },
  ];
}

export interface LaunchInput {
  readonly spec: ServiceSpec;
  readonly ports: Partial<Record<PortName, number>>;
  readonly brokerAddr: string;
  readonly dataDir: string;
  readonly config: StackConfig;
}

const HOST = '127.0.0.1';

function addr(port: number | undefined): string {
  return `${HOST}:${port ?? 0}`;
}

/** Flags of one service. */
export function serviceFlags(input: LaunchInput): string[] {
  const { spec, ports, brokerAddr, dataDir, config } = input;
  const listen = ['--listen-grpc', addr(ports.grpc), '--listen-http', addr(ports.http)];
  switch (spec.program) {
    case 'storage-broker':
      return listen;
    case 'safekeeper': {
      const id = spec.name.slice(spec.name.lastIndexOf('-') + 1);
      return [
        ...['--id', id, '--datadir', dataDir, ...listen, '--broker-endpoint', brokerAddr],
        ...['--remote-storage', config.remoteStorage],
      ];
    }
    case 'pageserver':
      return [
        ...['--id', '1', '--workdir', dataDir, ...listen, '--listen-pg', addr(ports.pg)],
        ...['--broker-endpoint', brokerAddr, '--remote-storage', config.remoteStorage],
        ...['--initdb-image', config.initdbImage],
      ];
  }
}
