/** Upload sessions: start, append, ask, finish and cancel, and mounts from another repository. The store's offset is the only truth. */
import {
  type Digest,
  type DigestAlgorithm,
  isAppError,
  isRepositoryName,
  type RepositoryName,
  toAppError,
  type UploadChunk,
  type UploadStat,
} from '#core';
import { type Answer, type AnswerHeaders, accepted, created, noContent } from './answer.ts';
import { SizeLimit } from './blob-size.ts';
import { type AllowedCall, type Call, digestOfText, headerOf, type Surface, writerOf } from './call.ts';
import { RegistryError, toRegistryError, toSessionError } from './errors.ts';
import { parseChunkRange, uploadRangeOf } from './http-range.ts';

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** Where an upload is: a repository and the id of a session. */
export interface UploadKey {
  readonly repository: RepositoryName;
  readonly id: string;
}

/** `POST`: a mount with `?mount=`, a whole blob with `?digest=`, a session otherwise. */
export async function startUpload(call: AllowedCall, repository: RepositoryName, surface: Surface): Promise<Answer> {
  const writer = writerOf(surface);
  const mount = call.query.get('mount');
  if (mount !== undefined) {
    const digest = digestOfText(mount);
    if (await tryMount(call, repository, digest, surface)) return blobCreated(repository, digest);
    return accepted(sessionHeaders(repository, await writer.startUpload(repository, {}, call)));
  }
  const digest = call.query.get('digest');
  if (digest !== undefined) return uploadWhole(call, repository, digestOfText(digest), surface);
  const algorithm = algorithmOfText(call.query.get('digest-algorithm'));
  const session = await writer.startUpload(repository, algorithm === undefined ? {} : { algorithm }, call);
  return accepted(sessionHeaders(repository, session));
}

/** The repository that a `POST` wants to mount from, where that is one at all. */
export function mountSourceOf({ query }: Call): RepositoryName | undefined {
  const from = query.get('from');
  return query.get('mount') !== undefined && from !== undefined && isRepositoryName(from) ? from : undefined;
}

/** `GET` and `HEAD`: how far the session is. */
export async function statUpload(call: Call, key: UploadKey, surface: Surface): Promise<Answer> {
  const session = await writerOf(surface).statUpload(key.repository, knownId(key.id), call);
  return noContent(sessionHeaders(key.repository, session));
}

/** `PATCH`: appends the body. */
export async function appendUpload(call: Call, key: UploadKey, surface: Surface): Promise<Answer> {
  const writer = writerOf(surface);
  const session = call.hasBody ? await append(call, key, surface) : await writer.statUpload(key.repository, knownId(key.id), call);
  return accepted(sessionHeaders(key.repository, session));
}

/** `PUT`: appends the body, if there is one, and ends the session. */
export async function finishUpload(call: Call, key: UploadKey, surface: Surface): Promise<Answer> {
  const writer = writerOf(surface);
  const id = knownId(key.id);
  const digest = digestOfText(call.query.get('digest'));
  try {
    if (call.hasBody) await append(call, key, surface, digest);
    await writer.commitUpload(key.repository, id, digest, call);
  } catch (error) {
    if (!(await isAlreadyThere(error, call, key.repository, digest, surface)))
      throw isAppError(error, 'aborted') ? toSessionError(error) : error;
  }
  return blobCreated(key.repository, digest);
}

/** `DELETE`: forgets the session. */
export async function cancelUpload(call: Call, key: UploadKey, surface: Surface): Promise<Answer> {
  await writerOf(surface).cancelUpload(key.repository, knownId(key.id), call);
  return noContent();
}

/** A client whose 201 got lost asks again; the session is gone by then, but the blob is what it wanted. */
async function isAlreadyThere(error: unknown, call: Call, repository: RepositoryName, digest: Digest, surface: Surface): Promise<boolean> {
  if (!isAppError(error, 'not-found') || call.hasBody) return false;
  try {
    await surface.store.reader.statBlob(repository, digest, call);
    return true;
  } catch (reason) {
    if (isAppError(reason, 'not-found')) return false;
    throw reason;
  }
}

async function uploadWhole(call: Call, repository: RepositoryName, digest: Digest, surface: Surface): Promise<Answer> {
  const writer = writerOf(surface);
  const size = new SizeLimit(call, 0, surface.settings.limits.blobBytes);
  const algorithm: DigestAlgorithm = digest.startsWith('sha512:') ? 'sha512' : 'sha256';
  const { id } = await writer.startUpload(repository, { algorithm }, call);
  try {
    if (call.hasBody) await writer.appendUpload(repository, id, { body: size.body(), last: lastOf(call, digest) }, call);
    await writer.commitUpload(repository, id, digest, call);
  } catch (error) {
    // The client never learnt the session's address, so nobody can resume it.
    await discard({ repository, id }, surface);
    throw size.exceeded ?? error;
  }
  return blobCreated(repository, digest);
}

