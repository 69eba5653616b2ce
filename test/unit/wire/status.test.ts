import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Metadata, status as Status } from '@grpc/grpc-js';
import fc from 'fast-check';
import { AppError, type ErrorCode } from '#core';
import { errorFromStatus, statusFromError } from '#wire';

const codes: readonly ErrorCode[] = [
  'invalid-argument',
  'digest-mismatch',
  'out-of-range',
  'not-found',
  'already-exists',
  'failed-precondition',
  'permission-denied',
  'unauthenticated',
  'resource-exhausted',
  'aborted',
  'cancelled',
  'deadline-exceeded',
  'unavailable',
  'data-loss',
  'unsupported',
  'internal',
];

const key = fc.stringMatching(/^[a-z][A-Za-z]{0,15}$/);
const text = fc.string({ unit: 'grapheme', maxLength: 200 });
const value = fc.oneof(
  text,
  fc.boolean(),
  fc.double().map((number) => (Object.is(number, -0) ? 0 : number)),
  fc.integer().map(String),
  fc.constantFrom('true', '"', '"x"', 'NaN', '1e3', ''),
);
const retryAfterMs = fc.option(fc.integer({ min: 0, max: 86_400_000 }), { nil: undefined });

test('an error survives the way over the wire: code, message, data and retry time', () => {
  fc.assert(
    fc.property(fc.constantFrom(...codes), text, fc.dictionary(key, value, { maxKeys: 8 }), retryAfterMs, (code, message, data, retry) => {
      const error = new AppError(code, message, { data, ...(retry === undefined ? {} : { retryAfterMs: retry }) });
      const status = statusFromError(error);
      // Metadata goes as HTTP/2 headers.
      const received = errorFromStatus({ ...status, metadata: Metadata.fromHttp2Headers(status.metadata.toHttp2Headers() as never) });
      assert.equal(received.code, code);
      assert.equal(received.message, message);
      assert.deepEqual({ ...received.data }, { ...data });
      assert.equal(received.retryAfterMs, retry);
    }),
  );
});

test('a code without a detail still says what it can', () => {
  const named = Object.values(Status).filter((code): code is Status => typeof code === 'number');
  assert.equal(named.length, 17);
  for (const code of named) assert.ok(codes.includes(errorFromStatus({ code, details: 'x' }).code), String(code));
  assert.equal(errorFromStatus({ code: Status.UNIMPLEMENTED, details: 'x' }).code, 'unsupported');
  assert.equal(errorFromStatus({ code: 99, details: '' }).code, 'internal');
});

test('a detail that is not ours is ignored', () => {
  const metadata = new Metadata();
  metadata.set('grpc-status-details-bin', Buffer.from([0xff, 0xff]));
  const { code, message } = errorFromStatus({ code: Status.NOT_FOUND, details: 'gone', metadata });
  assert.deepEqual([code, message], ['not-found', 'gone']);
});

test('a fault leaves without its message, its cause and its stack', () => {
  const faults = [new TypeError('/srv/secret/path'), 'text', new AppError('internal', '/srv/secret/path', { cause: new Error('x') })];
  for (const fault of faults) {
    const status = statusFromError(fault);
    assert.equal(status.code, Status.INTERNAL);
    assert.equal(errorFromStatus(status).message, 'internal error; the log of the server has the details');
    assert.doesNotMatch(JSON.stringify(status.metadata.toJSON()) + status.details, /secret/);
  }
});

test('a huge error is shortened to what trailers can carry', () => {
  const data = Object.fromEntries(Array.from({ length: 100 }, (_, index) => [`key${index}`, 'x'.repeat(10_000)]));
  const status = statusFromError(new AppError('failed-precondition', 'm'.repeat(100_000), { data }));
  const [bytes] = status.metadata.get('grpc-status-details-bin');
  assert.ok(bytes instanceof Uint8Array && bytes.byteLength < 32 * 1024);
  assert.ok(status.details.length <= 4096);
  assert.equal(errorFromStatus(status).code, 'failed-precondition');
});

test('an abort is a cancellation, a timeout a missed deadline', () => {
  assert.equal(statusFromError(new DOMException('x', 'AbortError')).code, Status.CANCELLED);
  assert.equal(statusFromError(new DOMException('x', 'TimeoutError')).code, Status.DEADLINE_EXCEEDED);
});
