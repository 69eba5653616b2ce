import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type PeerLimits, peerLimits, peerOptions } from '#peer';

test('every default lies inside its bounds and every bound is enforced', () => {
  const defaults = peerOptions();
  for (const [name, { default: fallback, min, max }] of Object.entries(peerLimits)) {
    assert.equal(defaults[name as keyof PeerLimits], fallback);
    assert.equal(peerOptions({ [name]: min })[name as keyof PeerLimits], min);
    for (const wrong of [min - 1, max + 1, min + 0.5, Number.NaN]) {
      assert.throws(() => peerOptions({ [name]: wrong }), { code: 'invalid-argument' }, `${name} = ${wrong}`);
    }
  }
  assert.throws(() => peerOptions({ swarm: { serveConcurrency: 0 } }), { code: 'invalid-argument' });
});
