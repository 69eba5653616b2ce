import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AppError, type Digest, isAppError, type Metainfo, SeededRng, silentLogger } from '#core';
import type { AnnounceRequest } from '#gen/shoal/tracker/v1/tracker_service';
import { Roster } from '#swarm';
import { AnnounceService } from '../../../services/tracker/announce.ts';
import { MetainfoCache } from '../../../services/tracker/metainfo-cache.ts';
import { WantList } from '../../../services/tracker/want-list.ts';
import { blob } from '../../support/cluster-mesh.ts';
import { ManualClock } from '../../support/manual-clock.ts';

const { digest } = blob('some blob');

describe('an announce stream', () => {
  it('ends when no hello comes within 10 s', async () => {
    const clock = new ManualClock();
    const rng = new SeededRng(1);
    const origins = { getMetainfo: () => assert.fail('nobody asks') };
    const service = new AnnounceService({
      roster: new Roster({}, { rng }),
      metainfos: new MetainfoCache({}, { origins }),
      clock,
      owners: () => [],
    });
    const silent: AsyncIterable<AnnounceRequest> = { [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined) }) };
    const caller = { role: 'agent', id: 'a1' } as const;
    const { signal } = new AbortController();
    const answer = service.announce(silent, { caller, callerAddress: '127.0.0.1:1', signal, logger: silentLogger }).next();
    clock.advance(10_000);
    await assert.rejects(Promise.race([answer, new Promise((resolve) => setImmediate(resolve))]), (error) =>
      isAppError(error, 'deadline-exceeded'),
    );
    assert.equal(service.streamCount, 0);
  });
});

describe('the want list', () => {
  it('serves those who wait longest, one place each, and puts them last', () => {
    const wants = new WantList<string>();
    wants.set(digest, 'a', 2);
    wants.set(digest, 'b', 1);
    wants.set(digest, 'c', 1);
    assert.deepEqual(wants.take(digest, 2, 'x'), ['a', 'b']);
    assert.deepEqual(wants.take(digest, 2, 'x'), ['c', 'a']);
    assert.deepEqual(wants.take(digest, 2, 'x'), []);
    assert.equal(wants.blobCount, 0);
  });

  it('never serves the newcomer itself, and forgets who is served or leaves', () => {
    const wants = new WantList<string>();
    wants.set(digest, 'a', 1);
    assert.deepEqual(wants.take(digest, 5, 'a'), []);
    wants.delete(digest, 'a');
    assert.equal(wants.blobCount, 0);
    wants.set(digest, 'b', 0);
    assert.equal(wants.blobCount, 0);
  });
});

describe('the metainfo cache', () => {
  function cache(answer: (digest: Digest) => Promise<Metainfo>, sizeBytesMax?: number) {
    const asked: Digest[] = [];
    const origins = {
      getMetainfo: async (wanted: Digest) => {
        asked.push(wanted);
        return answer(wanted);
      },
    };
    return { asked, cache: new MetainfoCache(sizeBytesMax === undefined ? {} : { sizeBytesMax }, { origins }) };
  }

  it('asks once for all who ask at the same time, and not again afterwards', async () => {
    const { cache: metainfos, asked } = cache(async () => blob('some blob'));
    await Promise.all([metainfos.get(digest), metainfos.get(digest)]);
    await metainfos.get(digest);
    assert.equal(asked.length, 1);
  });

  it('finds a blob that was pushed after it was asked for in vain', async () => {
    let pushed = false;
    const { cache: metainfos } = cache(async () => {
      if (!pushed) throw new AppError('not-found', 'none');
      return blob('some blob');
    });
    await assert.rejects(metainfos.get(digest), (error) => isAppError(error, 'not-found'));
    pushed = true;
    assert.equal((await metainfos.get(digest)).digest, digest);
  });

  it('does not answer with an absence that was asked for earlier', async () => {
    const answers: (() => void)[] = [];
    let pushed = false;
    const { cache: metainfos, asked } = cache(async () => {
      const found = pushed;
      await new Promise<void>((resolve) => answers.push(resolve));
      if (!found) throw new AppError('not-found', 'none');
      return blob('some blob');
    });
    const early = metainfos.get(digest);
    pushed = true;
    const late = [metainfos.get(digest), metainfos.get(digest)];
    answers.shift()?.();
    await assert.rejects(early, (error) => isAppError(error, 'not-found'));
    await new Promise(setImmediate);
    answers.shift()?.();
    for (const found of await Promise.all(late)) assert.equal(found.digest, digest);
    assert.equal(asked.length, 2);
  });

  it('does not remember that nobody answered', async () => {
    let up = false;
    const { cache: metainfos } = cache(async () => {
      if (!up) throw new AppError('unavailable', 'down');
      return blob('some blob');
    });
    await assert.rejects(metainfos.get(digest), (error) => isAppError(error, 'unavailable'));
    up = true;
    assert.equal((await metainfos.get(digest)).digest, digest);
  });

  it('keeps to its bound by forgetting what was used least recently', async () => {
    const blobs = new Map(['a', 'b', 'c'].map((text) => [blob(text).digest, blob(text)]));
    const [a, b, c] = [...blobs.keys()];
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    const { cache: metainfos, asked } = cache(async (wanted) => blobs.get(wanted) ?? blob('a'), 1200);
    for (const wanted of [a, b, a, c]) await metainfos.get(wanted);
    assert.ok(metainfos.sizeBytes <= 1200);
    await metainfos.get(a);
    assert.equal(asked.length, 3, 'a is still known');
    await metainfos.get(b);
    assert.equal(asked.length, 4, 'b was forgotten');
  });
});
