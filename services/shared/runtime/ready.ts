/** The line a service prints on stdout once it serves; a supervisor reads from it which ports were taken. systemd is told as well. */
import { z } from 'zod';
import { notifyReady } from './systemd.js';

const readySchema = z.object({
  ready: z.literal(true),
  service: z.string(),
  pid: z.number().int(),
  grpc: z.string().optional(),
  http: z.string().optional(),
  pg: z.string().optional(),
  /** Where a compute's vm-monitor listens. */
  monitor: z.string().optional(),
});
export type ReadyLine = z.infer<typeof readySchema>;

export function announceReady(line: Omit<ReadyLine, 'ready' | 'pid'>): void {
  process.stdout.write(`${JSON.stringify({ ready: true, ...line, pid: process.pid })}\n`);
  notifyReady();
}

/** Null when the text is some other line. */
export function parseReadyLine(text: string): ReadyLine | null {
  try {
    return readySchema.safeParse(JSON.parse(text)).data ?? null;
  } catch {
    return null;
  }
}
