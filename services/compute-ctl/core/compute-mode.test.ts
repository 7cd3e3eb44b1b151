import { strict as assert } from 'node:assert';
import { parseComputeMode, primaryConninfo } from './compute-mode.js';

describe('compute mode', () => {
  it('reads the three forms and refuses others', () => {
    assert.deepEqual(parseComputeMode('Primary'), { kind: 'primary' });
    assert.deepEqual(parseComputeMode('Replica'), { kind: 'replica' });
    assert.deepEqual(parseComputeMode({ Static: '16/B374D848' }), { kind: 'static', lsn: 0x16_b374d848 });
    for (const wrong of ['Static', {}, { Static: 5 }, { Static: 'x' }, null, 'primary']) {
      assert.throws(() => parseComputeMode(wrong), /mode|LSN/, JSON.stringify(wrong));
    }
  });

  it('names all safekeepers to libpq, IPv6 ones too', () => {
    const names = { tenantId: 'aa', timelineId: 'bb', name: "it's" };
    assert.equal(
      primaryConninfo({ safekeepers: ['sk1:5454', '[::1]:5455'], ...names }),
      "host='sk1,::1' port='5454,5455' user=replica sslmode=disable connect_timeout=5 application_name='it\\'s' " +
        "options='-c tenant_id=aa -c timeline_id=bb'",
    );
  });
});
