import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { newUploadId, UploadIds } from '#cluster';

const nodeId = fc.stringMatching(/^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/);
const memberOf = (id: string) => ({ id, endpoint: `${id}:1` });

test('an id is a UUID of version 8 that names its origin to everybody who knows the origins', () => {
  fc.assert(
    fc.property(fc.uniqueArray(nodeId, { minLength: 1, maxLength: 20 }), fc.nat(), (names, choice) => {
      const ids = new UploadIds(names.map(memberOf));
      const origin = names[choice % names.length] ?? '';
      const id = newUploadId(origin);
      assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      assert.equal(ids.originOf(id)?.id, origin);
    }),
  );
});

test('ids of one origin differ', () => {
  const made = new Set(Array.from({ length: 1000 }, () => newUploadId('origin-1')));
  assert.equal(made.size, 1000);
});

test('ids of others name nobody: of an origin that is not configured, of another kind, and what is no UUID', () => {
  const ids = new UploadIds([memberOf('origin-1')]);
  const own = newUploadId('origin-1');
  for (const id of [newUploadId('origin-2'), randomUUID(), own.toUpperCase(), own.slice(1), `${own} `, own.replaceAll('-', ''), '']) {
    assert.equal(ids.originOf(id), undefined, id);
  }
});

test('the form of the ids is fixed: proxies of another version find their sessions', () => {
  assert.equal(newUploadId('origin-1').slice(0, 13), 'f906f54c-27cf');
  assert.equal(new UploadIds([memberOf('origin-1')]).originOf('f906f54c-27cf-8000-8000-000000000000')?.id, 'origin-1');
});
