/**
 * What of a repository may go: tags by its rule, then manifests that nothing keeps, then links of blobs that no manifest reaches. Pure: it reads a
 * view of the rows. The collector asks {@link mayGo} once more about each item, inside the transaction that removes it, so a plan may be out of
 * date by then and still nothing is removed that is reachable. Each item is judged by its neighbours alone, so an index whose subject is a part of
 * itself keeps itself; nobody makes such.
 */
import type { ManifestEntry, TagEntry } from '#cluster';
import type { Digest } from '#core';
import { wallMsOf } from './hlc.ts';
import type { RetentionRule } from './retention.ts';
import { childrenOf } from './rows.ts';

/** One repository. Lists come in order, at most `limit` items after `after`. */
export interface RepositoryView {
  tags(after: string, limit: number): readonly TagEntry[];
  manifestDigests(after: string, limit: number): readonly Digest[];
  links(after: string, limit: number): readonly { readonly digest: Digest; readonly sizeBytes: number }[];
  tag(tag: string): TagEntry | undefined;
  manifest(digest: Digest): ManifestEntry | undefined;
  tagsOf(digest: Digest): readonly string[];
  /** Manifests that refer to a blob or a manifest as a part of theirs. */
  parents(digest: Digest): Iterable<Digest>;
  /** Manifests whose subject it is. */
  referrers(digest: Digest): Iterable<Digest>;
  /** Unix time at which a push last wanted a link or a manifest, or a manifest lost a tag. */
  leasedMs(digest: Digest): number;
}

export type PlannedItem =
  | { readonly kind: 'tag'; readonly tag: TagEntry }
  | { readonly kind: 'manifest'; readonly digest: Digest; readonly sizeBytes: number }
  | { readonly kind: 'blob'; readonly digest: Digest; readonly sizeBytes: number };

/** Under which items go. */
export interface PlanTerms {
  readonly rule: RetentionRule;
  readonly nowMs: number;
  /** What a push wanted within this time stays. */
  readonly graceMs: number;
}

/** What is planned to go already. */
interface Gone {
  readonly tags: ReadonlySet<string>;
  readonly manifests: ReadonlySet<Digest>;
}

const nothing: Gone = { tags: new Set(), manifests: new Set() };
const pageSize = 200;

/** Yields what may go, and undefined whenever it has read a page, so that the caller can let others work. Stops after `itemsMax` items. */
export function* planRepository(view: RepositoryView, terms: PlanTerms, itemsMax: number): Generator<PlannedItem | undefined, void> {
  const gone = { tags: new Set<string>(), manifests: new Set<Digest>() };
  let count = 0;
  for (const part of [expiredTags, looseManifests, looseLinks]) {
    for (const item of part(view, terms, gone)) {
      if (item !== undefined) count += 1;
      if (count > itemsMax) return;
      yield item;
    }
  }
}

/** Whether an item of a plan may still go, with nothing else assumed gone. */
export function mayGo(item: PlannedItem, view: RepositoryView, terms: PlanTerms): boolean {
  switch (item.kind) {
    case 'tag':
      return view.tag(item.tag.tag)?.version === item.tag.version;
    case 'manifest': {
      const entry = view.manifest(item.digest);
      return entry !== undefined && manifestMayGo(entry, view, terms, nothing);
    }
    case 'blob':
      return blobMayGo(item.digest, view, terms, nothing);
  }
}

function* expiredTags(
  view: RepositoryView,
  terms: PlanTerms,
  gone: { readonly tags: Set<string> },
): Generator<PlannedItem | undefined, void> {
  const { rule, nowMs } = terms;
  if (rule.keepLast === undefined && rule.keepForMs === undefined) return;
  const sinceVersion = rule.keepLast === undefined ? undefined : yield* latestSince(view, rule, rule.keepLast);
  for (const entry of coveredTags(view, rule)) {
    if (entry === undefined) {
      yield undefined;
      continue;
    }
    const isLatest = sinceVersion !== undefined && entry.version >= sinceVersion;
    const isYoung = rule.keepForMs !== undefined && nowMs - wallMsOf(entry.version) < rule.keepForMs;
    if (isLatest || isYoung) continue;
    gone.tags.add(entry.tag);
    yield { kind: 'tag', tag: entry };
  }
}

function* coveredTags(view: RepositoryView, rule: RetentionRule): Generator<TagEntry | undefined> {
  for (const entry of paged((after) => view.tags(after, pageSize), keyOfTag)) {
    if (entry === undefined || rule.mayExpire(entry.tag)) yield entry;
  }
}

