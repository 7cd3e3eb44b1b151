/** Which process holds the other end of a connection from this machine, by /proc. */
import { readdir, readFile, readlink } from 'node:fs/promises';
import type { Socket } from 'node:net';

/** The name of the process among `pids` that made the connection; null when it is none of them. */
export async function ownerOf(accepted: Socket, pids: ReadonlyMap<number, string>): Promise<string | null> {
  const inode = await inodeOf(accepted.remotePort ?? 0, accepted.localPort ?? 0);
  if (inode === null) return null;
  for (const [pid, name] of pids) if (await holds(pid, `socket:[${inode}]`)) return name;
  return null;
}

/** Of the socket that is connected from `port` to `remotePort`, both on 127.0.0.1. */
async function inodeOf(port: number, remotePort: number): Promise<string | null> {
  const addr = (number: number): string => `0100007F:${number.toString(16).toUpperCase().padStart(4, '0')}`;
  const table = await readFile('/proc/net/tcp', 'latin1');
  const at = table.indexOf(` ${addr(port)} ${addr(remotePort)} `);
  if (at < 0) return null;
  // local, remote, state, queues, timer, retransmits, uid, timeout, inode
  return table.slice(at, table.indexOf('\n', at)).trim().split(/\s+/)[8] ?? null;
}

async function holds(pid: number, link: string): Promise<boolean> {
  const dir = `/proc/${pid}/fd`;
  const names = await readdir(dir).catch(() => []);
  const links = await Promise.all(names.map((name) => readlink(`${dir}/${name}`).catch(() => '')));
  return links.includes(link);
}
