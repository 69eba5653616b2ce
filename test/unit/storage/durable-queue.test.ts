import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { AppError, isAppError, SeededRng, silentLogger } from '#core';
import { DurableQueue, type DurableQueueOptions, type EmbeddedDb, openDatabase, type QueueWorker } from '#storage';
import { DueHeap } from '../../../services/lib/storage/due-heap.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { tempDir, until } from '../../support/storage-fixtures.ts';

interface Setting {
  readonly queue: DurableQueue<string>;
  readonly clock: ManualClock;
  readonly db: EmbeddedDb;
  /** Starts a run that the test's end stops. */
  readonly run: (worker: QueueWorker<string>, concurrency?: number) => () => Promise<void>;
}

const decode = (value: unknown): string => {
  if (typeof value !== 'string') throw new AppError('data-loss', 'not a text');
  return value;
};

async function setUp(t: TestContext, more: Partial<DurableQueueOptions<string>> & { clock?: ManualClock } = {}): Promise<Setting> {
  const { clock = new ManualClock(), ...options } = more;
  const db = options.db ?? (await openDatabase(await tempDir(t)));
  const queue = await DurableQueue.open({ name: 'work', decode, ...options, db }, { clock, rng: new SeededRng(1), logger: silentLogger });
  const stops: (() => Promise<void>)[] = [];
  t.after(async () => {
    for (const stop of stops) await stop();
    if (options.db === undefined) await db.close();
  });
  const run: Setting['run'] = (worker, concurrency = 1) => {
    const abort = new AbortController();
    const running = queue.run(worker, { concurrency, signal: abort.signal });
    const stop = async (): Promise<void> => {
      abort.abort();
      await running;
    };
    stops.push(stop);
    return stop;
  };
  return { queue, clock, db, run };
}

test('tasks run in the order they were added and leave the queue', async (t) => {
  const { queue, run } = await setUp(t);
  for (const key of ['b', 'a', 'c']) await queue.enqueue(key, `do ${key}`);
  const done: string[] = [];
  run(async (payload, { key }) => void done.push(`${key}: ${payload}`));
  await until(() => queue.size() === 0);
  await queue.enqueue('d', 'do d');
  await until(() => queue.size() === 0);
  assert.deepEqual(done, ['b: do b', 'a: do a', 'c: do c', 'd: do d']);
});

test('no more tasks run at once than workers', async (t) => {
  const { queue, run } = await setUp(t);
  for (let i = 0; i < 10; i += 1) await queue.enqueue(`${i}`, '');
  let running = 0;
  let most = 0;
  run(async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise<void>((resolve) => setImmediate(resolve));
    running -= 1;
  }, 3);
  await until(() => queue.size() === 0);
  assert.equal(most, 3);
});

test('a failing task is tried again after growing pauses with jitter, up to the longest, and is kept and reported', async (t) => {
  const { queue, clock, run } = await setUp(t, { backoffMinMs: 1000, backoffMaxMs: 8000, stuckAttempts: 4 });
  const atMs: number[] = [];
  await queue.enqueue('poison', 'x');
  run(async () => {
    atMs.push(clock.nowMs());
    throw new AppError('unavailable', 'the backend is down');
  });
  for (let attempt = 1; attempt <= 6; attempt += 1) {
    await until(() => queue.list({ limit: 1 })[0]?.attempts === attempt && clock.pendingCount === 1);
    assert.equal(queue.list({ limit: 1 })[0]?.stuck, attempt >= 4);
    const { dueMs } = queue.list({ limit: 1 })[0] ?? { dueMs: Number.NaN };
    clock.advance(dueMs - clock.wallMs() - 1);
    assert.equal(atMs.length, attempt);
    clock.advance(1);
  }
  await until(() => queue.list({ limit: 1 })[0]?.attempts === 7);
  for (const [index, fullMs] of [1000, 2000, 4000, 8000, 8000, 8000].entries()) {
    const pauseMs = (atMs[index + 1] ?? Number.NaN) - (atMs[index] ?? Number.NaN);
    assert.ok(pauseMs >= fullMs / 2 && pauseMs <= fullMs, `pause ${index} of ${pauseMs} ms`);
  }
  assert.equal(queue.list({ limit: 1 })[0]?.lastError, 'unavailable: the backend is down');
  assert.equal(queue.size(), 1);
});

