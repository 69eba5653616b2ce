/** Lists: tags, repositories and referrers, each in pages that a `Link` header chains. */
import type { Digest, ImageReader, Page, PageRequest, Referrer, RepositoryName } from '#core';
import { type Answer, type AnswerHeaders, ok, okJson } from './answer.ts';
import type { AllowedCall, Call, Surface } from './call.ts';
import { RegistryError } from './errors.ts';
import { indexMediaType } from './manifest.ts';
import type { Query } from './router.ts';

/** `GET /v2/<name>/tags/list`. */
export async function listTags(call: Call, repository: RepositoryName, { store, settings }: Surface): Promise<Answer> {
  const request = pageOf(call.query, settings.limits.pageItems);
  const page = await paged(request, (asked) => store.reader.listTags(repository, asked, call));
  const link = linkOf(`/v2/${repository}/tags/list`, call.query, request.limit, page);
  return okJson({ name: repository, tags: page.items }, link);
}

/** `GET /v2/_catalog`: the repositories that the caller may pull. */
export async function listRepositories(call: AllowedCall, { store, settings }: Surface): Promise<Answer> {
  if (!settings.catalogEnabled) throw new RegistryError('methodUnsupported', 'this registry does not list its repositories');
  const request = pageOf(call.query, settings.limits.pageItems);
  const page = await paged(request, (asked) => visiblePage(asked, call, store.reader, settings.limits.pageItems));
  return okJson({ repositories: page.items }, linkOf('/v2/_catalog', call.query, request.limit, page));
}

/**
 * Reads on until the page is full of what the caller may see: a short page with a link would name what it may not. `readMax` at a time, since a page of
 * one may lie behind everything that others have.
 */
async function visiblePage(
  asked: PageRequest<string>,
  call: AllowedCall,
  reader: ImageReader,
  readMax: number,
): Promise<Page<RepositoryName>> {
  if (call.caller.mayPullAll) return reader.listRepositories(asked, call);
  const limit = Math.max(asked.limit, readMax);
  const items: RepositoryName[] = [];
  let after = asked.after;
  for (;;) {
    const page = await reader.listRepositories({ limit, ...(after === undefined ? {} : { after }) }, call);
    for (const repository of page.items) {
      if (!call.caller.mayList(repository)) continue;
      if (items.length === asked.limit) return { items, more: true };
      items.push(repository);
    }
    after = page.items.at(-1);
    if (!page.more || after === undefined) return { items, more: false };
    call.signal.throwIfAborted();
  }
}

/** `GET /v2/<name>/referrers/<digest>`: an OCI index, empty for whatever is not known. */
export async function listReferrers(
  call: Call,
  repository: RepositoryName,
  subject: Digest,
  { store, settings }: Surface,
): Promise<Answer> {
  const request = pageOf(call.query, settings.limits.pageItems);
  const artifactType = call.query.get('artifactType') || undefined;
  const filter = artifactType === undefined ? {} : { artifactType };
  const found = await paged(request, (asked) => store.reader.listReferrers(repository, subject, { ...asked, ...filter }, call));
  const { page, texts } = fitReferrers(found, settings.limits.pageBytes);
  const last = { items: page.items.map((item) => item.digest), more: page.more };
  const body = `{"schemaVersion":2,"mediaType":"${indexMediaType}","manifests":[${texts.join(',')}]}`;
  return ok(
    {
      'content-type': indexMediaType,
      ...(artifactType === undefined ? {} : { 'oci-filters-applied': 'artifactType' }),
      ...linkOf(`/v2/${repository}/referrers/${subject}`, call.query, request.limit, last),
    },
    Buffer.from(body),
  );
}

/** Annotations may be megabytes long, and clients refuse metadata of more than 4 MiB: a page ends where its bytes do. */
function fitReferrers(page: Page<Referrer>, sizeBytesMax: number): { readonly page: Page<Referrer>; readonly texts: readonly string[] } {
  const texts: string[] = [];
  let sizeBytes = 0;
  for (const referrer of page.items) {
    const text = descriptorOf(referrer);
    sizeBytes += Buffer.byteLength(text);
    if (sizeBytes > sizeBytesMax && texts.length > 0) return { page: { items: page.items.slice(0, texts.length), more: true }, texts };
    texts.push(text);
  }
  return { page, texts };
}

function descriptorOf({ mediaType, digest, sizeBytes, artifactType, annotations }: Referrer): string {
  const isAnnotated = Object.keys(annotations).length > 0;
  return JSON.stringify({ mediaType, digest, size: sizeBytes, artifactType, annotations: isAnnotated ? annotations : undefined });
}

/** `n` over the cap is clamped; negative numbers and junk are refused. */
function pageOf(query: Query, itemsMax: number): PageRequest<string> {
  const n = query.get('n');
  if (n !== undefined && !/^\d+$/.test(n)) {
    throw new RegistryError('pageInvalid', 'n must be a whole number, zero or more', { detail: { n: n.slice(0, 40) } });
  }
  const limit = n === undefined ? itemsMax : Math.min(Number(n), itemsMax);
  const last = query.get('last');
  return last === undefined || last === '' ? { limit } : { limit, after: last };
}

/** `n=0` is an empty page with nothing after it, but still asks whether the repository exists. */
async function paged<T>(request: PageRequest<string>, list: (request: PageRequest<string>) => Promise<Page<T>>): Promise<Page<T>> {
  if (request.limit > 0) return list(request);
  await list({ ...request, limit: 1 });
  return { items: [], more: false };
}

/** The next page's address: a path, with every other parameter of the request kept. */
function linkOf(path: string, query: Query, limit: number, page: Page<string>): AnswerHeaders {
  const last = page.items.at(-1);
  if (!page.more || last === undefined) return {};
  const kept = query.entries.filter(([name]) => name !== 'n' && name !== 'last');
  const parameters = [...kept, ['n', String(limit)] as const, ['last', last] as const];
  const text = parameters.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join('&');
  return { link: `<${path}?${text}>; rel="next"` };
}
