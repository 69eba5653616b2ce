import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { OriginCluster } from '#cluster';
import { type Digest, type Role, silentLogger } from '#core';
import { MemoryBlobStore } from '#storage';
import { type CallContext, digestFromProto, digestToProto } from '#wire';
import type { BlobKeeper } from '../../../services/origin/blob-keeper.ts';
import { originHandlers } from '../../../services/origin/handlers.ts';
import type { WriteBack } from '../../../services/origin/write-back.ts';
import { ManualClock } from '../../support/manual-clock.ts';
import { blobOf } from '../../support/storage-fixtures.ts';

const blobs = [1, 2, 3, 4, 5].map((seed) => blobOf(seed, 1000));
const digests = blobs.map(({ metainfo }) => metainfo.digest).sort();

/** An origin that holds all of the blobs; the first and the third wait to be written to storage, if it has any. */
async function setUp(hasStorage: boolean) {
  const store = new MemoryBlobStore({ capacityBytes: 1e9 }, { clock: new ManualClock() });
  for (const { metainfo, bytes } of blobs) await store.put(metainfo.digest, bytes, { fsync: true });
  const waiting = hasStorage ? [digests[0], digests[2]].filter((digest) => digest !== undefined) : [];
  const writtenNow: Digest[] = [];
  const writeBack: Pick<WriteBack, 'hasStorage' | 'isPending' | 'pendingHere' | 'writeNow'> = {
    hasStorage,
    isPending: (digest) => waiting.includes(digest),
    pendingHere: ({ limit, after }) => {
      const page = waiting.filter((digest) => after === undefined || digest > after).slice(0, limit);
      return {
        blobs: page.map((digest) => store.stat(digest)).filter((blob) => blob !== undefined),
        next: page.length < limit ? undefined : page.at(-1),
      };
    },
    writeNow: async (digest) => void writtenNow.push(digest),
  };
  const keeper = { metainfo: async (digest: Digest) => store.metainfo(digest) ?? assert.fail() };
  const handlers = originHandlers({
    keeper: keeper as unknown as BlobKeeper,
    store,
    origins: {} as OriginCluster,
    writeBack: writeBack as WriteBack,
  });
  const list = async (notInStorage: boolean): Promise<readonly string[]> => {
    const found: string[] = [];
    for (let pageToken = ''; ; ) {
      const page = await handlers.listBlobs({ pageSize: 2, pageToken, notInStorage }, contextOf('operator'));
      found.push(...page.blobs.map((blob) => digestFromProto(blob.digest)));
      pageToken = page.nextPageToken;
      if (pageToken === '') return found;
    }
  };
  return { handlers, list, waiting, writtenNow };
}

function contextOf(role: Role): CallContext {
  return { caller: { role, id: 'x' }, callerAddress: '10.0.0.1:1', signal: new AbortController().signal, logger: silentLogger };
}

test('a list of what storage does not hold has what waits for it; without storage that is everything', async () => {
  const stored = await setUp(true);
  assert.deepEqual(await stored.list(true), stored.waiting);
  assert.deepEqual(await stored.list(false), digests);
  const alone = await setUp(false);
  assert.deepEqual(await alone.list(true), digests);
});

test('an origin that has lost a blob makes the one it asks write it to storage; nobody else can', async () => {
  const { handlers, writtenNow } = await setUp(true);
  const [digest] = digests;
  assert.ok(digest !== undefined);
  const request = { digest: digestToProto(digest), localOnly: true, callerLost: true };
  for (const role of ['agent', 'proxy', 'tracker', 'operator'] as const) await handlers.getMetainfo(request, contextOf(role));
  await handlers.getMetainfo({ ...request, callerLost: false }, contextOf('origin'));
  assert.deepEqual(writtenNow, []);
  await handlers.getMetainfo(request, contextOf('origin'));
  assert.deepEqual(writtenNow, [digest]);
});
