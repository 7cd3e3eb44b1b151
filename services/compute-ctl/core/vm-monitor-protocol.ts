/**
 * The text frames between autoscaler-agent and vm-monitor. The agent opens with the versions it speaks, and nests the content of its
 * messages; the monitor's fields stand next to type and id:
 *
 *   agent     {"min":1,"max":1}                                        monitor   {"version":1} | {"error":"…"}
 *   agent     {"content":{"granted":{"cpu":1,"mem":2}},"type":"UpscaleNotification","id":2}
 *   monitor   {"type":"UpscaleConfirmation","id":2}
 *
 * An answer bears the request's id. The agent's own ids are even, the monitor's odd, from 3 on.
 */
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';

export const PROTOCOL_VERSION = 1;
const FIRST_ID = 3;
const ID_STEP = 2;

const id = z.number().int().min(0);
const resources = z.object({ cpu: z.number().min(0), mem: z.number().min(0) });
const message = z.discriminatedUnion('type', [
  z.object({ type: z.literal('UpscaleNotification'), id, content: z.object({ granted: resources }) }),
  z.object({ type: z.literal('DownscaleRequest'), id, content: z.object({ target: resources }) }),
  z.object({ type: z.literal('HealthCheck'), id }),
  z.object({ type: z.literal('InvalidMessage'), id, content: z.object({ error: z.string() }) }),
  z.object({ type: z.literal('InternalError'), id, content: z.object({ error: z.string() }) }),
]);
const versions = z.object({ min: z.number().int(), max: z.number().int() });

export type AgentMessage = z.infer<typeof message>;

export type MonitorMessage =
  | { readonly type: 'UpscaleRequest' | 'UpscaleConfirmation' | 'HealthCheck'; readonly id: number }
  | { readonly type: 'DownscaleResult'; readonly id: number; readonly Ok: boolean; readonly Status: string }
  | { readonly type: 'InternalError'; readonly id: number; readonly error: string };

/** The answer to the agent's first frame. Throws StorageError `invalid`, to be answered by nothing, when it is none. */
export function negotiate(text: string): { readonly version: number } | { readonly error: string } {
  const parsed = versions.safeParse(parseJson(text));
  if (!parsed.success) throw new StorageError('invalid', 'the agent’s first message is no range of versions');
  const { min, max } = parsed.data;
  if (min > max) return { error: `Invalid protocol version range: [${min}, ${max}]` };
  if (min > PROTOCOL_VERSION || max < PROTOCOL_VERSION) {
    const own = `[${PROTOCOL_VERSION}, ${PROTOCOL_VERSION}]`;
    return { error: `Received protocol version range [${min}, ${max}] does not overlap with ${own}` };
  }
  return { version: PROTOCOL_VERSION };
}

/** Throws StorageError `invalid`. */
export function parseAgentMessage(text: string): AgentMessage {
  const parsed = message.safeParse(parseJson(text));
  if (!parsed.success)
    throw new StorageError('invalid', `the agent sent a message that is not understood: ${text.slice(0, 200)}`);
  return parsed.data;
}

/** Ids of the monitor's own messages. */
export class MessageIds {
  private next = FIRST_ID;

  take(): number {
    const taken = this.next;
    this.next += ID_STEP;
    return taken;
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new StorageError('invalid', 'the agent sent something that is not JSON', { cause });
  }
}