/** The version from which on there are `count` of the rule's tags; undefined when there are none. */
function* latestSince(view: RepositoryView, rule: RetentionRule, count: number): Generator<undefined, bigint | undefined> {
  const latest = new Latest(count);
  for (const entry of coveredTags(view, rule)) {
    if (entry === undefined) yield undefined;
    else latest.add(entry.version);
  }
  return latest.least();
}

function* looseManifests(
  view: RepositoryView,
  terms: PlanTerms,
  gone: Gone & { readonly manifests: Set<Digest> },
): Generator<PlannedItem | undefined, void> {
  if (terms.rule.untaggedForMs === undefined) return;
  for (const first of paged((after) => view.manifestDigests(after, pageSize), String)) {
    if (first === undefined) yield undefined;
    else yield* looseFrom(first, view, terms, gone);
  }
}

/** When a manifest goes, its children and its referrers may go too, also those that were looked at before it. */
function* looseFrom(
  first: Digest,
  view: RepositoryView,
  terms: PlanTerms,
  gone: Gone & { readonly manifests: Set<Digest> },
): Generator<PlannedItem, void> {
  const stack = [first];
  for (let digest = stack.pop(); digest !== undefined; digest = stack.pop()) {
    const entry = view.manifest(digest);
    if (entry === undefined || gone.manifests.has(digest) || !manifestMayGo(entry, view, terms, gone)) continue;
    gone.manifests.add(digest);
    for (const next of [...childrenOf(entry), ...view.referrers(digest)]) stack.push(next);
    yield { kind: 'manifest', digest, sizeBytes: entry.sizeBytes };
  }
}

function* looseLinks(view: RepositoryView, terms: PlanTerms, gone: Gone): Generator<PlannedItem | undefined, void> {
  for (const link of paged(
    (after) => view.links(after, pageSize),
    ({ digest }) => digest,
  )) {
    if (link === undefined) yield undefined;
    else if (blobMayGo(link.digest, view, terms, gone)) yield { kind: 'blob', ...link };
  }
}

/** It has no tag and no parent, does not belong to a manifest that stays, and has been so for long enough. */
function manifestMayGo(entry: ManifestEntry, view: RepositoryView, { rule, nowMs, graceMs }: PlanTerms, gone: Gone): boolean {
  if (rule.untaggedForMs === undefined) return false;
  const { digest, subject } = entry;
  const tags = view.tagsOf(digest);
  if (tags.some((tag) => !gone.tags.has(tag))) return false;
  // Its last tag goes in this very run: the time without a tag begins now.
  const ageMs = tags.length > 0 ? 0 : nowMs - view.leasedMs(digest);
  if (ageMs < Math.max(rule.untaggedForMs, graceMs) || hasParent(digest, view, gone)) return false;
  return subject === undefined || gone.manifests.has(subject) || view.manifest(subject) === undefined;
}

function blobMayGo(digest: Digest, view: RepositoryView, { nowMs, graceMs }: PlanTerms, gone: Gone): boolean {
  return nowMs - view.leasedMs(digest) >= graceMs && !hasParent(digest, view, gone);
}

function hasParent(digest: Digest, view: RepositoryView, gone: Gone): boolean {
  for (const parent of view.parents(digest)) if (!gone.manifests.has(parent)) return true;
  return false;
}

/** Every item of a list that is read page by page; undefined after each page. */
function* paged<T>(read: (after: string) => readonly T[], keyOf: (item: T) => string): Generator<T | undefined> {
  for (let after = ''; ; ) {
    const page = read(after);
    yield* page;
    const last = page.at(-1);
    if (page.length < pageSize || last === undefined) return;
    yield undefined;
    after = keyOf(last);
  }
}

const keyOfTag = ({ tag }: TagEntry): string => tag;

/** The greatest `count` of the versions it is given. */
class Latest {
  readonly #count: number;
  #versions: bigint[] = [];

  constructor(count: number) {
    this.#count = count;
  }

  add(version: bigint): void {
    this.#versions.push(version);
    if (this.#versions.length >= 2 * this.#count + 1000) this.#trim();
  }

  /** The least of them; undefined when there is none. */
  least(): bigint | undefined {
    this.#trim();
    return this.#versions.reduce<bigint | undefined>(
      (least, version) => (least === undefined || version < least ? version : least),
      undefined,
    );
  }

  #trim(): void {
    if (this.#versions.length <= this.#count) return;
    this.#versions = this.#versions.sort((a, b) => (a > b ? -1 : a < b ? 1 : 0)).slice(0, this.#count);
  }
}
