/** What a read-only node must answer, also while it is downloading: everything of the suite that does not write, and refusals of what does. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { type Content, digestOf, randomContent } from './content.ts';
import { checkMissing, checkTagList, type DataContext, manifestPath, pushDataSet, readDataSet } from './data-checks.ts';
import type { DataSet } from './data-set.ts';
import { dataSets } from './data-sets.ts';
import { blobPath, headBlob, pushBlob, uploadsPath } from './push-blob.ts';
import { checkRangesOf, checkSlice, partsOf } from './ranges.ts';
import { type Check, Recorder, totalsOf } from './recorder.ts';
import { checkEmpty, checkReferrers } from './referrer-checks.ts';
import { checkHeader, jsonOf, type Registry } from './registry.ts';

/** What lies in the repository that the node reads. */
export interface Stock {
  readonly repository: string;
  readonly sets: readonly DataSet[];
  /** 2048 bytes. */
  readonly small: Content;
  /** Takes the node long to download. */
  readonly large: Content;
}

/** Pushes what a read-only node will be asked for. Throws when a push fails. */
export async function stockUp(registry: Registry, largeBytes: number): Promise<Stock> {
  const repository = `conformance/${randomBytes(4).toString('hex')}/stock`;
  const recorder = new Recorder();
  const context = { registry, repository, check: recorder.area('proxy', 'stock') };
  const sets = dataSets();
  for (const set of sets) await pushDataSet(context, set);
  const failures = recorder.results.filter(({ outcome }) => outcome !== 'passed');
  if (failures.length > 0 || totalsOf(recorder.results).passed === 0)
    throw new Error(`the stock cannot be pushed: ${JSON.stringify(failures)}`);
  const [small, large] = [randomContent(2048), randomContent(largeBytes)];
  for (const content of [small, large]) await pushBlob(registry, repository, 'post+put', content);
  return { repository, sets, small, large };
}

/** A node that takes long to download. */
export interface Downloading {
  readonly registry: Registry;
  readonly check: Check;
  readonly stock: Stock;
  /** Whether the node is still downloading the large blob. */
  readonly isDownloading: () => Promise<boolean>;
  /** Lets the rest of it come at once. */
  readonly hurry: () => Promise<void>;
}

export type ReadOnlyContext = DataContext & Downloading;

/** Downloads the large blob, and meanwhile asks for everything else. */
export async function checkReadOnly(context: ReadOnlyContext): Promise<void> {
  const { stock } = context;
  await duringDownload(context, async () => {
    await rangesOnTheWay(context);
    await checkEmpty({ ...context, repository: `${stock.repository}-unknown` }, stock.small);
    await checkMissing(context);
    await checkRangesOf({ ...context, prefix: 'ranges', content: stock.small });
    await refusals(context);
    for (const set of stock.sets) {
      await checkTagList(context, set);
      await readDataSet(context, set);
      await checkReferrers(context, set);
    }
    await namespaces(context);
  });
}

/** Does all of `work` while the large blob is on its way, and checks that it was and that it arrives whole. */
export async function duringDownload(
  { registry, check, stock, isDownloading, hurry }: Downloading,
  work: () => Promise<void>,
): Promise<void> {
  const leaving = new AbortController();
  const download = readSlowly(registry.url(blobPath(stock.repository, stock.large.digest)), leaving.signal);
  try {
    await check('a download of the large blob begins', async () => download.begun);
    await work();
    await check('the download was still running when all of this had been answered', async () => {
      assert.equal(await isDownloading(), true);
    });
    await check('the large blob arrives whole', async () => {
      await hurry();
      assert.equal(await download.digest, stock.large.digest);
    });
  } finally {
    leaving.abort();
  }
}

interface SlowRead {
  /** The first bytes are here. */
  readonly begun: Promise<void>;
  /** Digest of everything that came. */
  readonly digest: Promise<string>;
}

