/** Which operation a request is, and the access it needs. The table below is the whole surface. */
import type { RepositoryName } from '#core';
import { type Access, authorise } from './access.ts';
import { type Answer, okJson } from './answer.ts';
import { deleteBlob, readBlob } from './blobs.ts';
import { type AllowedCall, type Call, digestOfText, readOnlyError, repositoryOf, type Surface } from './call.ts';
import { RegistryError } from './errors.ts';
import { listReferrers, listRepositories, listTags } from './lists.ts';
import { deleteManifest, readManifest, writeManifest } from './manifests.ts';
import type { Target } from './router.ts';
import { grantByForm, grantByQuery } from './token-endpoint.ts';
import { appendUpload, cancelUpload, finishUpload, mountSourceOf, startUpload, statUpload } from './uploads.ts';

interface Operation<T> {
  readonly access: Access;
  /** A repository that it reads from besides. */
  readonly source?: (call: Call) => RepositoryName | undefined;
  readonly handle: (call: AllowedCall, target: T, surface: Surface) => Promise<Answer>;
}

type Operations<T> = Readonly<Record<string, Operation<T>>>;
type Of<K extends Target['kind']> = Extract<Target, { readonly kind: K }>;

function reads<T>(access: Access, handle: Operation<T>['handle']): Operations<T> {
  return { GET: { access, handle }, HEAD: { access, handle } };
}

const ping: Operations<Of<'ping'>> = reads('none', async () => okJson({}));
const catalog: Operations<Of<'catalog'>> = reads('catalog', (call, _target, surface) => listRepositories(call, surface));
const tags: Operations<Of<'tags'>> = reads('pull', (call, target, surface) => listTags(call, repositoryOf(target.name), surface));
const referrers: Operations<Of<'referrers'>> = reads('pull', (call, target, surface) =>
  listReferrers(call, repositoryOf(target.name), digestOfText(target.digest), surface),
);

const manifest: Operations<Of<'manifest'>> = {
  ...reads('pull', (call, target, surface) => readManifest(call, repositoryOf(target.name), target.reference, surface)),
  PUT: {
    access: 'push',
    handle: (call, target, surface) => writeManifest(call, repositoryOf(target.name), target.reference, surface),
  },
  DELETE: {
    access: 'delete',
    handle: (call, target, surface) => deleteManifest(call, repositoryOf(target.name), target.reference, surface),
  },
};

const blob: Operations<Of<'blob'>> = {
  ...reads('pull', (call, target, surface) => readBlob(call, repositoryOf(target.name), digestOfText(target.digest), surface)),
  DELETE: {
    access: 'delete',
    handle: (call, target, surface) => deleteBlob(call, repositoryOf(target.name), digestOfText(target.digest), surface),
  },
};

const uploads: Operations<Of<'uploads'>> = {
  POST: {
    access: 'push',
    source: mountSourceOf,
    handle: (call, target, surface) => startUpload(call, repositoryOf(target.name), surface),
  },
};

const upload: Operations<Of<'upload'>> = {
  ...reads('push', (call, target, surface) => statUpload(call, uploadKey(target), surface)),
  PATCH: { access: 'push', handle: (call, target, surface) => appendUpload(call, uploadKey(target), surface) },
  PUT: { access: 'push', handle: (call, target, surface) => finishUpload(call, uploadKey(target), surface) },
  DELETE: { access: 'push', handle: (call, target, surface) => cancelUpload(call, uploadKey(target), surface) },
};

/** Answers a request. Throws whatever the handlers throw; the caller translates it. */
export async function dispatch(call: Call, target: Target, surface: Surface): Promise<Answer> {
  switch (target.kind) {
    case 'ping':
      return run(call, target, surface, ping);
    case 'catalog':
      return run(call, target, surface, catalog);
    case 'tags':
      return run(call, target, surface, tags);
    case 'manifest':
      return run(call, target, surface, surface.settings.deletesEnabled ? manifest : withoutDelete(manifest));
    case 'referrers':
      return run(call, target, surface, referrers);
    case 'uploads':
      return run(call, target, surface, uploads);
    case 'upload':
      return run(call, target, surface, upload);
    case 'blob':
      return run(call, target, surface, surface.settings.deletesEnabled ? blob : withoutDelete(blob));
    case 'token':
      return token(call, surface);
    case 'malformed':
      throw new RegistryError('nameInvalid', 'the path is malformed; percent-encode each segment once and leave none empty');
    case 'unknown':
      throw new RegistryError('routeUnknown', 'no such route; the registry lives below /v2/');
  }
}

async function run<T extends Target>(call: Call, target: T, surface: Surface, operations: Operations<T>): Promise<Answer> {
  const repository = 'name' in target ? repositoryOf(target.name) : undefined;
  if (surface.store.writer === undefined && !isRead(call.method)) throw readOnlyError();
  const operation = Object.hasOwn(operations, call.method) ? operations[call.method] : undefined;
  if (operation === undefined) {
    throw methodUnsupported(Object.keys(operations).filter((method) => surface.store.writer !== undefined || isRead(method)));
  }
  const caller = authorise(call.access, {
    access: operation.access,
    repository,
    source: operation.source?.(call),
    isReadOnly: surface.store.writer === undefined,
  });
  return operation.handle({ ...call, caller }, target, surface);
}

/** The token endpoint is open to everybody, on a pull-only node too. */
async function token(call: Call, surface: Surface): Promise<Answer> {
  if (call.method === 'GET') return grantByQuery(call, surface);
  if (call.method === 'POST') return grantByForm(call, surface);
  throw methodUnsupported(['GET', 'POST']);
}

function methodUnsupported(allowed: readonly string[]): RegistryError {
  return new RegistryError('methodUnsupported', 'this method is not supported here', { headers: { allow: allowed.join(', ') } });
}

function isRead(method: string): boolean {
  return method === 'GET' || method === 'HEAD';
}

function withoutDelete<T>(operations: Operations<T>): Operations<T> {
  return Object.fromEntries(Object.entries(operations).filter(([method]) => method !== 'DELETE'));
}

function uploadKey(target: Of<'upload'>): { readonly repository: ReturnType<typeof repositoryOf>; readonly id: string } {
  return { repository: repositoryOf(target.name), id: target.id };
}
