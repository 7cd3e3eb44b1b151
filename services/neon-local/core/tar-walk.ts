/**
 * Walks along a ustar archive and keeps one entry of it. Pure.
 *
 *   header 512: name 0..100, size (octal) 124..136, prefix 345..500   content, padded to 512
 */
const BLOCK = 512;

function text(header: Buffer, from: number, to: number): string {
  const field = header.subarray(from, to);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? field.length : end);
}

export class TarWalk {
  /** Where the wanted entry begins; -1 = not seen. */
  foundAt = -1;
  private readonly wanted: string;
  private offset = 0;
  private header: Buffer = Buffer.alloc(0);
  private left = 0;
  private isWanted = false;
  private readonly found: Buffer[] = [];

  constructor(wanted: string) {
    this.wanted = wanted;
  }

  /** Header and padded content of the wanted entry. */
  get entry(): Buffer {
    return Buffer.concat(this.found);
  }

  feed(bytes: Buffer): void {
    for (let at = 0; at < bytes.length;) {
      const want = this.left > 0 ? this.left : BLOCK - this.header.length;
      const part = bytes.subarray(at, at + want);
      at += part.length;
      this.offset += part.length;
      if (this.left > 0) {
        this.left -= part.length;
        if (this.isWanted) this.found.push(Buffer.from(part));
        if (this.left === 0) this.isWanted = false;
      } else {
        this.header = Buffer.concat([this.header, part]);
        if (this.header.length === BLOCK) this.startEntry();
      }
    }
  }

  private startEntry(): void {
    const { header } = this;
    this.header = Buffer.alloc(0);
    const prefix = text(header, 345, 500);
    const name = (prefix === '' ? '' : `${prefix}/`) + text(header, 0, 100);
    const sizeBytes = Number.parseInt(text(header, 124, 136).trim() || '0', 8);
    this.left = Math.ceil(sizeBytes / BLOCK) * BLOCK;
    if (name.replace(/^\.\//, '') !== this.wanted) return;
    this.isWanted = this.left > 0;
    this.foundAt = this.offset - BLOCK;
    this.found.push(header);
  }
}