test('a failing task does not hold up the others', async (t) => {
  const { queue, run } = await setUp(t);
  for (const key of ['bad', 'good']) await queue.enqueue(key, key);
  run(async (payload) => {
    if (payload === 'bad') throw new Error('no');
  });
  await until(() => !queue.has('good'));
  assert.ok(queue.has('bad'));
});

test('the pause an error asks for is respected', async (t) => {
  const { queue, clock, run } = await setUp(t, { backoffMinMs: 10 });
  await queue.enqueue('a', 'x');
  run(() => Promise.reject(new AppError('resource-exhausted', 'slow down', { retryAfterMs: 60_000 })));
  await until(() => queue.list({ limit: 1 })[0]?.attempts === 1);
  assert.equal(queue.list({ limit: 1 })[0]?.dueMs, clock.wallMs() + 60_000);
});

test('adding a task again changes nothing; another payload replaces it, also while the old one runs', async (t) => {
  const { queue, run } = await setUp(t);
  const done: string[] = [];
  await queue.enqueue('a', 'old');
  await queue.enqueue('a', 'old');
  assert.equal(queue.size(), 1);
  let replaced = false;
  run(async (payload) => {
    if (!replaced) {
      replaced = true;
      await queue.enqueue('a', 'new');
    }
    done.push(payload);
  }, 4);
  await until(() => queue.size() === 0);
  assert.deepEqual(done, ['old', 'new']);
});

test('tasks, attempts and errors survive a restart, and what cannot be read is kept and reported', async (t) => {
  const first = await setUp(t);
  await first.queue.enqueue('bad', 'x');
  const stop = first.run(() => Promise.reject(new AppError('unavailable', 'down')));
  await until(() => first.queue.list({ limit: 1 })[0]?.attempts === 1 && first.clock.pendingCount === 1);
  await stop();
  await first.queue.enqueue('good', 'y');
  await first.db.openDB<unknown, string>({ name: 'work', encoding: 'json' }).put('odd', {
    payload: 7,
    attempts: 0,
    enqueuedMs: 0,
    dueMs: 0,
    lastError: null,
  });
  const before = first.queue.list({ limit: 9 });

  const second = await setUp(t, { db: first.db, clock: first.clock });
  assert.deepEqual(second.queue.list({ limit: 9 }).slice(0, 2), before);
  const done: string[] = [];
  const stopSecond = second.run(async (payload) => void done.push(payload));
  await until(() => done.length === 1 && second.queue.list({ limit: 9 })[1]?.attempts === 1);
  second.clock.advance(1000);
  await until(() => second.queue.size() === 1);
  assert.deepEqual(done, ['y', 'x']);
  assert.match(second.queue.list({ limit: 1 })[0]?.lastError ?? '', /not a text/);
  // The first setting closes the database at the test's end.
  await stopSecond();
});

