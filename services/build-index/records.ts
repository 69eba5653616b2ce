/** The tables of the index and how their rows look on disk. */

import type { Database } from 'lmdb';
import type { Digest } from '#core';
import { type EmbeddedDb, openDatabase } from '#storage';

/** Keys are arrays ordered element by element, strings bytewise; a repository is the first element unless said otherwise. */
type Key = string[];

/** A manifest without its digest, which is in the key. */
export interface ManifestRow {
  readonly mediaType: string;
  readonly sizeBytes: number;
  readonly subject: Digest | null;
  readonly artifactType: string | null;
  readonly annotations: Readonly<Record<string, string>>;
  readonly blobs: readonly Digest[];
  readonly manifests: readonly Digest[];
  readonly either: readonly Digest[];
  readonly pushedMs: number;
}

/** A tag, or the tombstone of one: kept so that an older write that arrives late does not bring it back. */
export interface TagRow {
  readonly digest: Digest;
  /** Decimal: a 64-bit number does not fit JSON. */
  readonly version: string;
  readonly deleted: boolean;
}

export interface Tables {
  readonly db: EmbeddedDb;
  /** [repository, digest] -> size of a blob that the repository shows. */
  readonly links: Database<number, Key>;
  /** [digest, repository] -> size: who shows a blob. */
  readonly holders: Database<number, Key>;
  /** [repository, digest] -> Unix ms: when a link or a manifest was last wanted by a push. */
  readonly leases: Database<number, Key>;
  /** [repository, digest] */
  readonly manifests: Database<ManifestRow, Key>;
  /** [digest, repository] -> size: who has a manifest. */
  readonly manifestHolders: Database<number, Key>;
  /** [repository, digest, manifest] -> true: manifests that refer to a blob or to another manifest. */
  readonly parents: Database<boolean, Key>;
  /** [repository, tag] */
  readonly tags: Database<TagRow, Key>;
  /** [repository, digest, tag] -> true: the live tags on a manifest. */
  readonly tagsOf: Database<boolean, Key>;
  /** [repository, subject, digest] -> true */
  readonly referrers: Database<boolean, Key>;
  /** repository -> true: repositories that have anything. A plain string, as an array of one element comes back as one. */
  readonly repositories: Database<boolean, string>;
  /** [digest, origin] -> version in decimal: what is linked must have been placed after it (see fences.ts). */
  readonly fences: Database<string, Key>;
  /** Named values of the index itself. */
  readonly meta: Database<string, string>;
}

export async function openTables(path: string): Promise<Tables> {
  const db = await openDatabase(path);
  const table = <V>(name: string): Database<V, Key> => db.openDB<V, Key>({ name, encoding: 'json' });
  return {
    db,
    links: table('links'),
    holders: table('holders'),
    leases: table('leases'),
    manifests: table('manifests'),
    manifestHolders: table('manifest-holders'),
    parents: table('parents'),
    tags: table('tags'),
    tagsOf: table('tags-of'),
    referrers: table('referrers'),
    repositories: db.openDB<boolean, string>({ name: 'repositories', encoding: 'json' }),
    fences: table('fences'),
    meta: db.openDB<string, string>({ name: 'meta', encoding: 'json' }),
  };
}

/** Greater than every name and digest, which are ASCII. */
const last = '\uffff';

/** The range of keys that begin with `prefix` and come after `after` in their next element. */
export function keysUnder(prefix: Key, after = ''): { start: Key; end: Key } {
  return { start: [...prefix, `${after}${after === '' ? '' : '\u0000'}`], end: [...prefix, last] };
}

/** True when the table has a key that begins with `prefix`. */
export function hasUnder<V>(table: Database<V, Key>, prefix: Key): boolean {
  for (const _key of table.getKeys({ ...keysUnder(prefix), limit: 1 })) return true;
  return false;
}
