import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AppError } from '#core';
import { toRegistryError, toSessionError } from '../../../services/lib/registry/errors.ts';

describe('toRegistryError', () => {
  it('lists every missing reference as an error of its own', () => {
    const error = new AppError('failed-precondition', 'missing', { data: { kind: 'missing', digests: 'sha256:a,sha256:b' } });
    const failure = toRegistryError(error);
    assert.equal(failure.status, 400);
    assert.deepEqual(JSON.parse(failure.body().toString()), {
      errors: [
        { code: 'MANIFEST_BLOB_UNKNOWN', message: 'missing', detail: { digest: 'sha256:a' } },
        { code: 'MANIFEST_BLOB_UNKNOWN', message: 'missing', detail: { digest: 'sha256:b' } },
      ],
    });
  });

  it('keeps the details when headers are added', () => {
    const error = new AppError('out-of-range', 'no', { data: { offsetBytes: 5 } });
    const failure = toRegistryError(error).withHeaders({ range: '0-4' });
    assert.deepEqual([failure.status, failure.headers], [416, { range: '0-4' }]);
    assert.deepEqual(JSON.parse(failure.body().toString()).errors[0].detail, { offsetBytes: 5 });
  });

  it('tells by kind what is unknown', () => {
    const codeOf = (kind: string): string =>
      JSON.parse(
        toRegistryError(new AppError('not-found', 'x', { data: { kind } }))
          .body()
          .toString(),
      ).errors[0].code;
    const kinds = ['repository', 'manifest', 'blob', 'upload'];
    assert.deepEqual(kinds.map(codeOf), ['NAME_UNKNOWN', 'MANIFEST_UNKNOWN', 'BLOB_UNKNOWN', 'BLOB_UPLOAD_UNKNOWN']);
  });

  it('calls an aborted signal unavailable and hides what an unknown error says', () => {
    assert.equal(toRegistryError(new DOMException('x', 'AbortError')).status, 503);
    const failure = toRegistryError(new Error('EACCES /var/lib/secret'));
    assert.equal(failure.status, 500);
    assert.ok(!failure.body().toString().includes('secret'));
  });

  it('never blames the client for what nodes refuse each other', () => {
    for (const code of [
      'unauthenticated',
      'permission-denied',
      'failed-precondition',
      'aborted',
      'already-exists',
      'unsupported',
    ] as const) {
      const failure = toRegistryError(new AppError(code, 'origin/o1 may not', { data: { kind: 'certificate' } }));
      assert.deepEqual([code, failure.status, failure.headers], [code, 503, { 'retry-after': '2' }]);
      assert.ok(!failure.body().toString().includes('o1'));
    }
  });

  it('tells a client of its other request of the same upload', () => {
    for (const code of ['aborted', 'failed-precondition'] as const) {
      assert.equal(toRegistryError(toSessionError(new AppError(code, 'busy'))).status, 409);
    }
    assert.equal(toRegistryError(toSessionError(new AppError('permission-denied', 'no'))).status, 503);
  });
});
