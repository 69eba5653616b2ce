/** Lists of referrers: every entry with all that is said of it, and filters by type. */
import assert from 'node:assert/strict';
import { type Content, mediaTypes } from './content.ts';
import type { DataContext } from './data-checks.ts';
import type { DataSet, PushedManifest } from './data-set.ts';
import { checkHeader, jsonOf, type Registry } from './registry.ts';

export interface Referrer {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

interface ReferrerList {
  readonly referrers: readonly Referrer[];
  readonly filtersApplied: string | undefined;
}

/** Asks for the referrers of a digest; the reply must be an image index. */
export async function referrersOf(registry: Registry, repository: string, digest: string, artifactType?: string): Promise<ReferrerList> {
  const query = artifactType === undefined ? {} : { artifactType };
  const reply = await registry.expect(200, 'GET', `/v2/${repository}/referrers/${digest}`, { query });
  checkHeader(reply, 'content-type', mediaTypes.index, true);
  const index = jsonOf(reply) as { readonly schemaVersion: number; readonly mediaType: string; readonly manifests: readonly Referrer[] };
  assert.equal(index.schemaVersion, 2);
  assert.equal(index.mediaType, mediaTypes.index);
  const filters = reply.headers['oci-filters-applied'];
  return { referrers: index.manifests, filtersApplied: typeof filters === 'string' ? filters : undefined };
}

const byDigest = (a: { readonly digest: string }, b: { readonly digest: string }): number => (a.digest < b.digest ? -1 : 1);

/** What the list must say of a manifest. */
function referrerOf({ mediaType, digest, bytes, artifactType, annotations }: PushedManifest): Referrer {
  return {
    mediaType,
    digest,
    size: bytes.byteLength,
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
}

export async function checkReferrers({ registry, repository, check }: DataContext, set: DataSet): Promise<void> {
  const subjects = new Set(set.manifests.flatMap(({ subject }) => subject ?? []));
  for (const [index, subject] of [...subjects].entries()) {
    const expected = set.manifests.filter((manifest) => manifest.subject === subject).map(referrerOf);
    await check(`${set.name}/referrers ${index + 1}`, async () => {
      const { referrers, filtersApplied } = await referrersOf(registry, repository, subject);
      assert.deepEqual([...referrers].sort(byDigest), expected.sort(byDigest));
      assert.equal(filtersApplied, undefined);
    });
    for (const type of new Set(expected.flatMap(({ artifactType }) => artifactType ?? []))) {
      await check(`${set.name}/referrers ${index + 1} of ${type}`, async () => {
        const { referrers, filtersApplied } = await referrersOf(registry, repository, subject, type);
        assert.deepEqual(
          [...referrers].sort(byDigest),
          expected.filter(({ artifactType }) => artifactType === type),
        );
        assert.equal(filtersApplied, 'artifactType');
      });
    }
    await check(`${set.name}/referrers ${index + 1} of a type that nothing has`, async () => {
      const { referrers, filtersApplied } = await referrersOf(registry, repository, subject, 'application/vnd.example.nothing');
      assert.deepEqual(referrers, []);
      assert.equal(filtersApplied, 'artifactType');
    });
  }
}

/** A repository that does not exist yet answers both questions about it. */
export async function checkEmpty({ registry, repository, check }: DataContext, unknown: Content): Promise<void> {
  await check('ping', async () => {
    const reply = await registry.expect(200, 'GET', '/v2/');
    checkHeader(reply, 'docker-distribution-api-version', 'registry/2.0', true);
  });
  await check('empty/tag list', async () => {
    const reply = await registry.expect([200, 404], 'GET', `/v2/${repository}/tags/list`);
    jsonOf(reply);
  });
  await check('empty/referrers', async () => {
    const { referrers } = await referrersOf(registry, repository, unknown.digest);
    assert.deepEqual(referrers, []);
  });
}
