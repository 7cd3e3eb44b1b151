import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { notifyReady } from './systemd.js';

const WAIT_MS = 20_000;

describe('systemd', () => {
  it('is told when there is a notify socket, and only then', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'neon-notify-'));
    try {
      const told = join(dir, 'told');
      const program = join(dir, 'systemd-notify');
      await writeFile(
        program,
        '#!/bin/sh\necho "$@" on "$NOTIFY_SOCKET" >"$0.tmp"; mv "$0.tmp" "$(dirname "$0")/told"\n',
      );
      await chmod(program, 0o755);
      const path = `${dir}:${process.env['PATH'] ?? ''}`;
      notifyReady({ PATH: path });
      notifyReady({ PATH: path, NOTIFY_SOCKET: '/run/notify' });
      const deadline = Date.now() + WAIT_MS;
      let text = '';
      while (text === '' && Date.now() < deadline) {
        await sleep(20);
        text = await readFile(told, 'utf8').catch(() => '');
      }
      assert.equal(text, `--pid=${process.pid} --ready on /run/notify\n`);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
