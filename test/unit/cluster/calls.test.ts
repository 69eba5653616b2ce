import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { Outbox } from '#cluster';
import { AppError, isAppError, type Metainfo } from '#core';
import { firstAnswer } from '../../../services/lib/cluster/first-answer.ts';
import { ingestAtOwners } from '../../../services/lib/cluster/ingest.ts';
import { Lookup } from '../../../services/lib/cluster/lookup.ts';
import { deferred } from '../../integration/wire/mesh.ts';
import { blob } from '../../support/cluster-mesh.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const forever = new AbortController().signal;
const unavailable = new AppError('unavailable', 'down');
const member = (id: string) => ({ id, endpoint: `${id}:1` });
const members = ['a', 'b', 'c', 'd'].map(member);

describe('the first answer', () => {
  it('asks the next candidate when one fails, and tells who answered', async () => {
    const clock = new ManualClock();
    const ask = async (id: string): Promise<string> => {
      if (id === 'a') throw unavailable;
      return `from ${id}`;
    };
    assert.deepEqual(await firstAnswer(['a', 'b', 'c'], ask, { signal: forever, hedgeMs: 100 }, { clock }), {
      ok: true,
      from: 'b',
      value: 'from b',
    });
    assert.equal(clock.pendingCount, 0);
  });

  it('asks the next candidate beside a slow one and aborts who lost', async () => {
    const clock = new ManualClock();
    const lost: string[] = [];
    const gate = deferred<string>();
    const ask = (id: string, { signal }: { readonly signal: AbortSignal }): Promise<string> => {
      signal.addEventListener('abort', () => lost.push(id));
      return id === 'a' ? deferred<string>().promise : gate.promise;
    };
    const answer = firstAnswer(['a', 'b'], ask, { signal: forever, hedgeMs: 100 }, { clock });
    clock.advance(100);
    gate.resolve('b');
    assert.deepEqual(await answer, { ok: true, from: 'b', value: 'b' });
    assert.ok(lost.includes('a'));
  });

  it('gives every error when all failed, and nothing when there is nobody', async () => {
    const clock = new ManualClock();
    const ask = async (): Promise<string> => {
      throw unavailable;
    };
    const answer = await firstAnswer(['a', 'b'], ask, { signal: forever, hedgeMs: 100 }, { clock });
    assert.deepEqual(answer, { ok: false, errors: [unavailable, unavailable] });
    assert.deepEqual(await firstAnswer([], ask, { signal: forever, hedgeMs: 100 }, { clock }), { ok: false, errors: [] });
  });

  it('ends with the reason of the caller', async () => {
    const abort = new AbortController();
    const ask = (): Promise<string> => deferred<string>().promise;
    const answer = firstAnswer(['a'], ask, { signal: abort.signal, hedgeMs: 100 }, { clock: new ManualClock() });
    abort.abort(new AppError('cancelled', 'went away'));
    await assert.rejects(answer, { message: 'went away' });
  });
});

describe('an ingest', () => {
  const plan = { candidates: members, replicas: 3, quorum: 2 };
  const clock = new ManualClock();

  it('asks as many as there are replicas at once and keeps the others in reserve', async () => {
    const asked: string[] = [];
    const ask = async ({ id }: { readonly id: string }): Promise<void> => {
      asked.push(id);
    };
    const { acknowledged, settled } = await ingestAtOwners(plan, ask, { signal: forever, background: forever, clock });
    await settled;
    assert.deepEqual(asked, ['a', 'b', 'c']);
    assert.ok(acknowledged.length >= 2);
  });

  it('asks those beyond the quorum when the quorum holds the blob', async () => {
    const asked: string[] = [];
    const gate = deferred();
    const ask = async ({ id }: { readonly id: string }): Promise<void> => {
      asked.push(id);
      await gate.promise;
    };
    const outcome = ingestAtOwners({ ...plan, restAfterMs: 100 }, ask, { signal: forever, background: forever, clock });
    await turn();
    assert.deepEqual(asked, ['a', 'b']);
    gate.resolve();
    const { acknowledged, settled } = await outcome;
    assert.deepEqual(acknowledged, members.slice(0, 2));
    await settled;
    assert.deepEqual(asked, ['a', 'b', 'c']);
    assert.equal(clock.pendingCount, 0);
  });

  it('asks them beside a member that is late, and another in the place of one that fails', async () => {
    const asked: string[] = [];
    const ask = async ({ id }: { readonly id: string }): Promise<void> => {
      asked.push(id);
      if (id === 'a') throw unavailable;
      if (id === 'b') await deferred().promise;
    };
    const outcome = ingestAtOwners({ ...plan, restAfterMs: 100 }, ask, { signal: forever, background: forever, clock });
    await turn();
    assert.deepEqual(asked, ['a', 'b', 'c']);
    clock.advance(100);
    const { acknowledged } = await outcome;
    assert.deepEqual(asked, ['a', 'b', 'c', 'd']);
    assert.deepEqual(
      acknowledged.map(({ id }) => id),
      ['c', 'd'],
    );
  });

  it('goes on behind the caller: its abort after the answer stops nothing', async () => {
    const gate = deferred();
    const caller = new AbortController();
    let stopped = false;
    const ask = async ({ id }: { readonly id: string }, { signal }: { readonly signal: AbortSignal }): Promise<void> => {
      signal.addEventListener('abort', () => {
        stopped = true;
      });
      if (id === 'c') await gate.promise;
    };
    const { settled } = await ingestAtOwners(plan, ask, { signal: caller.signal, background: forever, clock });
    caller.abort();
    gate.resolve();
    await settled;
    assert.equal(stopped, false);
  });

  it('stops every owner when the caller leaves before the answer', async () => {
    const caller = new AbortController();
    let stoppedCount = 0;
    const ask = (_: unknown, { signal }: { readonly signal: AbortSignal }): Promise<void> =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          stoppedCount += 1;
          reject(unavailable);
        });
      });
    const outcome = ingestAtOwners(plan, ask, { signal: caller.signal, background: forever, clock });
    caller.abort(new AppError('cancelled', 'went away'));
    await assert.rejects(outcome, { message: 'went away' });
    await turn();
    assert.equal(stoppedCount, 3, 'and nobody takes their place');
  });

  it('fails as soon as the quorum is out of reach, with how many of how many', async () => {
    const ask = async ({ id }: { readonly id: string }): Promise<void> => {
      if (id === 'a') return deferred().promise;
      throw unavailable;
    };
    await assert.rejects(ingestAtOwners(plan, ask, { signal: forever, background: forever, clock }), (error) => {
      assert.ok(isAppError(error, 'unavailable'));
      assert.deepEqual(error.data, { acknowledged: 0, needed: 2 });
      return true;
    });
  });

  it('tells what is wrong with the blob rather than how many failed', async () => {
    const ask = async (): Promise<void> => {
      throw new AppError('digest-mismatch', 'other bytes');
    };
    await assert.rejects(ingestAtOwners(plan, ask, { signal: forever, background: forever, clock }), { code: 'digest-mismatch' });
  });
});

