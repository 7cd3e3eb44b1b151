/**
 * Reads along what a compute answers to a start-up packet, until its BackendKeyData has come or the start is over; the bytes themselves go
 * through unchanged. Pure.
 *
 *   type u8 | length u32 (counts itself) | body          'K': pid u32, key u32    'Z': ready    'E': refused
 */
const HEADER_BYTES = 5;
const KEY_BODY_BYTES_MIN = 8;
/** Nothing a server says before it is ready is longer; from there on it would not be Postgres. */
const MESSAGE_BYTES_MAX = 1 << 20;
const TYPE = { key: 0x4b, ready: 0x5a };

export class BackendWatch {
  /** pid and key as a client sends them back to cancel: hex; null = not seen. */
  cancelKey: string | null = null;
  /** Nothing more is to be seen. */
  isDone = false;
  private header = Buffer.alloc(0);
  /** Bytes of the body that are still to come; collected only for the message that matters. */
  private left = 0;
  private type = 0;
  private body: Buffer[] = [];

  feed(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length && !this.isDone) {
      if (this.left === 0 && this.header.length < HEADER_BYTES) {
        const part = chunk.subarray(at, at + HEADER_BYTES - this.header.length);
        this.header = Buffer.concat([this.header, part]);
        at += part.length;
        if (this.header.length < HEADER_BYTES) return;
        this.startMessage();
      } else {
        const part = chunk.subarray(at, at + this.left);
        at += part.length;
        this.left -= part.length;
        if (this.type === TYPE.key) this.body.push(Buffer.from(part));
        if (this.left === 0) this.endMessage();
      }
    }
  }

  private startMessage(): void {
    this.type = this.header.readUInt8(0);
    const length = this.header.readUInt32BE(1);
    if (length < 4 || length > MESSAGE_BYTES_MAX || this.type === TYPE.ready) {
      this.isDone = true;
      return;
    }
    this.left = length - 4;
    if (this.left === 0) this.endMessage();
  }

  private endMessage(): void {
    this.header = Buffer.alloc(0);
    if (this.type !== TYPE.key) return;
    const body = Buffer.concat(this.body);
    if (body.length >= KEY_BODY_BYTES_MIN) this.cancelKey = body.toString('hex');
    this.isDone = true;
  }
}