function readSlowly(url: string, signal: AbortSignal): SlowRead {
  let onBegun: () => void = () => undefined;
  const first = new Promise<void>((resolve) => {
    onBegun = resolve;
  });
  const digest = (async () => {
    const response = await fetch(url, { signal });
    if (response.status !== 200) throw new Error(`GET ${url}: ${response.status}`);
    const hash = createHash('sha256');
    for await (const chunk of response.body ?? []) {
      hash.update(chunk);
      onBegun();
    }
    return `sha256:${hash.digest('hex')}`;
  })();
  const begun = Promise.race([first, digest.then(() => undefined)]);
  begun.catch(() => undefined);
  return { begun, digest };
}

/** Ranges far ahead of what has arrived. */
async function rangesOnTheWay({ registry, check, stock }: ReadOnlyContext): Promise<void> {
  const { bytes } = stock.large;
  const path = blobPath(stock.repository, stock.large.digest);
  const size = bytes.byteLength;
  for (const [range, first, end] of [
    [`${size - 1000}-`, size - 1000, size],
    ['-500', size - 500, size],
    [`${Math.floor(size / 2)}-${Math.floor(size / 2) + 99_999}`, Math.floor(size / 2), Math.floor(size / 2) + 100_000],
    [`${size - 10}-${size + 1000}`, size - 10, size],
  ] as const) {
    await check(`on its way: range ${range}`, async () => {
      checkSlice(await registry.expect(206, 'GET', path, { headers: { range: `bytes=${range}` } }), bytes, first, end);
    });
  }
  await check('on its way: several ranges', async () => {
    const starts = [size - 100_000, 1000, Math.floor(size * 0.7)];
    const range = `bytes=${starts.map((start) => `${start}-${start + 999}`).join(',')}`;
    const parts = partsOf(await registry.expect(206, 'GET', path, { headers: { range } }));
    assert.deepEqual(
      parts,
      starts.map((start) => ({ range: `bytes ${start}-${start + 999}/${size}`, bytes: bytes.subarray(start, start + 1000) })),
    );
  });
  await check('on its way: an unsatisfiable range', async () => {
    const reply = await registry.expect(416, 'GET', path, { headers: { range: `bytes=${size}-` } });
    checkHeader(reply, 'content-range', `bytes */${size}`, true);
  });
  await check('on its way: HEAD', async () => headBlob(registry, stock.repository, stock.large));
}

/** Every kind of write is refused as unsupported, with what is supported. */
async function refusals({ registry, repository, check, stock }: ReadOnlyContext): Promise<void> {
  const session = `${uploadsPath(repository)}0f6c2f2e-6f0b-4b7a-9d9e-3f2f6a1c7b55`;
  const writes: readonly (readonly [method: string, path: string])[] = [
    ['POST', uploadsPath(repository)],
    ['PATCH', session],
    ['PUT', `${session}?digest=${stock.small.digest}`],
    ['DELETE', session],
    ['PUT', manifestPath(repository, 'new')],
    ['DELETE', manifestPath(repository, 'image')],
    ['DELETE', blobPath(repository, stock.small.digest)],
  ];
  for (const [method, path] of writes) {
    await check(`${method} ${path.slice(path.indexOf('/stock') + 7).replace(/(sha256:|uploads\/.).*/, '$1…')} is refused`, async () => {
      const reply = await registry.expect(405, method, path, { body: Buffer.from('{}') });
      const { errors } = jsonOf(reply) as { readonly errors: readonly { readonly code: string }[] };
      assert.equal(errors[0]?.code, 'UNSUPPORTED');
    });
  }
}

/** Containerd's mirrors name the registry they stand in for. */
async function namespaces({ registry, repository, check, stock }: ReadOnlyContext): Promise<void> {
  const query = { ns: 'registry.example.com' };
  await check('ns= of another registry: what is here is served', async () => {
    await registry.expect(200, 'HEAD', manifestPath(repository, 'image'), { query });
    await registry.expect(200, 'GET', blobPath(repository, stock.small.digest), { query });
  });
  await check('ns= of another registry: what is not here is a JSON 404, so that the next host is asked', async () => {
    for (const path of [manifestPath(repository, 'nowhere'), blobPath(repository, digestOf(Buffer.from('nowhere')))]) {
      const reply = await registry.expect(404, 'GET', path, { query });
      assert.match(reply.headers['content-type'] ?? '', /^application\/json/);
      jsonOf(reply);
    }
  });
}
