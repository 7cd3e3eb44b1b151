/** host:port texts. */
import { StorageError } from './errors.js';

export interface Addr {
  readonly host: string;
  readonly port: number;
}

/** Parses "host:port" and "[v6]:port". Throws StorageError `invalid`. */
export function parseAddr(text: string): Addr {
  const match = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(text.trim());
  const port = Number(match?.[3]);
  if (!match || port > 65535) throw new StorageError('invalid', `"${text}" is not host:port`);
  return { host: match[1] ?? match[2] ?? '', port };
}

export function formatAddr(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** How others on this machine reach a server bound to `addr`: a wildcard address becomes loopback. */
export function reachableAddr(addr: string): string {
  const { host, port } = parseAddr(addr);
  return formatAddr(host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host, port);
}
