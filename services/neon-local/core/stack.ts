/** Which processes a stack has, on which ports by default, and with which flags each is started. Pure. */
import { DEFAULT_STORAGE } from './catalog-schema.js';
import type { StorageEntry } from './catalog-schema.js';
import type { StackConfig } from './stack-config.js';

/** Kinds of endpoints; the value of a port is its default. */
export type PortName = 'grpc' | 'http' | 'pg';

export interface ServiceSpec {
  /** Such as "safekeeper-1"; also the name of its directory and log. */
  readonly name: string;
  /** Folder under services/. */
  readonly program: 'storage-broker' | 'safekeeper' | 'pageserver';
  /** 0 = any free port. */
  readonly defaultPorts: Partial<Record<PortName, number>>;
  /** What a page server serves. */
  readonly storage?: StorageEntry;
}

/** Name of the page server of a storage. */
export function pageserverName(storageName: string): string {
  return storageName === DEFAULT_STORAGE ? 'pageserver' : `pageserver-${storageName}`;
}

export function planPageserver(storage: StorageEntry): ServiceSpec {
  const isDefault = storage.name === DEFAULT_STORAGE;
  return {
    name: pageserverName(storage.name),
    program: 'pageserver',
    defaultPorts: isDefault ? { grpc: 51051, http: 9898, pg: 6400 } : { grpc: 0, http: 0, pg: 0 },
    storage,
  };
}

/** The services that every stack needs; page servers of further storages come and go with them. */
export function planServices(config: StackConfig, storages: readonly StorageEntry[]): ServiceSpec[] {
  const safekeepers: ServiceSpec[] = Array.from({ length: config.safekeeperCount }, (_, at) => ({
    name: `safekeeper-${at + 1}`,
    program: 'safekeeper',
    defaultPorts: { grpc: 5454 + at, http: 7676 + at },
  }));
  return [
    { name: 'storage-broker', program: 'storage-broker', defaultPorts: { grpc: 50051, http: 50052 } },
    ...safekeepers,
    ...storages.map(planPageserver),
  ];
}

export interface LaunchInput {
  readonly spec: ServiceSpec;
  readonly ports: Partial<Record<PortName, number>>;
  /** Where services reach it. */
  readonly brokerAddr: string;
  readonly dataDir: string;
  readonly config: StackConfig;
}

const HOST = '127.0.0.1';

function addr(port: number | undefined): string {
  return `${HOST}:${port ?? 0}`;
}

/** Where others reach an endpoint of a service. */
export function advertisedAddr(
  config: StackConfig,
  name: string,
  port: PortName,
  listenPort: number | undefined,
): string {
  return config.advertise[`${name}.${port}`] ?? addr(listenPort);
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
        ...['--advertise-grpc', advertisedAddr(config, spec.name, 'grpc', ports.grpc)],
      ];
    }
    case 'pageserver':
      return [
        ...['--id', String(spec.storage?.nodeId ?? 1), '--workdir', dataDir, ...listen, '--listen-pg', addr(ports.pg)],
        ...['--broker-endpoint', brokerAddr, '--remote-storage', spec.storage?.url ?? config.remoteStorage],
        ...['--initdb-image', config.initdbImage, '--attach-at-start', 'all'],
      ];
  }
}
