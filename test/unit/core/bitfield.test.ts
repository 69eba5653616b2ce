import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Bitfield, isAppError } from '#core';

type Step = { readonly op: 'add' | 'delete'; readonly at: number };
const steps = (length: number) =>
  fc.array(fc.record<Step>({ op: fc.constantFrom('add', 'delete'), at: fc.nat({ max: Math.max(0, length - 1) }) }), { maxLength: 200 });

test('a bitfield behaves like a set of numbers', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 130 }).chain((length) => fc.tuple(fc.constant(length), steps(length), fc.nat({ max: length }))),
      ([length, script, from]) => {
        const bitfield = new Bitfield(length);
        const model = new Set<number>();
        for (const { op, at } of script) {
          assert.equal(bitfield[op](at), op === 'add' ? !model.has(at) : model.has(at));
          if (op === 'add') model.add(at);
          else model.delete(at);
        }
        assert.equal(bitfield.count, model.size);
        for (let index = -1; index <= length; index += 1) assert.equal(bitfield.has(index), model.has(index));
        let missing = from;
        while (missing < length && model.has(missing)) missing += 1;
        assert.equal(bitfield.nextMissing(from), missing);
        const copy = Bitfield.fromBytes(bitfield.toBytes(), length);
        assert.equal(copy.count, model.size);
        assert.deepEqual(copy.toBytes(), bitfield.toBytes());
      },
    ),
  );
});

test('the full bitfield has every piece and nothing more', () => {
  fc.assert(
    fc.property(fc.nat({ max: 200 }), (length) => {
      const full = Bitfield.full(length);
      assert.equal(full.isFull, true);
      assert.equal(full.count, length);
      assert.equal(full.nextMissing(), length);
      assert.equal(full.has(length), false);
      assert.doesNotThrow(() => Bitfield.fromBytes(full.toBytes(), length));
    }),
  );
});

test('a clone changes alone', () => {
  const one = new Bitfield(9);
  one.add(8);
  const two = one.clone();
  two.add(0);
  assert.equal(one.has(0), false);
  assert.equal(two.count, 2);
});

test('a wire form of the wrong length or with a bit past the end is refused', () => {
  assert.throws(
    () => Bitfield.fromBytes(new Uint8Array(3), 9),
    (error) => isAppError(error, 'invalid-argument'),
  );
  assert.throws(
    () => Bitfield.fromBytes(Uint8Array.of(0xff, 0xc0), 9),
    (error) => isAppError(error, 'invalid-argument'),
  );
});
