/** Every service can be explored and called by a foreign gRPC client that knows nothing but its address. */
import { strict as assert } from 'node:assert';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bufCurl } from '#shared/rpc/testing/buf-curl.js';
import { TestStack } from '../harness/stack.js';

/** All services of the package that this one belongs to, as the contracts have them. */
async function contract(service: string): Promise<string[]> {
  const name = service.slice(0, service.lastIndexOf('.'));
  const dir = join(import.meta.dirname, '../../proto', ...name.split('.'));
  const texts = await Promise.all((await readdir(dir)).map((file) => readFile(join(dir, file), 'utf8')));
  return texts.flatMap((text) => [...text.matchAll(/^service (\w+)/gm)].map(([, found]) => `${name}.${found}`));
}

describe('reflection', function () {
  this.timeout(120_000);
  let stack: TestStack;

  before(async () => {
    stack = await TestStack.start({ safekeepers: 1 });
    await stack.startCompute('main');
  });
  after(() => stack?.[Symbol.asyncDispose]());

  it('lists and calls the services of every process', async () => {
    const daemon = JSON.parse(await readFile(join(stack.repoDir, 'daemon.json'), 'utf8')) as { grpcAddr: string };
    const addr = async (name: string) => (await stack.service(name)).grpcAddr;
    const wanted: Array<[string, string]> = [
      [await addr('storage-broker'), 'neon.broker.v1.BrokerService'],
      [await addr('safekeeper-1'), 'neon.safekeeper.v1.SafekeeperService'],
      [await addr('pageserver'), 'neon.pageserver.v1.ManagementService'],
      [(await stack.compute('main')).grpcAddr, 'neon.compute.v1.ComputeService'],
      [daemon.grpcAddr, 'neon.control.v1.ControlService'],
    ];
    for (const [at, service] of wanted) {
      const listed = (await bufCurl('--list-services', `http://${at}`)).split('\n').sort();
      assert.deepEqual(listed, ['grpc.health.v1.Health', ...(await contract(service))].sort());
      const status = JSON.parse(await bufCurl('-d', '{}', `http://${at}/${service}/GetStatus`)) as object;
      assert.equal(typeof status, 'object');
      const health = await bufCurl('-d', `{"service":"${service}"}`, `http://${at}/grpc.health.v1.Health/Check`);
      assert.deepEqual(JSON.parse(health), { status: 'SERVING' });
    }
  });

  it('reads a page by hand', async () => {
    const compute = await stack.compute('main');
    const request = {
      ttid: { tenantId: compute.tenantId, timelineId: compute.timelineId },
      rel: { spcOid: 1664, dbOid: 0, relNumber: 1262, forkNumber: 0 },
      readLsn: {},
      blockNumbers: [0],
    };
    const { grpcAddr } = await stack.service('pageserver');
    const answer = await bufCurl(
      '-d',
      JSON.stringify(request),
      `http://${grpcAddr}/neon.pageserver.v1.PageService/GetPages`,
    );
    const parsed = JSON.parse(answer) as { status: string; pages: Array<{ image: string }> };
    assert.equal(parsed.status, 'GET_PAGE_STATUS_OK');
    assert.equal(Buffer.from(parsed.pages[0]?.image ?? '', 'base64').length, 8192);
  });
});
