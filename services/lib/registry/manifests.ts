/** Reading, writing and deleting manifests. Bytes and media type are served exactly as they were pushed, whatever Accept says. */
import { algorithmOf, digestOf, type ManifestStat, type Reference, type RepositoryName, type Tag } from '#core';
import { type Answer, type AnswerHeaders, accepted, created, described, notModified, ok } from './answer.ts';
import { conditionsOf, preconditionFailed } from './blobs.ts';
import { type Call, digestOfText, type Surface, tagOfText, writerOf } from './call.ts';
import { RegistryError } from './errors.ts';
import { parseManifest } from './manifest.ts';
import { etagOf, judge } from './preconditions.ts';

/** `GET` and `HEAD`. */
export async function readManifest(call: Call, repository: RepositoryName, text: string, { store }: Surface): Promise<Answer> {
  const reference = existingReference(text);
  if (call.method === 'HEAD') {
    const stat = await store.reader.statManifest(repository, reference, call);
    return verdictOf(call, reference, stat) ?? described({ ...contentHeaders(reference, stat), 'content-length': String(stat.sizeBytes) });
  }
  const manifest = await store.reader.getManifest(repository, reference, call);
  const { bytes } = manifest;
  const body = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return verdictOf(call, reference, manifest) ?? ok(contentHeaders(reference, manifest), body);
}

/** `PUT`. Checks size, media type, schema and digest, in this order; the store checks the references. */
export async function writeManifest(call: Call, repository: RepositoryName, text: string, surface: Surface): Promise<Answer> {
  const writer = writerOf(surface);
  const { limits, allowSparse } = surface.settings;
  const reference: Reference = text.includes(':') ? { digest: digestOfText(text) } : { tag: tagOfText(text) };
  const tags = tagsOf(call, reference, limits.tagsPerPut);
  const bytes = await collect(call, limits.manifestBytes, limits.manifestTimeoutMs);
  const parsed = parseManifest(bytes, call.contentType);
  const digest = digestOf(bytes, 'digest' in reference ? algorithmOf(reference.digest) : 'sha256');
  if ('digest' in reference && digest !== reference.digest) {
    throw new RegistryError('digestInvalid', 'the manifest does not have the digest it was pushed by', { detail: { digest } });
  }
  await writer.putManifest(repository, { ...parsed, digest, bytes, tags, sparse: allowSparse }, call);
  return created({
    location: `/v2/${repository}/manifests/${digest}`,
    'docker-content-digest': digest,
    ...(parsed.subject === undefined ? {} : { 'oci-subject': parsed.subject }),
    ...('digest' in reference && tags.length > 0 ? { 'oci-tag': tags.join(', ') } : {}),
  });
}

/** `DELETE`: by digest the manifest and every tag on it, by tag the tag alone. */
export async function deleteManifest(call: Call, repository: RepositoryName, text: string, surface: Surface): Promise<Answer> {
  await writerOf(surface).deleteManifest(repository, existingReference(text), call);
  return accepted();
}

/** What is no tag cannot exist, so asking for it is "unknown" and not "invalid". */
function existingReference(text: string): Reference {
  if (text.includes(':')) return { digest: digestOfText(text) };
  try {
    return { tag: tagOfText(text) };
  } catch (error) {
    throw new RegistryError('manifestUnknown', 'no such manifest', { detail: { tag: text.slice(0, 160) }, cause: error });
  }
}

function verdictOf(call: Call, reference: Reference, stat: ManifestStat): Answer | undefined {
  switch (judge(conditionsOf(call), stat.digest)) {
    case 'precondition-failed':
      throw preconditionFailed();
    case 'not-modified':
      return notModified(contentHeaders(reference, stat));
    case 'proceed':
      return undefined;
  }
}

function contentHeaders(reference: Reference, stat: ManifestStat): AnswerHeaders {
  return {
    'content-type': stat.mediaType,
    'docker-content-digest': stat.digest,
    etag: etagOf(stat.digest),
    'cache-control': 'digest' in reference ? 'private, max-age=31536000, immutable' : 'no-cache',
  };
}

function tagsOf(call: Call, reference: Reference, tagsMax: number): readonly Tag[] {
  const texts = call.query.getAll('tag');
  if ('tag' in reference) {
    if (texts.length === 0) return [reference.tag];
    throw new RegistryError('tagInvalid', 'tag parameters need a push by digest; drop them or push by digest');
  }
  if (texts.length > tagsMax) throw new RegistryError('tagsTooMany', `too many tags at once: send at most ${tagsMax}`);
  return [...new Set(texts.map(tagOfText))];
}

/** Reads the body, which may come without a length, up to the limit. */
async function collect(call: Call, sizeBytesMax: number, totalMs: number): Promise<Buffer> {
  const tooLarge = (): RegistryError => new RegistryError('manifestTooLarge', `the manifest is too large: at most ${sizeBytesMax} bytes`);
  if ((call.contentLength ?? 0) > sizeBytesMax) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of call.body({ totalMs })) {
    sizeBytes += chunk.byteLength;
    if (sizeBytes > sizeBytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, sizeBytes);
}