/** A chunk in the wrong place is told where the session really is, and the session lives on. */
async function append(call: Call, key: UploadKey, surface: Surface, digest?: Digest): Promise<UploadStat> {
  const writer = writerOf(surface);
  const id = knownId(key.id);
  let size: SizeLimit | undefined;
  try {
    const range = chunkRangeOf(call);
    size = new SizeLimit(call, range?.startByte ?? 0, surface.settings.limits.blobBytes);
    const last = digest === undefined ? {} : { last: lastOf(call, digest) };
    const session = await writer.appendUpload(key.repository, id, { body: size.body(), ...range, ...last }, call);
    size.check(session.offsetBytes);
    return session;
  } catch (error) {
    if (size?.exceeded !== undefined) {
      // Whatever follows could only make it larger, so the bytes that are here need not wait for the session to expire.
      await discard({ repository: key.repository, id }, surface);
      throw size.exceeded;
    }
    const failure = toRegistryError(error);
    if (failure.problem !== 'chunkOutOfOrder') throw toSessionError(error);
    const session = await writer.statUpload(key.repository, id, call);
    throw failure.withHeaders(sessionHeaders(key.repository, session));
  }
}

function lastOf({ contentLength }: Call, digest: Digest): NonNullable<UploadChunk['last']> {
  return { digest, lengthBytes: contentLength };
}

function chunkRangeOf(call: Call): Omit<UploadChunk, 'body'> | undefined {
  const header = headerOf(call.headers, 'content-range');
  if (header === undefined) return undefined;
  const range = parseChunkRange(header);
  if (range === 'malformed') {
    throw new RegistryError('chunkOutOfOrder', 'Content-Range must be <first>-<last>, both counted from the start of the blob');
  }
  return range;
}

/**
 * Every failure of a mount becomes an ordinary upload: containerd gives up the whole push when a mount is refused. A `from` that is
 * no repository name has no blob, and what the caller may not pull is as good as absent. (A token that only leaves out what its owner may pull has
 * been sent back for a better one before.)
 */
async function tryMount(call: AllowedCall, repository: RepositoryName, digest: Digest, surface: Surface): Promise<boolean> {
  const from = mountSourceOf(call);
  if (from === undefined && call.query.get('from') !== undefined) return false;
  // Without a source any repository would do, so the caller must be allowed to pull them all, and may then name one too.
  const mayRead = call.caller.mayPullAll || (from !== undefined && call.caller.judge('pull', from) === 'allowed');
  if (!mayRead) return false;
  try {
    return await writerOf(surface).mountBlob(repository, digest, from, call);
  } catch (error) {
    surface.logger.debug('mount failed, uploading instead', { repository, from, error: toAppError(error).message });
    return false;
  }
}

function blobCreated(repository: RepositoryName, digest: Digest): Answer {
  return created({ location: `/v2/${repository}/blobs/${digest}`, 'docker-content-digest': digest });
}

/** Locations are paths: an absolute one would have to guess scheme, host and port behind a load balancer. */
function sessionHeaders(repository: RepositoryName, session: UploadStat): AnswerHeaders {
  return {
    location: `/v2/${repository}/blobs/uploads/${session.id}`,
    range: uploadRangeOf(session.offsetBytes),
    'docker-upload-uuid': session.id,
  };
}

function knownId(id: string): string {
  if (uuid.test(id)) return id;
  throw new RegistryError('uploadUnknown', 'no such upload; start a new one');
}

function algorithmOfText(text: string | undefined): DigestAlgorithm | undefined {
  if (text === undefined || text === 'sha256' || text === 'sha512') return text;
  throw new RegistryError('digestInvalid', 'unsupported digest algorithm: use sha256 or sha512', {
    detail: { algorithm: text.slice(0, 40) },
  });
}

/** Ends a session that nobody will continue, whether the client is still there or not. It may be gone already, and else expires by itself. */
async function discard({ repository, id }: UploadKey, surface: Surface): Promise<void> {
  try {
    await writerOf(surface).cancelUpload(repository, id, { signal: new AbortController().signal });
  } catch (error) {
    if (!isAppError(error, 'not-found'))
      surface.logger.debug('an upload was not ended; it will expire', { id, error: toAppError(error).message });
  }
}
