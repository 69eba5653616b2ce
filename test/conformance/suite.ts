/** The whole suite against one registry that takes pushes. */
import { randomBytes } from 'node:crypto';
import { checkBlobs } from './blobs.ts';
import { randomContent } from './content.ts';
import { checkDataSet, checkInvalid, checkSparseRefused } from './data-checks.ts';
import { dataSets, sparseSets } from './data-sets.ts';
import { checkLegacyDiscovery, checkLegacyManagement } from './legacy-lists.ts';
import { checkLegacyPull } from './legacy-pull.ts';
import { checkLegacyPush } from './legacy-push.ts';
import type { Check, Recorder } from './recorder.ts';
import { checkEmpty } from './referrer-checks.ts';
import type { Registry } from './registry.ts';

const pushedAgain: readonly string[] = ['image', 'empty-index', 'artifacts-with-subject', 'tag-param-sha512 (dev)'];

/** Runs every area, each in repositories nobody used before. Never throws for what the registry does. */
export async function runSuite(registry: Registry, recorder: Recorder, target: string): Promise<void> {
  const run = randomBytes(4).toString('hex');
  const repository = (name: string): string => `conformance/${run}/${name}`;
  const area = (name: string): Check => recorder.area(target, name);

  const basics = area('ping, empty, missing, invalid');
  await checkEmpty({ registry, repository: repository('empty'), check: basics }, randomContent(8));
  await checkInvalid({ registry, repository: repository('invalid'), check: basics });
  for (const set of sparseSets()) await checkSparseRefused({ registry, repository: repository('sparse'), check: basics }, set);
  for (const algorithm of ['sha256', 'sha512'] as const) {
    const [own, other] = [repository(`repo1-${algorithm}`), repository(`repo2-${algorithm}`)];
    await checkBlobs({ registry, repository: own, otherRepository: other, algorithm, check: area(`${algorithm} blobs`) });
  }
  const sets = dataSets();
  const data = { registry, repository: repository('data'), check: area('data sets') };
  for (const set of sets) await checkDataSet(data, set);
  // The same bytes and tags once more: nothing of what was deleted may be in the way.
  for (const set of sets.filter(({ name }) => pushedAgain.includes(name))) await checkDataSet(data, { ...set, name: `${set.name} again` });
  await checkLegacyPull({ registry, repository: repository('legacy-pull'), check: area('older suites: pull') });
  const pushing = { registry, repository: repository('legacy-push'), otherRepository: repository('legacy-cross') };
  await checkLegacyPush({ ...pushing, check: area('older suites: push') });
  await checkLegacyDiscovery({ registry, repository: repository('legacy-lists'), check: area('older suites: discovery') });
  await checkLegacyManagement({ registry, repository: repository('legacy-delete'), check: area('older suites: management') });
}

/** What a registry that takes manifests without all that they refer to must take besides. */
export async function runSparse(registry: Registry, recorder: Recorder, target: string): Promise<void> {
  const repository = `conformance/${randomBytes(4).toString('hex')}/sparse`;
  for (const set of sparseSets()) await checkDataSet({ registry, repository, check: recorder.area(target, 'sparse manifests') }, set);
}
