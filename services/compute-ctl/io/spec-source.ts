/**
 * Where specs come from: a file (`--spec-path`, `--config`), a control plane (`--control-plane-uri`), or nowhere, then somebody brings one
 * by /configure. Read again at each refresh.
 *
 * Control plane: `GET {uri}/compute/api/v2/computes/{compute_id}/spec`, answered by `{"status": "attached", "spec": …}` or
 * `{"status": "empty"}`; NEON_CONTROL_PLANE_TOKEN is sent as bearer token.
 */
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { StorageError } from '#shared/core/errors.js';

const REQUEST_TIMEOUT_MS = 10_000;
/** A spec with some ten thousand roles; more is a mistake. */
const SPEC_BYTES_MAX = 16 << 20;

export interface SpecSource {
  /** For logs. */
  readonly name: string;
  /** The text of the spec; null: the control plane has none for us now. Throws StorageError. */
  read(signal: AbortSignal): Promise<string | null>;
}

export function fileSource(path: string): SpecSource {
  const read = async (): Promise<string> =>
    readFile(path, 'utf8').catch((cause: unknown) => {
      throw new StorageError('invalid', `could not read the spec ${path}`, { cause });
    });
  return { name: path, read };
}

const answerSchema = z.object({
  status: z.enum(['attached', 'empty']).optional(),
  spec: z.record(z.string(), z.unknown()).nullish(),
});

export function controlPlaneSource(uri: string, computeId: string, token: string | undefined): SpecSource {
  const url = `${uri.replace(/\/+$/, '')}/compute/api/v2/computes/${encodeURIComponent(computeId)}/spec`;
  const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const read = async (signal: AbortSignal): Promise<string | null> => {
    const response = await fetch(url, {
      headers,
      signal: AbortSignal.any([signal, AbortSignal.timeout(REQUEST_TIMEOUT_MS)]),
    }).catch((cause: unknown) => {
      throw new StorageError('unavailable', `the control plane at ${uri} cannot be reached`, { cause });
    });
    const text = await readLimited(response);
    if (!response.ok) {
      const kind = response.status >= 500 || response.status === 429 ? 'unavailable' : 'invalid';
      throw new StorageError(kind, `the control plane answered ${response.status}: ${text.slice(0, 300)}`);
    }
    return specOfAnswer(text);
  };
  return { name: url, read };
}

function specOfAnswer(text: string): string | null {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw new StorageError('invalid', 'the control plane did not answer in JSON', { cause });
  }
  const answer = answerSchema.safeParse(json);
  if (!answer.success)
    throw new StorageError('invalid', `the control plane answered something else: ${text.slice(0, 300)}`);
  const { status, spec } = answer.data;
  return status === 'empty' || spec === undefined || spec === null ? null : JSON.stringify(spec);
}

async function readLimited(response: Response): Promise<string> {
  const pieces: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const piece of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      size += piece.length;
      if (size > SPEC_BYTES_MAX) throw new StorageError('invalid', `the spec is larger than ${SPEC_BYTES_MAX} bytes`);
      pieces.push(piece);
    }
  } catch (error) {
    if (error instanceof StorageError) throw error;
    throw new StorageError('unavailable', 'the control plane broke off its answer', { cause: error });
  }
  return Buffer.concat(pieces).toString('utf8');
}
