import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { HeldBlob, IndexState } from '#cluster';
import { AppError, type Digest, digestOf, nullMeter, SeededRng, silentLogger } from '#core';
import { Ring, shouldTake } from '#placement';
import { MemoryBlobStore } from '#storage';
import { BlobsInUse } from '../../../services/origin/blobs-in-use.ts';
import { Repairer, type RepairerOptions } from '../../../services/origin/repair/repairer.ts';
import { survey } from '../../../services/origin/repair/survey.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf, type TestBlob, until } from '../../support/storage-fixtures.ts';

const sizeBytes = 1000;
const blobs: readonly TestBlob[] = Array.from({ length: 40 }, (_, seed) => blobOf(seed, sizeBytes));
const minuteMs = 60_000;

interface MeshOptions extends Partial<RepairerOptions> {
  readonly replicas?: number;
  readonly capacityBytes?: number;
  readonly hasStorage?: boolean;
  readonly withIndex?: boolean;
}

/** Origins o1 to o4 in memory; o1 repairs. */
class RepairMesh {
  readonly clock = new ManualClock();
  readonly ring = new Ring(['o1', 'o2', 'o3', 'o4'].map((id) => ({ id, endpoint: `${id}:1` })));
  readonly stores = new Map<string, MemoryBlobStore>();
  readonly down = new Set<string>();
  /** Blobs that wait to be written to storage, at everybody. */
  readonly pending = new Set<Digest>();
  /** What no repository shows. */
  readonly unwanted = new Set<Digest>();
  /** In the order in which they were asked for; each says that the caller has lost it. */
  readonly fetched: Digest[] = [];
  readonly inUse = new BlobsInUse();
  known: IndexState | undefined = { id: 'index', version: 1n };
  indexAnswers = true;
  onFetch: (digest: Digest, signal: AbortSignal) => Promise<void> = async () => undefined;
  readonly repairer: Repairer;
  readonly #listeners = new Set<(id: string, state: 'up' | 'down') => void>();
  readonly #replicas: number;