describe('a lookup', () => {
  const metainfo = blob('layer');
  function lookup(trackerAsked: boolean, askOwners: () => Promise<Metainfo>) {
    const clock = new ManualClock();
    const askedOwners: number[] = [];
    const deps = {
      clock,
      askOwners: async () => {
        askedOwners.push(clock.nowMs());
        return askOwners();
      },
      owners: () => [],
    };
    return { clock, askedOwners, lookup: new Lookup(metainfo.digest, trackerAsked, { hedgeMs: 300, graceMs: 2000 }, deps) };
  }

  it('leaves the owners alone when the tracker answers in time', async () => {
    const { lookup: one, clock, askedOwners } = lookup(true, async () => metainfo);
    const result = one.join({ signal: forever });
    clock.advance(299);
    one.offered(metainfo, []);
    assert.equal((await result).metainfo, metainfo);
    clock.advance(10_000);
    assert.deepEqual([askedOwners, clock.pendingCount], [[], 0]);
  });

  it('asks the owners after 300 ms of silence, and at once without a tracker or when it fails', async () => {
    const slow = lookup(true, async () => metainfo);
    slow.clock.advance(300);
    await slow.lookup.join({ signal: forever });
    assert.deepEqual(slow.askedOwners, [300]);
    const without = lookup(false, async () => metainfo);
    await without.lookup.join({ signal: forever });
    assert.deepEqual(without.askedOwners, [0]);
    const failed = lookup(true, async () => metainfo);
    failed.lookup.trackerFailed();
    await failed.lookup.join({ signal: forever });
    assert.deepEqual(failed.askedOwners, [0]);
  });

  it('still takes the answer of the tracker after the owners could not answer', async () => {
    const { lookup: one, clock } = lookup(true, async () => {
      throw unavailable;
    });
    const result = one.join({ signal: forever });
    clock.advance(300);
    await turn();
    clock.advance(1000);
    one.offered(metainfo, []);
    assert.equal((await result).metainfo, metainfo);
  });

  it('is unavailable when neither answers', async () => {
    const { lookup: one, clock } = lookup(true, async () => {
      throw unavailable;
    });
    const result = one.join({ signal: forever });
    clock.advance(300);
    await turn();
    clock.advance(2000);
    await assert.rejects(result, (error) => isAppError(error, 'unavailable'));
  });

  it('goes on while somebody waits, and ends when nobody does', async () => {
    const { lookup: one } = lookup(true, () => deferred<Metainfo>().promise);
    const [first, second] = [new AbortController(), new AbortController()];
    const [left, stays] = [one.join({ signal: first.signal }), one.join({ signal: second.signal })];
    let ended = false;
    void one.ended.then(() => {
      ended = true;
    });
    first.abort(new AppError('cancelled', 'left'));
    await assert.rejects(left, { message: 'left' });
    assert.equal(ended, false);
    second.abort(new AppError('cancelled', 'left as well'));
    await assert.rejects(stays, { message: 'left as well' });
    await turn();
    assert.equal(ended, true);
  });
});

describe('an outbox', () => {
  it('keeps one message for a key, the latest, in its old place', async () => {
    const outbox = new Outbox<string, number>();
    outbox.set('a', 1);
    outbox.set('b', 2);
    outbox.set('a', 3);
    const taken: (readonly [string, number])[] = [];
    for await (const entry of outbox) {
      taken.push(entry);
      if (taken.length === 2) break;
    }
    assert.deepEqual(taken, [
      ['a', 3],
      ['b', 2],
    ]);
  });

  it('wakes its reader with a message and with its end', async () => {
    const outbox = new Outbox<string, number>();
    const reader = outbox[Symbol.asyncIterator]();
    const first = reader.next();
    outbox.set('a', 1);
    assert.deepEqual(await first, { done: false, value: ['a', 1] });
    const second = reader.next();
    outbox.close(unavailable);
    await assert.rejects(second, unavailable);
  });

  it('lets a writer wait until less is queued', async () => {
    const outbox = new Outbox<string, number>();
    outbox.set('a', 1);
    outbox.set('b', 2);
    let released = false;
    const waiting = outbox.below(2).then(() => {
      released = true;
    });
    await turn();
    assert.equal(released, false);
    await outbox[Symbol.asyncIterator]().next();
    await waiting;
    assert.equal(released, true);
  });
});
