/** The plan of the garbage collection against a plain marking from the roots, on random repositories. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ManifestEntry, TagEntry } from '#cluster';
import { type Digest, digestOf } from '#core';
import {
  mayGo,
  type PlannedItem,
  type PlanTerms,
  planRepository,
  type RepositoryView,
} from '../../../services/build-index/garbage-plan.ts';
import { keepAll, type RetentionRule } from '../../../services/build-index/retention.ts';
import { childrenOf } from '../../../services/build-index/rows.ts';
import { manifestEntry } from '../../support/manifest-entry.ts';

const nowMs = 1_000_000;
const graceMs = 100;
const digest = (name: string): Digest => digestOf(Buffer.from(name));

interface Model {
  readonly manifests: ReadonlyMap<Digest, ManifestEntry>;
  readonly links: ReadonlySet<Digest>;
  readonly tags: ReadonlyMap<string, TagEntry>;
  readonly leases: ReadonlyMap<Digest, number>;
}

/** Manifest i refers only to blobs and to manifests before it, as content addresses make it; its subject may be missing. */
const models = fc
  .record({
    manifests: fc.array(
      fc.record({
        children: fc.array(fc.nat(11), { maxLength: 3 }),
        blobs: fc.array(fc.nat(7), { maxLength: 3 }),
        subject: fc.option(fc.nat(15)),
      }),
      { maxLength: 12 },
    ),
    tags: fc.array(fc.nat(11), { maxLength: 6 }),
    ages: fc.array(fc.nat(3), { minLength: 24, maxLength: 24 }),
  })
  .map(({ manifests, tags, ages }): Model => {
    const name = (i: number): Digest => digest(`m${i}`);
    const entries = manifests.map(({ children, blobs, subject }, i) =>
      manifestEntry(`m${i}`, {
        manifests: [...new Set(children.filter((child) => child < i).map(name))],
        blobs: [...new Set(blobs.map((blob) => digest(`b${blob}`)))],
        subject: subject === null ? undefined : subject < i ? name(subject) : digest(`absent ${subject}`),
      }),
    );
    const blobs = Array.from({ length: 8 }, (_, i) => digest(`b${i}`));
    const tagged = tags.filter((target) => target < entries.length);
    const age = (i: number): number => nowMs - (ages[i] ?? 0) * graceMs;
    return {
      manifests: new Map(entries.map((entry) => [entry.digest, entry])),
      links: new Set(blobs),
      tags: new Map(
        tagged.map((target, i) => [`t${i}`, { tag: `t${i}`, digest: name(target), version: (BigInt(age(i)) << 16n) | BigInt(i) }]),
      ),
      leases: new Map([
        ...entries.map((entry, i): [Digest, number] => [entry.digest, age(i)]),
        ...blobs.map((blob, i): [Digest, number] => [blob, age(12 + i)]),
      ]),
    };
  });

const rules: fc.Arbitrary<RetentionRule> = fc.record({
  mayExpire: fc.constant((tag: string) => tag !== 't0'),
  keepLast: fc.option(fc.nat(3), { nil: undefined }),
  keepForMs: fc.option(fc.constantFrom(0, 2 * graceMs), { nil: undefined }),
  untaggedForMs: fc.option(fc.constantFrom(0, 2 * graceMs), { nil: undefined }),
});

function viewOf({ manifests, links, tags, leases }: Model): RepositoryView {
  const page = <T extends string>(all: Iterable<T>, after: string, limit: number): T[] =>
    [...all]
      .filter((key) => key > after)
      .sort()
      .slice(0, limit);
  return {
    tags: (after, limit) => page(tags.keys(), after, limit).flatMap((tag) => tags.get(tag) ?? []),
    manifestDigests: (after, limit) => page(manifests.keys(), after, limit),
    links: (after, limit) => page(links, after, limit).map((found) => ({ digest: found, sizeBytes: 1 })),
    tag: (tag) => tags.get(tag),
    manifest: (found) => manifests.get(found),
    tagsOf: (found) => [...tags.values()].filter((entry) => entry.digest === found).map(({ tag }) => tag),
    parents: (found) => [...manifests.values()].filter((entry) => childrenOf(entry).has(found)).map((entry) => entry.digest),
    referrers: (found) => [...manifests.values()].filter(({ subject }) => subject === found).map((entry) => entry.digest),
    leasedMs: (found) => leases.get(found) ?? assert.fail('everything has a lease'),
  };
}

function planOf(model: Model, terms: PlanTerms): readonly PlannedItem[] {
  return [...planRepository(viewOf(model), terms, 1000)].filter((item) => item !== undefined);
}

