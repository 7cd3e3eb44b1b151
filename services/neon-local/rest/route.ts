/** One row of the table of routes. */
import { z } from 'zod';
import type { ControlHandlers } from '../rpc/handlers.js';

type Method = 'GET' | 'PUT' | 'POST' | 'DELETE';
type Shape = z.ZodRawShape;
type Out<S extends Shape> = z.infer<z.ZodObject<S>>;

export interface Route {
  readonly method: Method;
  /** With {name} for parameters. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly params: z.ZodType;
  readonly query: z.ZodType;
  readonly body: z.ZodType | null;
  readonly response: z.ZodType;
  readonly run: (
    handlers: ControlHandlers,
    input: { params: unknown; query: unknown; body: unknown },
  ) => Promise<unknown>;
}

interface RouteInput<P extends Shape, Q extends Shape, B extends Shape> {
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly response: z.ZodType;
  readonly run: (handlers: ControlHandlers, input: Out<P> & Out<Q> & Out<B>) => Promise<unknown>;
}

/** Parameters, query and body have different names, so a route sees them as one object. */
export function route<P extends Shape, Q extends Shape, B extends Shape>(
  head: readonly [method: Method, path: string, tag: string, summary: string],
  input: RouteInput<P, Q, B>,
): Route {
  const [method, path, tag, summary] = head;
  return {
    ...{ method, path, tag, summary, response: input.response },
    params: z.object(input.params ?? {}),
    query: z.strictObject(input.query ?? {}),
    body: input.body === undefined ? null : z.strictObject(input.body),
    run: (handlers, given) =>
      input.run(handlers, Object.assign({}, given.params, given.query, given.body) as Out<P> & Out<Q> & Out<B>),
  };
}
