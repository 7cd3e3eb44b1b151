/** The version that services, CLI and gRPC status report. */
export const VERSION = '0.1.0';
