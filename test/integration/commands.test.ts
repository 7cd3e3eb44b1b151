/** The table of commands on a directory; on S3 it is in s3.test.ts. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describeCommandTable } from './command-table.js';

let root = '';
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'neon-commands-'));
  await chmod(root, 0o755);
});
after(() => rm(root, { recursive: true, force: true }));

const place = { type: 'native', at: (name: string) => join(root, name), flags: [], body: {} } as const;
describeCommandTable(
  'on a directory',
  () => place,
  () => root,
);
