import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { type Digest, digestFromBytes, digestOf } from '#core';
import { Ring } from '#placement';

const digest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes): Digest => digestFromBytes('sha256', bytes));
const ids = fc.uniqueArray(fc.stringMatching(/^[a-z][a-z0-9-]{0,8}$/), { minLength: 1, maxLength: 12 });
const members = ids.map((list) => list.map((id) => ({ id })));
const named = (...list: readonly string[]): { id: string }[] => list.map((id) => ({ id }));
const digests = (count: number): Digest[] => Array.from({ length: count }, (_, i) => digestOf(Buffer.from(`blob ${i}`)));
const idsOf = (list: readonly { readonly id: string }[]): string[] => list.map(({ id }) => id);

const numbered = (count: number): string[] => Array.from({ length: count }, (_, i) => `t${i}`);

function chiSquare(names: readonly string[], place: number): number {
  const ring = new Ring(named(...names));
  const counts = new Map(names.map((name) => [name, 0]));
  const total = 20_000;
  for (const key of digests(total)) {
    const id = ring.order(key)[place]?.id ?? '';
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  const expected = total / names.length;
  return [...counts.values()].reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
}

describe('the order of a ring', () => {
  it('holds every member once', () => {
    fc.assert(
      fc.property(members, digest, (list, key) => {
        assert.deepEqual(idsOf(new Ring(list).order(key)).sort(), idsOf(list).sort());
      }),
    );
  });

  it('does not depend on the order in which members are configured', () => {
    fc.assert(
      fc.property(members, digest, (list, key) => {
        assert.deepEqual(idsOf(new Ring(list).order(key)), idsOf(new Ring([...list].reverse()).order(key)));
      }),
    );
  });

  it('loses only the removed member when one is removed, so that nobody else moves', () => {
    fc.assert(
      fc.property(members, digest, fc.nat(), (list, key, pick) => {
        const gone = list[pick % list.length]?.id;
        const before = idsOf(new Ring(list).order(key)).filter((id) => id !== gone);
        assert.deepEqual(idsOf(new Ring(list.filter(({ id }) => id !== gone)).order(key)), before);
      }),
    );
  });

  it('is the same in every release: pinned values', () => {
    const ring = new Ring(named('o1', 'o2', 'o3', 'o4'));
    const orders = digests(4).map((key) => idsOf(ring.order(key)).join(' '));
    assert.deepEqual(orders, ['o4 o1 o3 o2', 'o4 o2 o3 o1', 'o4 o2 o1 o3', 'o4 o3 o1 o2']);
  });

  for (const names of [['o1', 'o2', 'o3'], ['origin-0', 'origin-1', 'origin-2', 'origin-3', 'origin-4'], numbered(20)]) {
    it(`spreads each of the first three places evenly over ${names.length} members with similar names`, () => {
      const freedom = names.length - 1;
      for (const place of [0, 1, 2]) {
        // Mean and deviation of chi-square; the input is fixed, so this cannot flake.
        const chi = chiSquare(names, place);
        assert.ok(chi < freedom + 4 * Math.sqrt(2 * freedom), `place ${place}: chi-square ${chi}`);
      }
    });
  }

  it('picks the second owner independently of the first', () => {
    const ring = new Ring(named('a', 'b', 'c', 'd'));
    const counts = new Map<string, number>();
    for (const key of digests(24_000)) {
      const [first, second] = ring.order(key);
      const pair = `${first?.id}${second?.id}`;
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    }
    assert.equal(counts.size, 12);
    for (const [pair, count] of counts) assert.ok(Math.abs(count - 2000) < 200, `${pair}: ${count}`);
  });

  it('gives a member its weight’s share', () => {
    const ring = new Ring([{ id: 'a', weight: 3 }, { id: 'b' }, { id: 'c' }]);
    let first = 0;
    for (const key of digests(20_000)) if (ring.order(key)[0]?.id === 'a') first += 1;
    assert.ok(Math.abs(first / 20_000 - 0.6) < 0.02, `${first / 20_000}`);
  });

  it('moves digests only to a member whose weight grows', () => {
    const before = new Ring(named('a', 'b', 'c'));
    const after = new Ring([{ id: 'a', weight: 2 }, { id: 'b' }, { id: 'c' }]);
    for (const key of digests(2000)) {
      const [was, is] = [before.order(key)[0]?.id, after.order(key)[0]?.id];
      assert.ok(was === is || is === 'a');
    }
  });
});

describe('the owners of a digest', () => {
  it('are distinct, healthy, in order, and as many as wanted or as there are', () => {
    fc.assert(
      fc.property(members, digest, fc.integer({ min: 1, max: 5 }), fc.nat(), (list, key, replicas, mask) => {
        const ring = new Ring(list);
        const up = new Set(ring.members.filter((_, i) => ((mask >> i) & 1) === 1).map(({ id }) => id));
        const owners = idsOf(ring.owners(key, replicas, ({ id }) => up.has(id)));
        assert.equal(new Set(owners).size, owners.length);
        if (up.size === 0) return assert.deepEqual(owners, idsOf(ring.order(key)).slice(0, 1));
        assert.equal(owners.length, Math.min(replicas, up.size));
        assert.deepEqual(
          owners,
          idsOf(ring.order(key))
            .filter((id) => up.has(id))
            .slice(0, replicas),
        );
      }),
    );
  });

  it('keep their places when another one goes down', () => {
    const ring = new Ring(named('a', 'b', 'c', 'd', 'e'));
    for (const key of digests(200)) {
      const all = idsOf(ring.owners(key, 3, () => true));
      const without = idsOf(ring.owners(key, 3, ({ id }) => id !== all[0]));
      assert.deepEqual(without.slice(0, 2), all.slice(1));
    }
  });

  it('are none in an empty ring', () => {
    assert.deepEqual(
      new Ring<{ id: string }>([]).owners(digestOf(Buffer.from('x')), 2, () => true),
      [],
    );
  });

  it('rejects a ring with one id twice', () => {
    assert.throws(() => new Ring(named('a', 'a')), /unique/);
  });
});
