import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { type Digest, digestFromBytes } from '#core';
import { Ring, shouldTake } from '#placement';

const digest = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes): Digest => digestFromBytes('sha256', bytes));
const flags = fc.record({ present: fc.boolean(), holds: fc.boolean() });

/** Members of a ring, who of them is present, and who has a copy. */
const situation = fc
  .record({ members: fc.array(flags, { minLength: 1, maxLength: 8 }), replicas: fc.integer({ min: 1, max: 4 }), digest })
  .map(({ members, replicas, ...rest }) => {
    const named = members.map((member, index) => ({ id: `o${index + 1}`, ...member }));
    const present = named.filter((member) => member.present).map(({ id }) => id);
    const holders = named.filter((member) => member.present && member.holds).map(({ id }) => id);
    return { ...rest, replicas, present, holders, ring: new Ring(named) };
  });

type Situation = typeof situation extends fc.Arbitrary<infer T> ? T : never;

/** Who is present and takes a copy. */
function takers({ ring, replicas, present, holders, digest: key }: Situation): string[] {
  const isPresent = (id: string): boolean => present.includes(id);
  return present.filter((self) => shouldTake({ ring, replicas, self, isPresent }, key, holders));
}

it('every blob that somebody has gets as many copies as it should have, or as there are members', () => {
  fc.assert(
    fc.property(situation, (at) => {
      if (at.holders.length === 0) return assert.deepEqual(takers(at), []);
      const copies = new Set([...at.holders, ...takers(at)]);
      assert.ok(copies.size >= Math.min(at.replicas, at.present.length), `${copies.size} copies`);
    }),
  );
});

it('who would own the blob if everybody were there has it afterwards, and is never kept from it by other copies', () => {
  fc.assert(
    fc.property(situation, (at) => {
      if (at.holders.length === 0) return;
      const copies = new Set([...at.holders, ...takers(at)]);
      for (const { id } of at.ring.order(at.digest).slice(0, at.replicas)) if (at.present.includes(id)) assert.ok(copies.has(id), id);
    }),
  );
});

it('only owners take copies, nobody takes one that it has, and a second round finds nothing to do', () => {
  fc.assert(
    fc.property(situation, (at) => {
      const taking = takers(at);
      const owners = at.ring.owners(at.digest, at.replicas, ({ id }) => at.present.includes(id)).map(({ id }) => id);
      for (const id of taking) assert.ok(owners.includes(id) && !at.holders.includes(id), id);
      assert.deepEqual(takers({ ...at, holders: [...at.holders, ...taking] }), []);
    }),
  );
});

it('a stand-in takes nothing while the members that are left hold enough copies', () => {
  fc.assert(
    fc.property(situation, (at) => {
      const first = at.ring.order(at.digest).slice(0, at.replicas);
      if (at.holders.length < at.replicas) return;
      for (const id of takers(at))
        assert.ok(
          first.some((owner) => owner.id === id),
          id,
        );
    }),
  );
});
