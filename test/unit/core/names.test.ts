import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { identityOf, isAppError, isRepositoryName, isTag, parsePeerId, parseRepositoryName, peerIdOf, roles } from '#core';

for (const name of ['a', 'library/nginx', 'a/b/c', 'a.b', 'a_b', 'a__b', 'a-b', 'a---b', '0/1', 'a'.repeat(255)]) {
  test(`${name.slice(0, 20)} is a repository name`, () => assert.equal(isRepositoryName(name), true));
}

for (const name of ['', '/', 'a/', '/a', 'a//b', 'A', 'a___b', 'a..b', '.a', 'a.', '-a', 'a b', 'a\n', 'a/../b', 'a'.repeat(256)]) {
  test(`${JSON.stringify(name.slice(0, 20))} is not a repository name`, () => {
    assert.equal(isRepositoryName(name), false);
    assert.throws(
      () => parseRepositoryName(name),
      (error) => isAppError(error, 'invalid-argument'),
    );
  });
}

test('a name check never takes long, whatever it is given', () => {
  fc.assert(
    fc.property(
      fc.string({ unit: fc.constantFrom('a', '-', '_', '.', '/'), maxLength: 255 }),
      (text) => typeof isRepositoryName(text) === 'boolean',
    ),
    {
      numRuns: 2000,
    },
  );
});

test('tags follow the grammar', () => {
  for (const tag of ['latest', 'v1', '_a', 'A.b-c_d', 'x'.repeat(128)]) assert.equal(isTag(tag), true, tag);
  for (const tag of ['', '.a', '-a', 'a/b', 'a:b', 'x'.repeat(129), 'a\n']) assert.equal(isTag(tag), false, tag);
});

test('a peer id survives its text form', () => {
  fc.assert(
    fc.property(fc.constantFrom(...roles), fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/), (role, id) => {
      assert.deepEqual(identityOf(peerIdOf({ role, id })), { role, id });
    }),
  );
});

for (const text of ['', 'agent', 'agent/', '/x', 'king/x', 'agent/A', 'agent/a/b', 'agent/-a']) {
  test(`${JSON.stringify(text)} is not a peer id`, () =>
    assert.throws(
      () => parsePeerId(text),
      (error) => isAppError(error, 'invalid-argument'),
    ));
}
