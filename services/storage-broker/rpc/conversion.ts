/** Messages of the broker to the registry's terms, checked once on receipt. */
import { StorageError } from '#shared/core/errors.js';
import { formatTtid, parseTtid } from '#shared/core/ids.js';
import { MessageType, type TypedMessage } from '#gen/neon/broker/v1/broker.js';
import type { Filter, MessageKind } from '../core/registry.js';

const KINDS = new Map<MessageType, MessageKind>([
  [MessageType.SAFEKEEPER_TIMELINE_INFO, 'info'],
  [MessageType.SAFEKEEPER_DISCOVERY_REQUEST, 'discovery-request'],
  [MessageType.SAFEKEEPER_DISCOVERY_RESPONSE, 'discovery-response'],
]);

export interface Routed {
  readonly kind: MessageKind;
  /** "tenant/timeline" */
  readonly timeline: string;
}

/** Where a message goes. Throws `invalid` when it is empty or names no timeline. */
export function routeOf(message: TypedMessage | undefined): Routed {
  const content = message?.message;
  switch (content?.$case) {
    case 'safekeeperTimelineInfo':
      return { kind: 'info', timeline: formatTtid(parseTtid(content.value.ttid)) };
    case 'safekeeperDiscoveryRequest':
      return { kind: 'discovery-request', timeline: formatTtid(parseTtid(content.value.ttid)) };
    case 'safekeeperDiscoveryResponse':
      return { kind: 'discovery-response', timeline: formatTtid(parseTtid(content.value.info?.ttid)) };
    default:
      throw new StorageError('invalid', 'the message is empty');
  }
}

/** Absent ttid = all timelines. */
export function timelineOf(ttid: { tenantId: string; timelineId: string } | undefined): string | null {
  return ttid === undefined ? null : formatTtid(parseTtid(ttid));
}

export function filterOf(request: {
  types: readonly MessageType[];
  ttid?: { tenantId: string; timelineId: string } | undefined;
}): Filter {
  const kinds = request.types.map((type) => {
    const kind = KINDS.get(type);
    if (kind === undefined) throw new StorageError('invalid', `unknown message type ${type}`);
    return kind;
  });
  if (kinds.length === 0) throw new StorageError('invalid', 'a subscription names at least one message type');
  return { kinds: new Set(kinds), timeline: timelineOf(request.ttid) };
}
