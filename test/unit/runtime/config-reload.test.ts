import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigReload, parseSwarmSetting, swarmPart } from '#runtime';

const defaults = swarmPart.parse({});

function fixture(started: object, file: () => object) {
  const reload = new ConfigReload(started, file);
  const applied: unknown[] = [];
  let current = defaults;
  reload.part('swarm', {
    schema: swarmPart,
    current: () => current,
    apply: (value) => {
      current = value;
      applied.push(value);
    },
  });
  return { reload, applied };
}

test('what can change while the process runs is applied, the rest is named', () => {
  const swarm = { ...defaults, egressPerSecond: 5000 };
  const started = { swarm: defaults, log: { level: 'info', pretty: false }, trackers: [{ id: 't1' }], same: [1] };
  const { reload, applied } = fixture(started, () => ({
    ...started,
    swarm,
    log: { level: 'debug', pretty: false },
    trackers: [{ id: 't2' }],
    fresh: 1,
  }));
  const { changes, restartKeys } = reload.reload();
  assert.deepEqual(changes, [{ key: 'swarm.egressPerSecond', before: 0, after: 5000 }]);
  assert.deepEqual(restartKeys.toSorted(), ['fresh', 'log.level', 'trackers']);
  assert.deepEqual(applied, [swarm]);
  assert.deepEqual(reload.reload().changes, [], 'a second reload finds nothing new');
});

test('a file that is not valid changes nothing', () => {
  const { reload, applied } = fixture({ swarm: defaults }, () => {
    throw new Error('not valid');
  });
  assert.throws(() => reload.reload(), /not valid/);
  assert.deepEqual(applied, []);
});

test('limits are found by their names, in short, and by mistake', () => {
  assert.equal(parseSwarmSetting('egress'), 'egressPerSecond');
  assert.equal(parseSwarmSetting('inboundlinks'), 'inboundLinks');
  assert.throws(() => parseSwarmSetting('inboundLink'), /did you mean inboundLinks\?/);
  assert.throws(() => parseSwarmSetting('colour'), /there are: outboundLinks/);
});
