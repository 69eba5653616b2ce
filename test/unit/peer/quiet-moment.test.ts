import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QuietMoment } from '../../../services/lib/peer/quiet-moment.ts';
import { ManualClock } from '../../support/manual-clock.ts';

function waiting(moment: QuietMoment): { came: boolean } {
  const state = { came: false };
  void moment.come().then(() => {
    state.came = true;
  });
  return state;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('a quiet moment comes when nothing has gone on for 100 ms', async () => {
  const clock = new ManualClock();
  const moment = new QuietMoment({ clock });
  const first = waiting(moment);
  moment.busy();
  clock.advance(100);
  await turn();
  assert.equal(first.came, false);
  const second = waiting(moment);
  clock.advance(99);
  await turn();
  assert.equal(first.came, false);
  clock.advance(1);
  await turn();
  assert.deepEqual([first.came, second.came], [true, true]);
});

test('however busy it is, nobody waits longer than 2 s, the next time neither', async () => {
  const clock = new ManualClock();
  const moment = new QuietMoment({ clock });
  for (let time = 0; time < 2; time += 1) {
    const one = waiting(moment);
    for (let round = 1; round <= 20; round += 1) {
      assert.equal(one.came, false);
      moment.busy();
      clock.advance(100);
      await turn();
    }
    assert.equal(one.came, true);
  }
});

test('nobody waits once it is to be now', async () => {
  const moment = new QuietMoment({ clock: new ManualClock() });
  const one = waiting(moment);
  moment.now();
  await turn();
  assert.equal(one.came, true);
});
