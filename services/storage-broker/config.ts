/** Options of the storage broker. */
import { addrSchema, commonOptions, option, parseConfig, type ConfigOf } from '#shared/runtime/config.js';

const options = {
  ...commonOptions,
  listenGrpc: option(
    '--listen-grpc <host:port>',
    'address of the gRPC server; port 0 = a free one (default 127.0.0.1:50051)',
    addrSchema().default('127.0.0.1:50051'),
    ['-l, --listen-addr <host:port>'],
  ),
  listenHttp: option(
    '--listen-http <host:port>',
    'address of the HTTP server for metrics and health (default: a free port of 127.0.0.1)',
    addrSchema().default('127.0.0.1:0'),
  ),
};

export type BrokerConfig = ConfigOf<typeof options>;

export function readConfig(
  argv: readonly string[],
  env: Readonly<Record<string, string | undefined>> = process.env,
): BrokerConfig {
  return parseConfig(
    { name: 'storage-broker', description: 'Publish and subscribe of timeline status' },
    options,
    argv,
    env,
  );
}
