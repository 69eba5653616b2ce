import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { contentRangeOf, parseChunkRange, parseRange, uploadRangeOf } from '../../../services/lib/registry/http-range.ts';

const sizes = fc.integer({ min: 0, max: 5000 });
const positions = fc.integer({ min: 0, max: 6000 });

describe('parseRange', () => {
  it('agrees with a filter over every byte', () => {
    fc.assert(
      fc.property(sizes, fc.option(positions), fc.option(positions), (sizeBytes, first, last) => {
        fc.pre(first !== null || last !== null);
        const request = parseRange(`bytes=${first ?? ''}-${last ?? ''}`, sizeBytes, 10);
        const isInside = (at: number): boolean =>
          first === null ? at >= sizeBytes - (last ?? 0) : at >= first && (last === null || at <= last);
        const wanted = Array.from({ length: sizeBytes }, (_unused, at) => at).filter(isInside);
        if (wanted.length === 0) {
          assert.equal(request.kind, 'unsatisfiable');
          return;
        }
        assert.deepEqual(request, {
          kind: 'partial',
          ranges: [{ startByte: wanted[0], endByte: (wanted.at(-1) ?? 0) + 1 }],
        });
      }),
    );
  });

  it('keeps several ranges in the order of the request, or gives the whole blob', () => {
    const range = fc.tuple(fc.integer({ min: 0, max: 4999 }), fc.integer({ min: 1, max: 500 }));
    fc.assert(
      fc.property(fc.array(range, { minLength: 2, maxLength: 20 }), (list) => {
        const ranges = list.map(([startByte, length]) => ({ startByte, endByte: Math.min(5000, startByte + length) }));
        const header = `bytes=${ranges.map(({ startByte, endByte }) => `${startByte}-${endByte - 1}`).join(', ')}`;
        const totalBytes = ranges.reduce((sum, { startByte, endByte }) => sum + endByte - startByte, 0);
        const expected = totalBytes <= 5000 && ranges.length <= 10 ? { kind: 'partial', ranges } : { kind: 'full' };
        assert.deepEqual(parseRange(header, 5000, 10), expected);
      }),
    );
  });

  it('never throws and never leaves the blob', () => {
    const text = fc.string({ unit: fc.constantFrom('0', '9', '-', ',', ' ', '=', 'b', 'x'), maxLength: 30 });
    fc.assert(
      fc.property(text, sizes, (spec, sizeBytes) => {
        const request = parseRange(`bytes=${spec}`, sizeBytes, 10);
        if (request.kind !== 'partial') return;
        for (const { startByte, endByte } of request.ranges) assert.ok(0 <= startByte && startByte < endByte && endByte <= sizeBytes);
      }),
    );
  });

  it('ignores other units and a header that is missing', () => {
    for (const header of [undefined, 'items=0-1', 'bytes', '']) assert.deepEqual(parseRange(header, 10, 10), { kind: 'full' });
    assert.equal(parseRange('Bytes=0-1', 10, 10).kind, 'partial');
  });

  it('takes numbers of any length', () => {
    const huge = '9'.repeat(400);
    assert.deepEqual(parseRange(`bytes=1-${huge}`, 10, 10), { kind: 'partial', ranges: [{ startByte: 1, endByte: 10 }] });
    assert.deepEqual(parseRange(`bytes=-${huge}`, 10, 10), { kind: 'partial', ranges: [{ startByte: 0, endByte: 10 }] });
    assert.deepEqual(parseRange(`bytes=${huge}-`, 10, 10), { kind: 'unsatisfiable' });
  });

  it('refuses a set of which one part does not parse', () => {
    assert.deepEqual(parseRange('bytes=0-1,x', 10, 10), { kind: 'unsatisfiable' });
    assert.deepEqual(parseRange('bytes=0-1,5-2', 10, 10), { kind: 'unsatisfiable' });
  });
});

describe('the ranges of uploads', () => {
  it('read back what was written', () => {
    fc.assert(
      fc.property(fc.nat(2 ** 40), fc.integer({ min: 1, max: 2 ** 30 }), fc.boolean(), (startByte, lengthBytes, isLong) => {
        const range = { startByte, endByte: startByte + lengthBytes };
        const long = contentRangeOf(range, range.endByte);
        const header = isLong ? long : `${startByte}-${startByte + lengthBytes - 1}`;
        assert.deepEqual(parseChunkRange(header), { startByte, lengthBytes });
      }),
    );
  });

  it('are malformed when they are open or end before they start', () => {
    for (const header of ['', '-', '1-', '-1', '5-4', 'bytes=0-1', '0-1,2-3', '0x0-1', `0-${'9'.repeat(30)}`]) {
      assert.equal(parseChunkRange(header), 'malformed', header);
    }
  });

  it('end at the last byte of the whole upload', () => {
    assert.deepEqual([0, 1, 2, 1024].map(uploadRangeOf), ['0-0', '0-0', '0-1', '0-1023']);
  });
});
