import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AppError } from '#core';
import { fromFsError } from '../../../services/lib/storage/fs-errors.ts';

const systemError = (code: string | number): Error => Object.assign(new Error(`${code}: it failed, open '/secret/path'`), { code });

test('errors of the system become codes, and their messages name no path', () => {
  for (const [code, expected] of [
    ['ENOSPC', 'resource-exhausted'],
    ['EDQUOT', 'resource-exhausted'],
    [28, 'resource-exhausted'],
    ['EIO', 'data-loss'],
    ['EMFILE', 'unavailable'],
    ['EROFS', 'unavailable'],
    ['EXDEV', 'unavailable'],
  ] as const) {
    const error = fromFsError(systemError(code), 'writing a piece');
    assert.equal(error.code, expected, `${code}`);
    assert.doesNotMatch(error.message, /secret/);
  }
});

test('other errors pass through the funnel', () => {
  const own = new AppError('not-found', 'gone');
  assert.equal(fromFsError(own, 'reading'), own);
  assert.equal(fromFsError(new Error('bug'), 'reading').code, 'internal');
  assert.equal(fromFsError(AbortSignal.abort().reason, 'reading').code, 'cancelled');
});
