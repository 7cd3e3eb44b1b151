/** Host, port, user and database of a libpq connection string, in its two forms: a URL, or `key=value` pairs. */
import { StorageError } from '#shared/core/errors.js';

export interface Connstr {
  readonly host: string;
  /** Null when the text does not say. */
  readonly port: number | null;
  readonly user: string | null;
  readonly database: string | null;
}

/**
 * The connection strings of a list, one a shard: a comma begins the next one when a URL or `host` follows it, since hosts of one string are
 * separated by commas too (libpq tries them one after the other). As shard-map.c of the extension does.
 */
export function splitConnstrings(list: string): string[] {
  return list.split(/,\s*(?=postgres(?:ql)?:\/\/|host)/);
}

/**
 * By when the kernel notices that a peer is gone without a word, seconds and (the last) milliseconds. Its own defaults are hours for a
 * connection that waits and a quarter of an hour for one that sends.
 */
const DEAD_PEER_OPTIONS = [
  ['keepalives_idle', '5'],
  ['keepalives_interval', '5'],
  ['keepalives_count', '2'],
  ['tcp_user_timeout', '15000'],
] as const;

/** Each connection string of a list with what it does not say itself about dead peers. */
export function withDeadPeerOptions(list: string): string {
  const parts = splitConnstrings(list).map((connstr) => {
    const missing = DEAD_PEER_OPTIONS.filter(([name]) => !new RegExp(`\\b${name}\\s*=`).test(connstr));
    if (missing.length === 0) return connstr;
    const isUrl = /^postgres(ql)?:\/\//.test(connstr);
    const options = missing.map(([name, value]) => `${name}=${value}`).join(isUrl ? '&' : ' ');
    if (!isUrl) return `${connstr} ${options}`;
    return `${connstr}${connstr.includes('?') ? '&' : '?'}${options}`;
  });
  return parts.join(',');
}

/** Throws StorageError `invalid`. */
export function parseConnstr(text: string): Connstr {
  const parsed = /^postgres(ql)?:\/\//.test(text) ? parseUrl(text) : parsePairs(text);
  if (parsed === null || parsed.host === '' || (parsed.port !== null && !(parsed.port >= 0 && parsed.port <= 65535))) {
    throw new StorageError(
      'invalid',
      `"${text}" is not a connection string; write postgresql://user@host:port/database`,
    );
  }
  return parsed;
}

function parseUrl(text: string): Connstr | null {
  if (!URL.canParse(text)) return null;
  const url = new URL(text);
  const database = decodeURIComponent(url.pathname.slice(1));
  return {
    host: url.hostname.replace(/^\[|\]$/g, ''),
    port: url.port === '' ? null : Number(url.port),
    user: url.username === '' ? null : decodeURIComponent(url.username),
    database: database === '' ? null : database,
  };
}

/** `key = value`, where a value with spaces stands in single quotes and a backslash takes the next character as it is. */
function parsePairs(text: string): Connstr | null {
  const pairs = new Map<string, string>();
  const pattern = /\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|(?!')((?:[^\s\\]|\\.)*))\s*/gy;
  while (pattern.lastIndex < text.length) {
    const match = pattern.exec(text);
    if (match === null) return null;
    pairs.set(match[1] ?? '', (match[2] ?? match[3] ?? '').replace(/\\(.)/gs, '$1'));
  }
  const port = pairs.get('port');
  return {
    host: pairs.get('host') ?? pairs.get('hostaddr') ?? '',
    port: port === undefined ? null : Number(port),
    user: pairs.get('user') ?? null,
    database: pairs.get('dbname') ?? null,
  };
}
