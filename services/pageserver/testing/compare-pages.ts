/** For tests: the pages that a page server serves against the files of a cluster that stock recovery made. */
import { strict as assert } from 'node:assert';
import type { Lsn } from '#shared/core/lsn.js';
import type { TempCluster } from '#shared/postgres/testing/temp-cluster.js';
import { FORK_FSM } from '../core/keyspace.js';
import type { ActiveTimeline } from '../tenant/active-timeline.js';
import { errorOf, PagestreamClient } from './pagestream-client.js';
import { fileBlocks } from './recorded-server.js';

/** Every page of every relation at `at`, asked through the libpq port, against the files of a recovered cluster. */
export async function comparePages(
  addr: string,
  timeline: ActiveTimeline,
  at: Lsn,
  requestLsn: Lsn,
  truth: TempCluster,
): Promise<number> {
  const client = await PagestreamClient.open(
    addr,
    `pagestream_v3 ${timeline.ttid.tenantId} ${timeline.ttid.timelineId}`,
  );
  let count = 0;
  for (const rel of await timeline.view.relations(at)) {
    const blocks = fileBlocks(truth, rel) ?? [];
    const name = `${rel.db}/${rel.rel}.${rel.fork}`;
    if (rel.fork === FORK_FSM) {
      // The free space map is not logged: pages must only be there.
      const pages = Array.from({ length: rel.sizeBlocks }, (_, block) => client.getPage(rel, block, { requestLsn }));
      assert.ok(
        (await Promise.all(pages)).every(({ tag }) => tag === 102),
        name,
      );
      continue;
    }
    assert.equal(rel.sizeBlocks, blocks.length, `size of ${name}`);
    const answers = await Promise.all(blocks.map((_, block) => client.getPage(rel, block, { requestLsn })));
    answers.forEach((answer, block) => {
      assert.equal(answer.tag, 102, answer.tag === 103 ? errorOf(answer) : '');
      assert.ok(answer.body.equals(blocks[block] ?? Buffer.alloc(0)), `${name} block ${block} differs`);
    });
    count += blocks.length;
  }
  client.close();
  return count;
}