/** What is left after a plan; a manifest that loses a tag begins its time anew. */
function without(model: Model, plan: readonly PlannedItem[]): Model {
  const [manifests, links, tags, leases] = [new Map(model.manifests), new Set(model.links), new Map(model.tags), new Map(model.leases)];
  for (const item of plan) {
    if (item.kind === 'tag') {
      tags.delete(item.tag.tag);
      leases.set(item.tag.digest, nowMs);
    } else if (item.kind === 'manifest') manifests.delete(item.digest);
    else links.delete(item.digest);
  }
  return { manifests, links, tags, leases };
}

/** Everything that is reached from the tags, downwards and along referrers. */
function reachedFrom(model: Model, roots: Iterable<Digest>): ReadonlySet<Digest> {
  const view = viewOf(model);
  const reached = new Set<Digest>();
  const stack = [...roots];
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    if (reached.has(next)) continue;
    reached.add(next);
    const entry = model.manifests.get(next);
    if (entry !== undefined) stack.push(...childrenOf(entry), ...view.referrers(next));
  }
  return reached;
}

test('nothing that a remaining tag reaches goes, nor anything that a push wanted within the grace', () => {
  fc.assert(
    fc.property(models, rules, (model, rule) => {
      const plan = planOf(model, { rule, nowMs, graceMs });
      const left = without(model, plan);
      const reached = reachedFrom(
        model,
        [...left.tags.values()].map((tag) => tag.digest),
      );
      for (const item of plan) {
        if (item.kind === 'tag') continue;
        assert.ok(!reached.has(item.digest), `${item.kind} ${item.digest} is reached`);
        assert.ok(nowMs - (model.leases.get(item.digest) ?? 0) >= graceMs);
      }
      for (const entry of left.manifests.values())
        for (const child of entry.blobs) assert.ok(left.links.has(child), 'a manifest that stays keeps its blobs');
    }),
    { numRuns: 500 },
  );
});

test('everything goes that no tag reaches and whose time is over, and a second run finds nothing', () => {
  const rule: RetentionRule = { ...keepAll, untaggedForMs: 0 };
  const terms = { rule, nowMs, graceMs };
  fc.assert(
    fc.property(models, (model) => {
      // All of it is old, and no index has a part of it as its subject: such a pair would keep each other.
      const plain = [...model.manifests].map(([key, entry]): [Digest, ManifestEntry] => [
        key,
        entry.manifests.length > 0 ? { ...entry, subject: undefined } : entry,
      ]);
      const aged = { ...model, manifests: new Map(plain), leases: new Map([...model.leases.keys()].map((key) => [key, 0])) };
      const left = without(aged, planOf(aged, terms));
      const reached = reachedFrom(
        aged,
        [...aged.tags.values()].map((tag) => tag.digest),
      );
      assert.deepEqual(
        [...left.manifests.keys()].filter((key) => !reached.has(key)),
        [],
      );
      assert.deepEqual(
        [...left.links].filter((key) => !reached.has(key)),
        [],
      );
      assert.deepEqual(planOf(left, terms), []);
    }),
    { numRuns: 500 },
  );
});

test('every item of a plan may still go when those before it have gone, and none after something has begun to need it', () => {
  fc.assert(
    fc.property(models, rules, (model, rule) => {
      const terms = { rule, nowMs, graceMs };
      let left = model;
      const plan = planOf(model, terms);
      for (const item of plan) {
        assert.ok(mayGo(item, viewOf(left), terms), `${item.kind} may go`);
        left = without(left, [item]);
      }
      const item = plan.find(({ kind }) => kind !== 'tag');
      if (item === undefined || item.kind === 'tag') return;
      const parent = manifestEntry('pushed meanwhile', { either: [item.digest] });
      const needed = { ...model, manifests: new Map([...model.manifests, [parent.digest, parent]]) };
      assert.ok(!mayGo(item, viewOf(needed), terms));
    }),
    { numRuns: 500 },
  );
});

test('of the tags that may go exactly the latest stay', () => {
  fc.assert(
    fc.property(models, fc.nat(4), (model, keepLast) => {
      const rule: RetentionRule = { ...keepAll, mayExpire: (tag) => tag !== 't0', keepLast };
      const gone = planOf(model, { rule, nowMs, graceMs }).flatMap((item) => (item.kind === 'tag' ? [item.tag.tag] : []));
      const covered = [...model.tags.values()].filter(({ tag }) => tag !== 't0').sort((a, b) => (a.version > b.version ? -1 : 1));
      assert.deepEqual(
        gone.sort(),
        covered
          .slice(keepLast)
          .map(({ tag }) => tag)
          .sort(),
      );
    }),
  );
});

test('a plan ends at its limit', () => {
  const links = new Set(Array.from({ length: 500 }, (_, i) => digest(`${i}`)));
  const model = { manifests: new Map(), links, tags: new Map(), leases: new Map([...links].map((link) => [link, 0])) };
  assert.equal([...planRepository(viewOf(model), { rule: keepAll, nowMs, graceMs }, 300)].filter((item) => item !== undefined).length, 300);
  assert.equal(planOf(model, { rule: keepAll, nowMs, graceMs }).length, 500);
});
