/** Manifests, tags, repositories and referrers over HTTP. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { describe, it } from 'node:test';
import { digestOf } from '#core';
import { codeOf, type Harness, imageType, indexType, pushImage, type Reply, startHarness } from './harness.ts';

const base = '/v2/img/manifests/';

function put(harness: Harness, reference: string, body: Buffer, type: string | undefined = imageType): Promise<Reply> {
  return harness.ask('PUT', base + reference, { headers: type === '' ? {} : { 'content-type': type }, body: [body] });
}

describe('pushing a manifest', () => {
  it('makes it readable by tag and digest, byte by byte', async () => {
    await using harness = await startHarness();
    const { bytes, digest } = await pushImage(harness, 'img');
    const reply = await put(harness, 'v1', bytes, `${imageType}; charset=utf-8`);
    assert.equal(reply.status, 201, reply.body.toString());
    assert.equal(reply.headers.location, base + digest);
    assert.equal(reply.headers['docker-content-digest'], digest);
    assert.equal(reply.headers['oci-subject'], undefined);
    for (const reference of ['v1', digest, digest.replace(':', '%3A')]) {
      const got = await harness.ask('GET', base + reference, { headers: { accept: 'application/json' } });
      assert.equal(got.status, 200);
      assert.ok(got.body.equals(bytes));
      const head = await harness.ask('HEAD', base + reference);
      for (const { headers } of [got, head]) {
        assert.equal(headers['content-type'], imageType);
        assert.equal(headers['content-length'], String(bytes.byteLength));
        assert.equal(headers['docker-content-digest'], digest);
        assert.equal(headers.etag, `"${digest}"`);
        assert.match(headers['cache-control'] ?? '', reference === 'v1' ? /^no-cache$/ : /immutable/);
      }
      assert.deepEqual([head.status, head.body.byteLength], [200, 0]);
      const same = await harness.ask('GET', base + reference, { headers: { 'if-none-match': `"${digest}"` } });
      assert.deepEqual([same.status, same.body.byteLength], [304, 0]);
    }
  });

  it('works by SHA-512 and names the digest that the client used', async () => {
    await using harness = await startHarness();
    const { bytes } = await pushImage(harness, 'img');
    const digest = digestOf(bytes, 'sha512');
    const reply = await put(harness, digest, bytes);
    assert.deepEqual([reply.status, reply.headers['docker-content-digest']], [201, digest]);
    assert.equal((await harness.ask('HEAD', base + digest)).headers['docker-content-digest'], digest);
  });

  it('by digest can set tags', async () => {
    await using harness = await startHarness();
    const { bytes, digest } = await pushImage(harness, 'img');
    const reply = await put(harness, `${digest}?tag=a&tag=b`, bytes);
    assert.deepEqual([reply.status, reply.headers['oci-tag']], [201, 'a, b']);
    assert.equal((await harness.ask('HEAD', `${base}b`)).status, 200);
    const invalid = await put(harness, `${digest}?tag=-a`, bytes);
    assert.deepEqual([invalid.status, codeOf(invalid)], [400, 'TAG_INVALID']);
    assert.equal((await put(harness, 'v1?tag=a', bytes)).status, 400);
    const many = Array.from({ length: 65 }, (_unused, index) => `tag=t${index}`).join('&');
    assert.equal((await put(harness, `${digest}?${many}`, bytes)).status, 414);
  });

  it('is refused for a wrong digest, an invalid reference and a missing blob', async () => {
    await using harness = await startHarness();
    const { bytes, digest } = await pushImage(harness, 'img');
    const other = await put(harness, digest, Buffer.concat([bytes, Buffer.from('  ')]));
    assert.deepEqual([other.status, codeOf(other)], [400, 'DIGEST_INVALID']);
    const malformed = await put(harness, 'sha256:baddigeststring', bytes);
    assert.deepEqual([malformed.status, codeOf(malformed)], [400, 'DIGEST_INVALID']);
    const tag = await put(harness, '.bad', bytes);
    assert.deepEqual([tag.status, codeOf(tag)], [400, 'TAG_INVALID']);
    const elsewhere = await harness.ask('PUT', '/v2/other/manifests/v1', { headers: { 'content-type': imageType }, body: bytes });
    assert.deepEqual([elsewhere.status, codeOf(elsewhere)], [400, 'MANIFEST_BLOB_UNKNOWN']);
    const { errors } = JSON.parse(elsewhere.body.toString());
    assert.equal(errors.length, 2);
    assert.match(errors[1].detail.digest, /^sha256:/);
  });

  it('takes 4 MiB and refuses more, declared or counted', async () => {
    await using harness = await startHarness();
    const { bytes } = await pushImage(harness, 'img', { annotations: { big: 'x'.repeat(4_100_000) } });
    assert.equal((await put(harness, 'big', bytes)).status, 201);
    const over = Buffer.alloc(4 * 2 ** 20 + 1, ' ');
    for (const body of [over, [over]]) {
      const reply = await harness.ask('PUT', `${base}big`, { headers: { 'content-type': imageType }, body });
      assert.deepEqual([reply.status, codeOf(reply)], [413, 'SIZE_INVALID']);
    }
  });

  it('of an index checks its children, manifests or, for a build cache, blobs', async () => {
    await using harness = await startHarness();
    const child = await pushImage(harness, 'img');
    const blob = await harness.pushBlob('img', randomBytes(12));
    const index = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        manifests: [
          { mediaType: imageType, digest: child.digest, size: child.bytes.byteLength },
          { mediaType: 'application/vnd.buildkit.cacheconfig.v0', digest: blob, size: 12 },
        ],
      }),
    );
    const refused = await put(harness, 'idx', index, indexType);
    assert.deepEqual([refused.status, JSON.parse(refused.body.toString()).errors[0].detail], [400, { digest: child.digest }]);
    await put(harness, child.digest, child.bytes);
    assert.equal((await put(harness, 'idx', index, indexType)).status, 201);
    assert.equal((await put(harness, 'idx2', index, '')).status, 201);
    assert.equal((await harness.ask('HEAD', `${base}idx2`)).headers['content-type'], indexType);
    assert.equal((await put(harness, 'none', Buffer.from('{"schemaVersion":2,"manifests":[]}'), indexType)).status, 201);
  });

  it('without what they refer to are allowed when the registry is set so, and only then', async () => {
    const absent = (mediaType: string): object => ({ mediaType, digest: digestOf(randomBytes(4)), size: 4 });
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: [absent(imageType), absent('x/y')] }));
    const image = Buffer.from(JSON.stringify({ schemaVersion: 2, config: absent('x/config'), layers: [absent('x/layer')] }));
    for (const [allowSparse, status] of [
      [true, 201],
      [false, 400],
    ] as const) {
      await using harness = await startHarness({ registry: { allowSparse } });
      assert.equal((await put(harness, 'idx', index, indexType)).status, status);
      assert.equal((await put(harness, 'image', image)).status, status);
    }
  });
});

describe('unknown manifests', () => {
  it('are 404 by tag, by digest and by what can be no tag', async () => {
    await using harness = await startHarness();
    for (const reference of ['none', digestOf(randomBytes(3)), '.INVALID_MANIFEST_NAME', 'x'.repeat(129)]) {
      for (const method of ['GET', 'HEAD', 'DELETE']) {
        const reply = await harness.ask(method, base + reference);
        assert.equal(reply.status, 404, `${method} ${reference}`);
        if (method !== 'HEAD') assert.equal(codeOf(reply), 'MANIFEST_UNKNOWN');
        else assert.ok(Number(reply.headers['content-length']) > 0);
      }
    }
    const malformed = await harness.ask('GET', `${base}sha256:totallywrong`);
    assert.deepEqual([malformed.status, codeOf(malformed)], [400, 'DIGEST_INVALID']);
  });
});

describe('deletes', () => {
  it('of a tag keep the manifest, of a digest take the tags along', async () => {
    await using harness = await startHarness();
    const { bytes, digest } = await pushImage(harness, 'img');
    for (const tag of ['a', 'b']) await put(harness, tag, bytes);
    assert.equal((await harness.ask('DELETE', `${base}a`)).status, 202);
    assert.equal((await harness.ask('HEAD', `${base}a`)).status, 404);
    assert.equal((await harness.ask('HEAD', base + digest)).status, 200);
    assert.equal((await harness.ask('DELETE', base + digest)).status, 202);
    assert.equal((await harness.ask('HEAD', `${base}b`)).status, 404);
    assert.deepEqual(JSON.parse((await harness.ask('GET', '/v2/img/tags/list')).body.toString()), { name: 'img', tags: [] });
  });

  it('of a blob take effect at once', async () => {
    await using harness = await startHarness();
    const digest = await harness.pushBlob('img', randomBytes(5));
    const reply = await harness.ask('DELETE', `/v2/img/blobs/${digest}`);
    assert.deepEqual([reply.status, reply.body.byteLength], [202, 0]);
    assert.equal((await harness.ask('HEAD', `/v2/img/blobs/${digest}`)).status, 404);
    assert.equal((await harness.ask('DELETE', `/v2/img/blobs/${digest}`)).status, 404);
  });

  it('are refused when switched off, but uploads can still be cancelled', async () => {
    await using harness = await startHarness({ registry: { deletesEnabled: false } });
    const digest = await harness.pushBlob('img', randomBytes(5));
    for (const path of [`/v2/img/blobs/${digest}`, `${base}v1`]) {
      const reply = await harness.ask('DELETE', path);
      assert.deepEqual([reply.status, codeOf(reply)], [405, 'UNSUPPORTED']);
      assert.ok(!reply.headers.allow?.includes('DELETE'));
    }
    const { headers } = await harness.ask('POST', '/v2/img/blobs/uploads/');
    assert.equal((await harness.ask('DELETE', headers.location ?? '')).status, 204);
  });
});

describe('lists', () => {
  it('of tags are sorted and paged, with a link that keeps other parameters', async () => {
    await using harness = await startHarness();
    const { bytes } = await pushImage(harness, 'img');
    for (const tag of ['b', 'a', 'B', '1']) await put(harness, tag, bytes);
    const list = async (query: string): Promise<[string[], string | undefined]> => {
      const reply = await harness.ask('GET', `/v2/img/tags/list${query}`);
      assert.equal(reply.status, 200);
      assert.equal(reply.headers['content-type'], 'application/json');
      return [JSON.parse(reply.body.toString()).tags, reply.headers['link']?.toString()];
    };
    assert.deepEqual(await list(''), [['1', 'B', 'a', 'b'], undefined]);
    assert.deepEqual(await list('?n=2&ns=x%2Fy'), [['1', 'B'], '</v2/img/tags/list?ns=x%2Fy&n=2&last=B>; rel="next"']);
    assert.deepEqual(await list('?n=2&last=B'), [['a', 'b'], undefined]);
    assert.deepEqual(await list('?last=Z'), [['a', 'b'], undefined]);
    assert.deepEqual(await list('?n=0'), [[], undefined]);
    assert.deepEqual(await list('?n=99999999999999999999'), [['1', 'B', 'a', 'b'], undefined]);
    assert.deepEqual(await list('?n=1&n=4'), [['1'], '</v2/img/tags/list?n=1&last=1>; rel="next"']);
    for (const n of ['-1', 'x', '', '1.5']) {
      const reply = await harness.ask('GET', `/v2/img/tags/list?n=${n}`);
      assert.deepEqual([reply.status, codeOf(reply)], [400, 'PAGINATION_NUMBER_INVALID'], n);
    }
    const unknown = await harness.ask('GET', '/v2/none/tags/list?n=0');
    assert.deepEqual([unknown.status, codeOf(unknown)], [404, 'NAME_UNKNOWN']);
  });

  it('are cut at the cap, with a link', async () => {
    await using harness = await startHarness({ registry: { limits: { pageItems: 2 } } });
    const { bytes } = await pushImage(harness, 'img');
    for (const tag of ['a', 'b', 'c']) await put(harness, tag, bytes);
    for (const query of ['', '?n=1000']) {
      const reply = await harness.ask('GET', `/v2/img/tags/list${query}`);
      assert.equal(reply.headers['link'], '</v2/img/tags/list?n=2&last=b>; rel="next"');
    }
  });

  it('of repositories can be paged and switched off', async () => {
    await using harness = await startHarness();
    for (const name of ['b/x', 'a']) await harness.pushBlob(name, randomBytes(4));
    const reply = await harness.ask('GET', '/v2/_catalog?n=1');
    assert.deepEqual(JSON.parse(reply.body.toString()), { repositories: ['a'] });
    assert.equal(reply.headers['link'], '</v2/_catalog?n=1&last=a>; rel="next"');
    await using closed = await startHarness({ registry: { catalogEnabled: false } });
    assert.equal((await closed.ask('GET', '/v2/_catalog')).status, 405);
  });
});

describe('referrers', () => {
  const subject = { mediaType: imageType, digest: digestOf(Buffer.from('subject')), size: 7 };
  const list = async (harness: Harness, query = ''): Promise<{ reply: Reply; manifests: Record<string, unknown>[] }> => {
    const reply = await harness.ask('GET', `/v2/img/referrers/${subject.digest}${query}`);
    assert.equal(reply.status, 200);
    assert.equal(reply.headers['content-type'], indexType);
    const body = JSON.parse(reply.body.toString());
    assert.deepEqual([body.schemaVersion, body.mediaType], [2, indexType]);
    return { reply, manifests: body.manifests };
  };

  it('are empty for what nobody knows, and 400 for no digest', async () => {
    await using harness = await startHarness();
    assert.deepEqual((await list(harness)).manifests, []);
    const malformed = await harness.ask('GET', '/v2/img/referrers/latest');
    assert.deepEqual([malformed.status, codeOf(malformed)], [400, 'DIGEST_INVALID']);
  });

  it('carry type, size and annotations, and can be filtered', async () => {
    await using harness = await startHarness();
    const typed = await pushImage(harness, 'img', { subject, artifactType: 'application/x+json', annotations: { k: 'v' } });
    const plain = await pushImage(harness, 'img', { subject });
    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: indexType, manifests: [], subject }));
    const pushed = [
      await put(harness, typed.digest, typed.bytes),
      await put(harness, 'x', plain.bytes),
      await put(harness, 'i', index, indexType),
    ];
    for (const { headers } of pushed) assert.equal(headers['oci-subject'], subject.digest);
    const { reply, manifests } = await list(harness);
    assert.equal(reply.headers['oci-filters-applied'], undefined);
    const expected = [
      {
        mediaType: imageType,
        digest: typed.digest,
        size: typed.bytes.byteLength,
        artifactType: 'application/x+json',
        annotations: { k: 'v' },
      },
      {
        mediaType: imageType,
        digest: plain.digest,
        size: plain.bytes.byteLength,
        artifactType: 'application/vnd.oci.image.config.v1+json',
      },
      { mediaType: indexType, digest: digestOf(index), size: index.byteLength },
    ];
    assert.deepEqual(
      manifests,
      expected.toSorted((a, b) => (a.digest < b.digest ? -1 : 1)),
    );
    for (const type of ['application/x+json', 'application%2Fx%2Bjson']) {
      const filtered = await list(harness, `?artifactType=${type}`);
      assert.equal(filtered.reply.headers['oci-filters-applied'], 'artifactType');
      assert.deepEqual(
        filtered.manifests.map(({ digest }) => digest),
        [typed.digest],
      );
    }
    assert.deepEqual((await list(harness, '?artifactType=none')).manifests, []);
  });

  it('come in pages that stay below the size that clients accept', async () => {
    await using harness = await startHarness({ registry: { limits: { pageBytes: 10_000 } } });
    const digests: string[] = [];
    for (let index = 0; index < 5; index += 1) {
      const { bytes, digest } = await pushImage(harness, 'img', { subject, annotations: { big: 'x'.repeat(4000) } });
      await put(harness, digest, bytes);
      digests.push(digest);
    }
    const seen: unknown[] = [];
    let path: string | undefined = `/v2/img/referrers/${subject.digest}`;
    let pageCount = 0;
    while (path !== undefined) {
      const reply: Reply = await harness.ask('GET', path);
      assert.ok(reply.body.byteLength < 11_000);
      seen.push(...JSON.parse(reply.body.toString()).manifests.map(({ digest }: { digest: string }) => digest));
      path = /^<([^>]+)>; rel="next"$/.exec(reply.headers['link']?.toString() ?? '')?.[1];
      pageCount += 1;
    }
    assert.deepEqual(seen, digests.toSorted());
    assert.equal(pageCount, 3);
  });
});
