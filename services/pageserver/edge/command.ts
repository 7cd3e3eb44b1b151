/** The queries that the libpq edge understands. */
import { StorageError } from '#shared/core/errors.js';
import type { TenantTimelineId } from '#shared/core/ids.js';
import { parseShardTtid } from '#shared/core/shard.js';
import type { PagestreamVersion } from './pagestream-codec.js';

export type Command =
  | { readonly kind: 'pagestream'; readonly version: PagestreamVersion; readonly ttid: TenantTimelineId }
  | { readonly kind: 'set' }
  | { readonly kind: 'show'; readonly name: string };

/** Throws StorageError: `invalid` for bad arguments, `unimplemented` for what is offered elsewhere or not at all. */
export function parseCommand(text: string): Command {
  const words = text.trim().replace(/;$/, '').trim().split(/\s+/);
  const name = (words[0] ?? '').toLowerCase();
  switch (name) {
    case 'pagestream_v2':
    case 'pagestream_v3': {
      if (words.length !== 3) throw new StorageError('invalid', `usage: ${name} <tenant id> <timeline id>`);
      const ttid = parseShardTtid({ tenantId: words[1] ?? '', timelineId: words[2] ?? '' });
      return { kind: 'pagestream', version: name === 'pagestream_v3' ? 3 : 2, ttid };
    }
    case 'set':
      return { kind: 'set' };
    case 'show':
      return { kind: 'show', name: words[1] ?? '' };
    case 'basebackup':
    case 'fullbackup':
      throw new StorageError(
        'unimplemented',
        `${name} is not served on this port; call neon.pageserver.v1.PageService/GetBaseBackup on the gRPC port`,
      );
    default:
      throw new StorageError(
        'unimplemented',
        `unknown command "${name.slice(0, 60)}"; this is a page server, not a database`,
      );
  }
}
