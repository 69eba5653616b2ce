/** Brings an index that an earlier version wrote into the present form, before anything else uses it. */
import { randomUUID } from 'node:crypto';
import { parseDigest, parseRepositoryName } from '#core';
import { commit } from '#storage';
import type { IndexRows } from './rows.ts';

const formKey = 'form';
/** 2: parents and holders of manifests, and leases; those begin when the index is brought into this form. */
const form = '2';
export const indexIdKey = 'index-id';
const batchSize = 1000;

/** Idempotent, also when it was interrupted. */
export async function prepareTables(rows: IndexRows): Promise<void> {
  const { db, meta } = rows.tables;
  if (meta.get(indexIdKey) === undefined) await commit(db, () => meta.putSync(indexIdKey, randomUUID()));
  if (meta.get(formKey) === form) return;
  await inBatches(rows, (after) => indexReferences(rows, after));
  await inBatches(rows, (after) => leaseLinks(rows, after));
  await commit(db, () => meta.putSync(formKey, form));
}

/** `change` returns where to go on; undefined at the end. */
async function inBatches(rows: IndexRows, change: (after: string[] | undefined) => string[] | undefined): Promise<void> {
  let after: string[] | undefined;
  do {
    const start = after;
    after = await commit(rows.tables.db, () => change(start));
  } while (after !== undefined);
}

function batchOf(keys: Iterable<string[]>): { readonly keys: readonly string[][]; readonly next: string[] | undefined } {
  const batch = [...keys];
  return { keys: batch, next: batch.length < batchSize ? undefined : batch.at(-1) };
}

const rangeAfter = (after: string[] | undefined) => ({ ...(after === undefined ? {} : { start: [...after, ''] }), limit: batchSize });

function indexReferences(rows: IndexRows, after: string[] | undefined): string[] | undefined {
  const { keys, next } = batchOf(rows.tables.manifests.getKeys(rangeAfter(after)));
  for (const key of keys) {
    const { repository, digest } = namesOf(key);
    const entry = rows.manifest(repository, digest);
    if (entry === undefined) continue;
    rows.addReferences(repository, entry);
    rows.renew(repository, digest);
  }
  return next;
}

function leaseLinks(rows: IndexRows, after: string[] | undefined): string[] | undefined {
  const { keys, next } = batchOf(rows.tables.links.getKeys(rangeAfter(after)));
  for (const key of keys) {
    const { repository, digest } = namesOf(key);
    rows.renew(repository, digest);
  }
  return next;
}

function namesOf([repository, digest]: readonly string[]) {
  return { repository: parseRepositoryName(String(repository)), digest: parseDigest(String(digest)) };
}
