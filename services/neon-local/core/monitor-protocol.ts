/** The agent's side of the text frames to a compute's vm-monitor, which describes them (compute-ctl). Pure. */
import { z } from 'zod';

export const VERSIONS = { min: 1, max: 1 };

const id = z.number().int();
const versionAnswer = z.union([z.object({ version: z.literal(1) }), z.object({ error: z.string() })]);
const message = z.discriminatedUnion('type', [
  z.object({ type: z.literal('UpscaleRequest'), id }),
  z.object({ type: z.literal('UpscaleConfirmation'), id }),
  z.object({ type: z.literal('HealthCheck'), id }),
  z.object({ type: z.literal('DownscaleResult'), id, Ok: z.boolean(), Status: z.string() }),
  z.object({ type: z.literal('InternalError'), id, error: z.string() }),
]);
export type MonitorMessage = z.infer<typeof message>;

export interface Resources {
  /** Processors. */
  readonly cpu: number;
  /** Bytes. */
  readonly mem: number;
}

export type AgentRequest =
  | { readonly type: 'UpscaleNotification'; readonly content: { readonly granted: Resources } }
  | { readonly type: 'DownscaleRequest'; readonly content: { readonly target: Resources } }
  | { readonly type: 'HealthCheck'; readonly content: Record<string, never> };

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return null;
  }
}

/** The answer to the first frame: null when it agrees, else what is wrong. */
export function refusalOf(text: string): string | null {
  const answer = versionAnswer.safeParse(parsed(text));
  if (!answer.success) return `the vm-monitor answered ${text.slice(0, 200)}`;
  return 'error' in answer.data ? answer.data.error : null;
}

/** Null: not understood. */
export function parseMonitorMessage(text: string): MonitorMessage | null {
  return message.safeParse(parsed(text)).data ?? null;
}
