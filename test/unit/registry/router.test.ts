import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseTarget, type Target } from '../../../services/lib/registry/router.ts';

const targetOf = (url: string): Target => parseTarget(url).target;

describe('parseTarget', () => {
  it('finds each resource behind any name, however it is encoded', () => {
    const word = fc.constantFrom('blobs', 'manifests', 'tags', 'list', 'uploads', 'referrers', '_catalog', 'a', 'b-1');
    const encode = (text: string, isEncoded: boolean): string =>
      isEncoded ? [...text].map((letter) => `%${letter.charCodeAt(0).toString(16).padStart(2, '0')}`).join('') : text;
    const tails: readonly [string, (name: string) => Target][] = [
      ['tags/list', (name) => ({ kind: 'tags', name })],
      ['manifests/v1', (name) => ({ kind: 'manifest', name, reference: 'v1' })],
      ['manifests/sha256:x', (name) => ({ kind: 'manifest', name, reference: 'sha256:x' })],
      ['referrers/sha256:x', (name) => ({ kind: 'referrers', name, digest: 'sha256:x' })],
      ['blobs/sha256:x', (name) => ({ kind: 'blob', name, digest: 'sha256:x' })],
      ['blobs/uploads', (name) => ({ kind: 'uploads', name })],
      ['blobs/uploads/', (name) => ({ kind: 'uploads', name })],
      ['blobs/uploads/0-0', (name) => ({ kind: 'upload', name, id: '0-0' })],
    ];
    fc.assert(
      fc.property(
        fc.array(word, { minLength: 1, maxLength: 5 }),
        fc.boolean(),
        fc.constantFrom(...tails),
        (words, isEncoded, [tail, expected]) => {
          const name = words.join('/');
          const path = words.map((text) => encode(text, isEncoded)).join('/');
          assert.deepEqual(targetOf(`/v2/${path}/${tail}?ns=docker.io`), expected(name));
        },
      ),
    );
  });

  it('knows the ping and the catalog', () => {
    for (const url of ['/v2', '/v2/', '/v2/?x=1']) assert.deepEqual(targetOf(url), { kind: 'ping' });
    assert.deepEqual(targetOf('/v2/_catalog?n=1'), { kind: 'catalog' });
  });

  it('takes nothing for a name that is missing or a tail that is none', () => {
    for (const url of ['', '/', '/v1/', '/v2/x', '/v2/tags/list', '/v2/manifests/x', '/v2/blobs/uploads/', '/v2/a/b/c', '*']) {
      assert.deepEqual(targetOf(url), { kind: 'unknown' }, url);
    }
  });

  it('refuses segments that hide separators, dots or control characters', () => {
    for (const name of ['a%2fb', 'a%2Fb', '..', '%2e%2e', '.', 'a//b', 'a%5cb', 'a%00', 'a%0d%0a', '%', '%zz', '%ff']) {
      assert.deepEqual(targetOf(`/v2/${name}/tags/list`), { kind: 'malformed' }, name);
    }
  });

  it('decodes exactly once', () => {
    assert.deepEqual(targetOf('/v2/a/manifests/%2561'), { kind: 'manifest', name: 'a', reference: '%61' });
  });

  it('never throws', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        parseTarget(text);
        parseTarget(`/v2/${text}`);
      }),
    );
  });
});

describe('the query', () => {
  it('is decoded once, keeps plus signs and order, and gives the first of several', () => {
    const { query } = parseTarget('/v2/?from=a%2Fb&tag=x&tag=y&artifactType=a/b+json&flag&bad=%zz&empty=&&k=v=w');
    assert.equal(query.get('from'), 'a/b');
    assert.equal(query.get('tag'), 'x');
    assert.deepEqual(query.getAll('tag'), ['x', 'y']);
    assert.equal(query.get('artifactType'), 'a/b+json');
    assert.deepEqual([query.get('flag'), query.get('bad'), query.get('empty'), query.get('k')], ['', '%zz', '', 'v=w']);
    assert.equal(query.get('toString'), undefined);
  });
});