  constructor(t: TestContext, { replicas = 2, capacityBytes = 1e9, hasStorage = false, withIndex = true, ...options }: MeshOptions = {}) {
    const { clock } = this;
    this.#replicas = replicas;
    for (const { id } of this.ring.members) this.stores.set(id, new MemoryBlobStore({ capacityBytes }, { clock }));
    this.repairer = new Repairer(
      { self: 'o1', intervalMs: 10 * minuteMs, downAfterMs: 30_000, bytesPerSec: 0, ...options },
      {
        origins: this.#origins(),
        store: this.store('o1'),
        keeper: { takeFromOthers: async ({ metainfo }) => this.put('o1', blobOfDigest(metainfo.digest)) },
        inUse: this.inUse,
        marks: { index: () => this.known, setIndex: async () => undefined },
        index: withIndex ? { findUnreferencedBlobs: async (digests) => this.#verdict(digests) } : undefined,
        hasStorage,
        clock,
        rng: new SeededRng(1),
        logger: silentLogger,
        meter: nullMeter,
      },
    );
    const abort = new AbortController();
    const running = this.repairer.run({ signal: abort.signal });
    t.after(async () => {
      abort.abort();
      await running;
    });
  }

  store(id: string): MemoryBlobStore {
    const store = this.stores.get(id);
    assert.ok(store !== undefined);
    return store;
  }

  async put(id: string, blob: TestBlob): Promise<void> {
    await this.store(id).put(blob.metainfo.digest, blob.bytes, { fsync: true });
  }

  /** Every blob at its owners, but o1 has lost all of its own. Returns those. */
  async fill(list = blobs): Promise<readonly Digest[]> {
    const lost: Digest[] = [];
    for (const blob of list) {
      for (const { id } of this.owners(blob.metainfo.digest)) {
        if (id === 'o1') lost.push(blob.metainfo.digest);
        else await this.put(id, blob);
      }
    }
    assert.ok(lost.length > 2, 'the test has something to repair');
    return lost.sort();
  }

  owners(digest: Digest): readonly { readonly id: string }[] {
    return this.ring.order(digest).slice(0, this.#replicas);
  }

  held(): readonly Digest[] {
    return this.store('o1')
      .list({ limit: 1000 })
      .map(({ digest }) => digest);
  }

  setHealth(id: string, state: 'up' | 'down'): void {
    if (state === 'down') this.down.add(id);
    else this.down.delete(id);
    for (const listener of this.#listeners) listener(id, state);
  }

  /** Lets time pass, in steps of at most `stepMs`, and what has come due do its work, which is in memory alone. */
  async advance(ms: number, stepMs = ms): Promise<void> {
    for (let leftMs = ms; leftMs > 0; leftMs -= stepMs) {
      this.clock.advance(Math.min(stepMs, leftMs));
      await this.settle();
    }
  }

  async settle(): Promise<void> {
    for (let turn = 0; turn < 200; turn += 1) await new Promise<void>((resolve) => setImmediate(resolve));
  }

  #origins() {
    const { ring } = this;
    return {
      members: () => ring.members.map((member) => ({ ...member, healthy: !this.down.has(member.id) })),
      listBlobs: async ({ id }: { readonly id: string }, page: { readonly limit: number; readonly after?: Digest }) => {
        if (this.down.has(id)) throw new AppError('unavailable', 'it is down');
        const list = this.store(id).list(page);
        const held = list.map(({ digest }) => ({ digest, sizeBytes, writeBackPending: this.pending.has(digest) }));
        return { blobs: held, next: list.length < page.limit ? undefined : list.at(-1)?.digest };
      },
      findLost: async (digest: Digest, holders: readonly string[], { signal }: { readonly signal: AbortSignal }) => {
        this.fetched.push(digest);
        await this.onFetch(digest, signal);
        assert.ok(holders.every((id) => this.store(id).stat(digest) !== undefined));
        return { metainfo: blobOfDigest(digest).metainfo, holders: [] };
      },
      shouldTake: (digest: Digest, holders: readonly string[], isPresent: (id: string) => boolean) =>
        shouldTake({ ring, replicas: this.#replicas, self: 'o1', isPresent }, digest, holders),
      onHealthChange: (listener: (id: string, state: 'up' | 'down') => void) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
    };
  }

  #verdict(digests: readonly Digest[]) {
    if (!this.indexAnswers) throw new AppError('unavailable', 'the build-index does not answer');
    return { digests: digests.filter((digest) => this.unwanted.has(digest)), index: { id: 'index', version: 2n } };
  }
}

function blobOfDigest(digest: Digest): TestBlob {
  const found = blobs.find(({ metainfo }) => metainfo.digest === digest);
  assert.ok(found !== undefined);
  return found;
}

test('an origin that starts with an empty disk brings back what it owns, and nothing else', async (t) => {
  const mesh = new RepairMesh(t);
  const lost = await mesh.fill();
  await mesh.advance(2000);
  assert.deepEqual(mesh.held(), lost);
  assert.deepEqual(mesh.repairer.state(), { healthy: true, message: `0 min ago: ${lost.length} brought here` });
  await mesh.advance(20 * minuteMs);
  assert.deepEqual(mesh.held(), lost);
});

test('a blob that is lost later comes back with the next round, which comes by itself', async (t) => {
  const mesh = new RepairMesh(t);
  const [first] = await mesh.fill();
  assert.ok(first !== undefined);
  await mesh.advance(2000);
  await mesh.store('o1').delete(first);
  await mesh.advance(7 * minuteMs);
  assert.equal(mesh.store('o1').stat(first), undefined);
  await mesh.advance(5 * minuteMs);
  assert.ok(mesh.store('o1').stat(first) !== undefined);
});

test('blobs of which one copy is left come first', async (t) => {
  const mesh = new RepairMesh(t, { replicas: 3 });
  const lost = await mesh.fill();
  const rare = lost.slice(-2);
  for (const digest of rare) {
    const [holder] = mesh.owners(digest).filter(({ id }) => id !== 'o1');
    assert.ok(holder !== undefined);
    await mesh.store(holder.id).delete(digest);
  }
  await mesh.advance(2000);
  assert.deepEqual(mesh.fetched.slice(0, 2).sort(), rare);
  assert.deepEqual(mesh.held(), lost);
});

test('what no repository shows is not brought back, however often it is seen', async (t) => {
  const mesh = new RepairMesh(t);
  const [garbage, ...wanted] = await mesh.fill();
  assert.ok(garbage !== undefined);
  mesh.unwanted.add(garbage);
  await mesh.advance(2000);
  await mesh.advance(30 * minuteMs);
  assert.deepEqual(mesh.held(), wanted);
  assert.ok(!mesh.fetched.includes(garbage));
  mesh.unwanted.delete(garbage);
  await mesh.advance(12 * minuteMs);
  assert.ok(mesh.store('o1').stat(garbage) !== undefined);
});

test('without an answer of the index nothing is brought back, and it is asked again soon', async (t) => {
  const mesh = new RepairMesh(t);
  const lost = await mesh.fill();
  mesh.indexAnswers = false;
  await mesh.advance(2000);
  assert.deepEqual(mesh.held(), []);
  assert.deepEqual(mesh.repairer.state(), { healthy: false, message: '0 min ago: 0 brought here; the build-index does not answer' });
  mesh.indexAnswers = true;
  await mesh.advance(5000);
  assert.deepEqual(mesh.held(), lost);
});

test('an index that has forgotten names is not believed when it calls blobs garbage; without any index nothing is garbage', async (t) => {
  const restored = new RepairMesh(t);
  restored.known = { id: 'index', version: 3n };
  const without = new RepairMesh(t, { withIndex: false });
  for (const mesh of [restored, without]) {
    const lost = await mesh.fill();
    for (const digest of lost) mesh.unwanted.add(digest);
    await mesh.advance(2000);
    assert.deepEqual(mesh.held(), lost);
  }
});

test('with durable storage only blobs are brought back that wait to be written to it', async (t) => {
  const mesh = new RepairMesh(t, { hasStorage: true });
  const lost = await mesh.fill();
  const waiting = lost.slice(1, 3);
  for (const digest of waiting) mesh.pending.add(digest);
  await mesh.advance(2000);
  assert.deepEqual(mesh.held(), waiting);
});

test('an origin stands in for one that stays away, not for one that restarts or comes back with an empty disk', async (t) => {
  const mesh = new RepairMesh(t);
  const own = await mesh.fill();
  await mesh.advance(2000);
  mesh.setHealth('o2', 'down');
  await mesh.advance(29_000);
  for (const { digest } of mesh.store('o2').list({ limit: 100 })) await mesh.store('o2').delete(digest);
  mesh.setHealth('o2', 'up');
  await mesh.advance(500);
  mesh.setHealth('o2', 'down');
  await mesh.advance(29_999);
  assert.deepEqual(mesh.held(), own);
  await mesh.advance(1);
  const inPlace = blobs
    .map(({ metainfo }) => metainfo.digest)
    .filter((digest) => {
      const [first, second] = mesh.ring.order(digest).filter(({ id }) => id !== 'o2');
      return mesh.owners(digest).some(({ id }) => id === 'o2') && [first?.id, second?.id].includes('o1');
    });
  assert.ok(inPlace.length > own.filter((digest) => inPlace.includes(digest)).length);
  assert.deepEqual(mesh.held(), [...new Set([...own, ...inPlace])].sort());
});

test('without storage no blob is brought to a disk that is filled', async (t) => {
  const mesh = new RepairMesh(t, { capacityBytes: 10 * sizeBytes });
  const lost = await mesh.fill(blobs.slice(0, 10));
  const filling = blobs.slice(-6);
  for (const blob of filling) await mesh.put('o1', blob);
  await mesh.advance(2000);
  assert.equal(mesh.held().length, 8, 'eight of ten places');
  assert.ok(filling.every(({ metainfo }) => mesh.store('o1').stat(metainfo.digest) !== undefined));
  assert.deepEqual(mesh.repairer.state(), { healthy: false, message: `0 min ago: 2 brought here; no room for ${lost.length - 2}` });
});

test('a blob that cannot be fetched is tried three times and left to the next round; the others come', async (t) => {
  const mesh = new RepairMesh(t);
  const [bad, ...good] = await mesh.fill();
  let failing = true;
  mesh.onFetch = async (digest) => {
    if (failing && digest === bad) throw new AppError('unavailable', 'the holder does not answer');
  };
  await mesh.advance(2000, 500);
  await mesh.advance(3000, 500);
  assert.equal(mesh.fetched.filter((digest) => digest === bad).length, 3);
  assert.deepEqual(mesh.held(), good);
  assert.match(mesh.repairer.state().message, /1 failed; the holder does not answer$/);
  failing = false;
  await mesh.advance(6000, 500);
  assert.deepEqual(mesh.held(), [bad, ...good]);
});

test('transfers that get stuck hold up no others for long, and are begun again', async (t) => {
  const mesh = new RepairMesh(t);
  const lost = await mesh.fill();
  const stuck = new Set(lost.slice(0, 2));
  mesh.onFetch = async (digest, signal) => {
    if (!stuck.delete(digest)) return;
    await new Promise<void>((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason), { once: true }));
  };
  await mesh.advance(2000);
  assert.deepEqual(mesh.held(), []);
  await mesh.advance(5001);
  assert.deepEqual(mesh.held(), lost.slice(2));
  await mesh.advance(1000);
  assert.deepEqual(mesh.held(), lost);
  assert.ok(mesh.repairer.state().healthy);
});

test('a blob that is being taken in at that moment is left alone', async (t) => {
  const mesh = new RepairMesh(t);
  const [pushed, ...rest] = await mesh.fill();
  assert.ok(pushed !== undefined);
  await mesh.inUse.hold(pushed, async () => mesh.advance(2000));
  assert.deepEqual(mesh.held(), rest);
});

test('repairs keep to their rate on average', async (t) => {
  const mesh = new RepairMesh(t, { bytesPerSec: sizeBytes });
  const lost = await mesh.fill();
  mesh.clock.advance(2000);
  await until(() => mesh.held().length === 1);
  await mesh.settle();
  assert.equal(mesh.held().length, 1);
  for (let seconds = 1; seconds < lost.length; seconds += 1) {
    mesh.clock.advance(1000);
    await until(() => mesh.held().length === seconds + 1);
    await mesh.settle();
    assert.equal(mesh.held().length, seconds + 1);
  }
});

test('the lists of the others become one, in order, whatever their pages; who does not answer holds nothing', async () => {
  const digests = Array.from({ length: 12 }, (_, i) => digestOf(Buffer.from(`blob ${i}`))).sort();
  const member = (id: string) => ({ id, endpoint: `${id}:1`, healthy: true });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.record({ mask: fc.nat(2 ** 12 - 1), page: fc.integer({ min: 1, max: 5 }), silent: fc.boolean() }), { maxLength: 4 }),
      async (lists) => {
        const held = lists.map(({ mask }) => digests.filter((_, i) => ((mask >> i) & 1) === 1));
        const listBlobs = async ({ id }: { readonly id: string }, { after }: { readonly after?: Digest }) => {
          const at = Number(id);
          const { page = 1, silent } = lists[at] ?? {};
          if (silent === true) throw new AppError('unavailable', 'it is down');
          const rest = (held[at] ?? []).filter((digest) => after === undefined || digest > after);
          const list: readonly HeldBlob[] = rest.slice(0, page).map((digest) => ({ digest, sizeBytes, writeBackPending: true }));
          return { blobs: list, next: rest.length > page ? list.at(-1)?.digest : undefined };
        };
        const silent: string[] = [];
        const found: { readonly digest: Digest; readonly holders: readonly string[] }[] = [];
        const { signal } = new AbortController();
        const deps = { origins: { listBlobs }, clock: { sleep: async () => undefined }, logger: silentLogger };
        const members = lists.map((_, at) => member(String(at)));
        const options = { onlyPending: true, onSilent: (id: string) => void silent.push(id), signal };
        for await (const { digest, holders } of survey(members, options, deps)) found.push({ digest, holders });
        const holdersOf = (digest: Digest): string[] =>
          lists.flatMap((list, at) => (!list.silent && held[at]?.includes(digest) ? [String(at)] : []));
        const expected = digests.map((digest) => ({ digest, holders: holdersOf(digest) })).filter(({ holders }) => holders.length > 0);
        assert.deepEqual(found, expected);
        assert.deepEqual(
          silent.sort(),
          lists.flatMap((list, at) => (list.silent ? [String(at)] : [])),
        );
      },
    ),
  );
});
