/** BuildIndexService over the index store: names and page sizes are checked here, rules are in the store. */
import { type ManifestEntry, manifestFromProto, manifestToProto, type TagEntry } from '#cluster';
import { AppError, type Page, type PageRequest, parseRepositoryName, parseTag, type Reference } from '#core';
import type { BuildIndexServiceService } from '#gen/shoal/buildindex/v1/build_index_service';
import { ManifestRecord } from '#gen/shoal/buildindex/v1/image';
import { digestFromProto, digestToProto, type Handlers, required, safeNumber } from '#wire';
import type { IndexStore } from './store.ts';

const pageSizeDefault = 100;
const pageSizeMax = 1000;
const tagsPerPutMax = 100;
/** A record is up to a manifest's annotations large, so a page ends by bytes too; messages between nodes have room for more than this. */
const referrersSizeBytesMax = 4 * 1024 * 1024;
/** One more than any name has: cutting a longer token moves it past no name, and keeps it within a key of the database. */
const pageTokenLengthMax = 256;

type BlobMethods = 'linkBlob' | 'getBlobLink' | 'renewBlobLink' | 'mountBlob' | 'unlinkBlob';
type ManifestMethods = 'putManifest' | 'getManifest' | 'renewManifest' | 'deleteManifest';
type Service = Handlers<typeof BuildIndexServiceService>;

export function buildIndexHandlers(store: IndexStore): Service {
  return { ...blobHandlers(store), ...manifestHandlers(store), ...listHandlers(store) };
}

function blobHandlers(store: IndexStore): Pick<Service, BlobMethods> {
  return {
    async linkBlob({ repository, link, fence }) {
      const { digest, sizeBytes } = required(link, 'link');
      const blob = { digest: digestFromProto(digest, 'link.digest'), sizeBytes: safeNumber(sizeBytes, 'link.size_bytes') };
      await store.linkBlob(parseRepositoryName(repository), blob, fence);
      return { fence: store.fences.current() };
    },
    async getBlobLink({ repository, digest }) {
      return { link: linkToProto(store.blobLink(parseRepositoryName(repository), digestFromProto(digest))) };
    },
    async renewBlobLink({ repository, digest }) {
      return { link: linkToProto(await store.renewBlobLink(parseRepositoryName(repository), digestFromProto(digest))) };
    },
    async mountBlob({ repository, digest, sourceRepository }) {
      const source = sourceRepository === '' ? undefined : parseRepositoryName(sourceRepository);
      return { link: linkToProto(await store.mountBlob(parseRepositoryName(repository), digestFromProto(digest), source)) };
    },
    async unlinkBlob({ repository, digest }) {
      await store.unlinkBlob(parseRepositoryName(repository), digestFromProto(digest));
      return {};
    },
  };
}

function manifestHandlers(store: IndexStore): Pick<Service, ManifestMethods> {
  return {
    async putManifest({ repository, manifest, tags, fence, sparse }) {
      if (tags.length > tagsPerPutMax) throw new AppError('invalid-argument', `tags: at most ${tagsPerPutMax}`);
      const entry = manifestFromProto(required(manifest, 'manifest'));
      const stored = await store.putManifest(parseRepositoryName(repository), entry, tags.map(parseTag), fence, { sparse });
      return { tags: stored.map(tagToProto), fence: store.fences.current() };
    },
    async getManifest({ repository, reference }) {
      const { manifest, tag } = store.manifest(parseRepositoryName(repository), referenceFromProto(reference));
      return { manifest: manifestToProto(manifest), tag: tag === undefined ? undefined : tagToProto(tag) };
    },
    async renewManifest({ repository, reference }) {
      return { manifest: manifestToProto(await store.renewManifest(parseRepositoryName(repository), referenceFromProto(reference))) };
    },
    async deleteManifest({ repository, reference }) {
      await store.deleteManifest(parseRepositoryName(repository), referenceFromProto(reference));
      return {};
    },
  };
}

function listHandlers(store: IndexStore): Pick<Service, 'listTags' | 'listRepositories' | 'listReferrers'> {
  return {
    async listTags(request) {
      const page = store.listTags(parseRepositoryName(request.repository), pageOf(request));
      return { tags: page.items.map(tagToProto), nextPageToken: nextToken(page, ({ tag }) => tag) };
    },
    async listRepositories(request) {
      const page = store.listRepositories(pageOf(request));
      return { repositories: [...page.items], nextPageToken: nextToken(page, (name) => name) };
    },
    async listReferrers(request) {
      const filter = { ...pageOf(request), ...(request.artifactType === '' ? {} : { artifactType: request.artifactType }) };
      const page = store.listReferrers(parseRepositoryName(request.repository), digestFromProto(request.subject, 'subject'), filter);
      const { manifests, more } = fitting(page);
      const last = page.items[manifests.length - 1];
      return { manifests, nextPageToken: more && last !== undefined ? last.digest : '' };
    },
  };
}

function referenceFromProto(reference: Parameters<Service['getManifest']>[0]['reference']): Reference {
  if (reference === undefined) throw new AppError('invalid-argument', 'reference: name a tag or a digest');
  return reference.$case === 'tag' ? { tag: parseTag(reference.tag) } : { digest: digestFromProto(reference.digest) };
}

function pageOf({ pageSize, pageToken }: { readonly pageSize: number; readonly pageToken: string }): PageRequest<string> {
  if (pageSize > pageSizeMax) throw new AppError('invalid-argument', `page_size is at most ${pageSizeMax}`);
  return {
    limit: pageSize === 0 ? pageSizeDefault : pageSize,
    ...(pageToken === '' ? {} : { after: pageToken.slice(0, pageTokenLengthMax) }),
  };
}

function nextToken<T>({ items, more }: Page<T>, tokenOf: (item: T) => string): string {
  const last = items.at(-1);
  return more && last !== undefined ? tokenOf(last) : '';
}

/** The records of a page that fit into one answer: at least one. */
function fitting(page: Page<ManifestEntry>): { readonly manifests: ManifestRecord[]; readonly more: boolean } {
  const manifests: ManifestRecord[] = [];
  let sizeBytes = 0;
  for (const item of page.items) {
    const record = manifestToProto(item);
    sizeBytes += ManifestRecord.encode(record).finish().byteLength;
    if (manifests.length > 0 && sizeBytes > referrersSizeBytesMax) return { manifests, more: true };
    manifests.push(record);
  }
  return { manifests, more: page.more };
}

function linkToProto({ digest, sizeBytes }: ReturnType<IndexStore['blobLink']>) {
  return { digest: digestToProto(digest), sizeBytes: BigInt(sizeBytes) };
}

function tagToProto({ tag, digest, version }: TagEntry) {
  return { tag, digest: digestToProto(digest), version };
}
