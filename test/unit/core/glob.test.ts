import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { globMatcher, isAppError } from '#core';

const matches = (pattern: string, name: string): boolean => globMatcher([pattern])(name);

test('a star is any text without a slash, two are any text, everything else is itself', () => {
  for (const [pattern, name] of [
    ['a', 'a'],
    ['*', 'abc'],
    ['*', ''],
    ['ci/*', 'ci/app'],
    ['ci/**', 'ci/team/app'],
    ['**', 'a/b/c'],
    ['**/app', 'x/y/app'],
    ['v*.*', 'v1.2'],
    ['a**b', 'ab'],
  ] as const)
    assert.ok(matches(pattern, name), `${pattern} matches ${name}`);
  for (const [pattern, name] of [
    ['a', 'ab'],
    ['*', 'a/b'],
    ['ci/*', 'ci/team/app'],
    ['ci/*', 'ci'],
    ['**/app', 'app'],
    ['v*', 'V1'],
    ['a.c', 'abc'],
    ['[ab]', 'a'],
  ] as const)
    assert.ok(!matches(pattern, name), `${pattern} does not match ${name}`);
});

test('one of several patterns is enough, and without patterns nothing matches', () => {
  assert.ok(globMatcher(['a', 'b*'])('bc'));
  assert.ok(!globMatcher([])('a'));
});

test('agrees with a regular expression on every pattern and name', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.'), maxLength: 12 });
  const pattern = fc.string({ unit: fc.constantFrom('a', 'b', '/', '.', '*', '**'), minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(pattern, text, (glob, name) => {
      const source = glob.replaceAll(/\*+|[./]/g, (part) => (part === '*' ? '[^/]*' : part.startsWith('*') ? '.*' : `\\${part}`));
      assert.equal(matches(glob, name), new RegExp(`^${source}$`).test(name));
    }),
  );
});

test('many stars do not make it slow', () => {
  assert.ok(!matches('*a'.repeat(100), 'a'.repeat(99)));
  assert.ok(matches('**a'.repeat(80), 'a'.repeat(250)));
});

test('an empty pattern and one that is too long are refused', () => {
  for (const pattern of ['', 'a'.repeat(257)])
    assert.throws(
      () => globMatcher([pattern]),
      (error) => isAppError(error, 'invalid-argument'),
    );
});