test('an attempt that ends because the run stops does not count', async (t) => {
  const { queue, run } = await setUp(t);
  await queue.enqueue('a', 'x');
  let started = false;
  const stop = run((_payload, { signal }) => {
    started = true;
    return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  await until(() => started);
  assert.equal(queue.list({ limit: 1 })[0]?.running, true);
  await stop();
  assert.equal(queue.list({ limit: 1 })[0]?.attempts, 0);
  run(async () => undefined);
  await until(() => queue.size() === 0);
});

test('an operator can bring a task forward and give one up', async (t) => {
  const { queue, clock, run } = await setUp(t);
  await queue.enqueue('a', 'x');
  let attempts = 0;
  run(async () => {
    attempts += 1;
    throw new Error('no');
  });
  await until(() => queue.list({ limit: 1 })[0]?.attempts === 1 && clock.pendingCount === 1);
  assert.equal(await queue.retryNow('a'), true);
  await until(() => attempts === 2);
  assert.equal(await queue.remove('a'), true);
  assert.equal(await queue.remove('a'), false);
  assert.equal(await queue.retryNow('a'), false);
  assert.equal(queue.size(), 0);
});

test('a task that waits can be hastened, never put off, and not once it has failed', async (t) => {
  const { queue, clock, run } = await setUp(t);
  for (const key of ['slow', 'failing']) await queue.enqueue(key, key, { delayMs: 60_000 });
  const done: string[] = [];
  let failing = true;
  run(async (payload) => {
    if (payload === 'failing' && failing) throw new AppError('unavailable', 'not now', { retryAfterMs: 30_000 });
    done.push(payload);
  }, 2);
  await queue.hasten('slow', 90_000);
  await queue.hasten('slow', 20_000);
  await queue.hasten('slow', 40_000);
  await queue.hasten('nobody', 0);
  clock.advance(19_999);
  await queue.hasten('failing', 0);
  await until(() => queue.list({ limit: 2 })[1]?.attempts === 1);
  assert.deepEqual(done, []);
  clock.advance(1);
  await until(() => done.length === 1);
  failing = false;
  await queue.hasten('failing', 0);
  clock.advance(29_000);
  for (let turn = 0; turn < 200; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
  assert.equal(queue.size(), 1);
  clock.advance(1000);
  await until(() => queue.size() === 0);
  assert.deepEqual(done, ['slow', 'failing']);
});

test('keys come in their own order, after one whether it is there or not', async (t) => {
  const { queue } = await setUp(t);
  for (const key of ['c', 'a', 'd', 'b']) await queue.enqueue(key, key);
  assert.deepEqual(queue.keys({ limit: 3 }), ['a', 'b', 'c']);
  await queue.remove('b');
  assert.deepEqual(queue.keys({ limit: 3, after: 'b' }), ['c', 'd']);
});

test('a full queue refuses and drops nothing', async (t) => {
  const { queue } = await setUp(t, { tasksMax: 2 });
  for (const key of ['a', 'b']) await queue.enqueue(key, 'x');
  await assert.rejects(queue.enqueue('c', 'x'), { code: 'resource-exhausted' });
  await queue.enqueue('a', 'y');
  assert.deepEqual(
    queue.list({ limit: 9, after: 'a' }).map((task) => task.key),
    ['b'],
  );
});

test('the heap gives back what is due first, and what is due together in order', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 9 })), (dues) => {
      const heap = new DueHeap<number>();
      for (const [index, dueMs] of dues.entries()) heap.push(dueMs, index);
      const out: number[] = [];
      for (let item = heap.peek(); item !== undefined; item = heap.peek()) {
        out.push(item.value);
        heap.pop();
      }
      const sorted = dues.map((dueMs, index) => ({ dueMs, index })).sort((a, b) => a.dueMs - b.dueMs || a.index - b.index);
      assert.deepEqual(
        out,
        sorted.map((item) => item.index),
      );
    }),
  );
});

test('a task that is enqueued again while it runs runs once more', async (t) => {
  const { queue, run } = await setUp(t);
  await queue.enqueue('key', 'same');
  let runs = 0;
  let isOpen = false;
  run(async () => {
    runs += 1;
    await until(() => isOpen);
  });
  await until(() => runs === 1);
  await queue.enqueue('key', 'same');
  isOpen = true;
  await until(() => queue.size() === 0);
  assert.equal(runs, 2);
});

test('what the disk did not take is not in the queue', async (t) => {
  const { queue, db } = await setUp(t);
  await queue.enqueue('kept', 'old');
  const before = queue.list({ limit: 10 });
  const { transaction } = db;
  db.transaction = async () => {
    throw new Error('Commit failed');
  };
  await assert.rejects(queue.enqueue('new', 'x'), (error) => isAppError(error, 'unavailable'));
  const racing = await Promise.allSettled([queue.enqueue('both', 'x'), queue.enqueue('both', 'x')]);
  await assert.rejects(queue.enqueue('kept', 'other'), (error) => isAppError(error, 'unavailable'));
  await assert.rejects(queue.retryNow('kept'), (error) => isAppError(error, 'unavailable'));
  await assert.rejects(queue.remove('kept'), (error) => isAppError(error, 'unavailable'));
  assert.deepEqual(
    racing.map(({ status }) => status),
    ['rejected', 'rejected'],
  );
  assert.deepEqual(queue.list({ limit: 10 }), before);
  db.transaction = transaction;
  await queue.enqueue('kept', 'old');
  await queue.enqueue('new', 'x');
  assert.equal(queue.size(), 2);
});
