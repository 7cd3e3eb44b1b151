/**
 * Assertions of our own invariants: on in production, and not to be caught: a broken invariant must stop the process before it
 * damages data. Bytes from peers, users and disks are not asserted but checked, and give a StorageError.
 */
export class AssertionFailure extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'AssertionFailure';
  }
}

/** `message` is a function because an eager template costs more than the check itself. */
export function assert(condition: boolean, message: () => string): asserts condition {
  if (!condition) throw new AssertionFailure(`broken invariant: ${message()}`);
}

/** For the default branch of a switch over a union. */
export function unreachable(value: never): never {
  throw new AssertionFailure(`unreachable case: ${JSON.stringify(value)}`);
}
