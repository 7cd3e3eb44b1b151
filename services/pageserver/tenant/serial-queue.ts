/** Runs actions one after the other, in the order in which they were given. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();
  #pending = 0;

  get isIdle(): boolean {
    return this.#pending === 0;
  }

  run<T>(act: () => Promise<T>): Promise<T> {
    this.#pending++;
    const turn = this.#last.then(act).finally(() => this.#pending--);
    this.#last = turn.catch(() => undefined);
    return turn;
  }
}

/** `act` on every item, at most `limit` at a time. Rejects with the first failure. */
export async function forEachLimited<T>(
  items: Iterable<T>,
  limit: number,
  act: (item: T) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = iterator.next(); next.done !== true; next = iterator.next()) await act(next.value);
  };
  await Promise.all(Array.from({ length: limit }, worker));
}
