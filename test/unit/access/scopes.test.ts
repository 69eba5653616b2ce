import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { claimGrants, claimGrantsCatalog, parseAccessClaim, parseScope } from '../../../services/lib/access/scopes.ts';

test('scopes as clients send them', () => {
  assert.deepEqual(parseScope('repository:a/b:push,pull'), { kind: 'repository', repository: 'a/b', rights: ['pull', 'push'] });
  assert.deepEqual(parseScope('repository:a/b:*'), { kind: 'repository', repository: 'a/b', rights: ['pull', 'push', 'delete'] });
  assert.deepEqual(parseScope('repository(plugin):a:pull'), { kind: 'repository', repository: 'a', rights: ['pull'] });
  assert.deepEqual(parseScope('repository:a:fly'), { kind: 'repository', repository: 'a', rights: [] });
  assert.deepEqual(parseScope('registry:catalog:*'), { kind: 'catalog' });
  for (const junk of ['', 'repository', 'repository:a', 'repository:A:pull', 'repository:**:pull', 'registry:catalog:x', 'x:y:z', '::']) {
    assert.equal(parseScope(junk), undefined, junk);
  }
});

test('any text is a scope or none, and never an error', () => {
  fc.assert(fc.property(fc.string(), (text) => void parseScope(text)));
});

test('a claim grants what it names and nothing else', () => {
  const claim = parseAccessClaim([
    { type: 'repository', name: 'a', actions: ['pull', 'push'] },
    { type: 'repository', name: 'b', actions: ['*'] },
    { type: 'registry', name: 'catalog', actions: ['*'] },
  ]);
  assert.ok(claim !== undefined);
  assert.equal(claimGrants(claim, 'push', 'a'), true);
  assert.equal(claimGrants(claim, 'delete', 'a'), false);
  assert.equal(claimGrants(claim, 'delete', 'b'), true);
  assert.equal(claimGrants(claim, 'pull', 'c'), false);
  assert.equal(claimGrantsCatalog(claim), true);
});

test('a claim of another shape grants nothing; an absent one is told apart', () => {
  assert.equal(parseAccessClaim(undefined), undefined);
  for (const junk of [
    null,
    'x',
    {},
    [1],
    [null],
    [{ type: 'repository', name: 'a', actions: 'pull' }],
    [{ name: 'a', actions: ['pull'] }],
  ]) {
    assert.equal(claimGrants(parseAccessClaim(junk) ?? [], 'pull', 'a'), false);
  }
});
