/**
 * Manifests of upstreams: which one a tag is now, and its bytes and record in the mesh. A tag is checked by HEAD when its last check is older than the
 * rule allows; while the upstream is down, what it said last counts until that is too old. When a tag was last checked is in the build-index
 * (the version of the tag), so that any origin can go on after the loss of another.
 */
import { type BuildIndexClient, type OriginCluster, taggedMs } from '#cluster';
import {
  AppError,
  type Clock,
  type Counter,
  type Digest,
  isAppError,
  isTiny,
  type Logger,
  type Meter,
  type Reference,
  type Tag,
  toAppError,
} from '#core';
import { placeAndPublish } from '#images';
import type { BlobFetcher } from '#peer';
import type { BlobStore } from '#storage';
import type { PeerOffer } from '#swarm';
import { abortable, BoundedMap, credentialKey, readManifestFacts, SingleFlight, type UpstreamManifest } from '#upstream';
import type { BlobKeeper } from '../blob-keeper.ts';
import type { CallerAccess } from './caller-access.ts';
import { isDown, isRefusal, type UpstreamTarget } from './upstreams.ts';

export interface UpstreamManifestsDeps {
  readonly access: CallerAccess;
  readonly index: Pick<BuildIndexClient, 'fence' | 'getManifest' | 'getTag' | 'putManifest'>;
  readonly origins: Pick<OriginCluster, 'ingest'>;
  readonly keeper: Pick<BlobKeeper, 'metainfo'>;
  readonly store: Pick<BlobStore, 'put'>;
  readonly peer: Pick<BlobFetcher, 'seed'>;
  /** This origin as a source of what it has fetched. */
  readonly self: PeerOffer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
}

export interface ResolvedManifest {
  readonly digest: Digest;
  /** The upstream did not answer: this is what it said last. */
  readonly stale: boolean;
}

interface Checked {
  readonly digest: Digest;
  readonly atMs: number;
}

/** Tags and absences that are remembered. */
const entriesMax = 20_000;
/** What is not there is not asked for again for this long. */
const absentMs = 5000;
/** An upstream that did not answer is left alone for this long, so that not every pull waits for it. */
const downMs = 5000;
/** With something to fall back on, no pull waits longer than this for an upstream. */
const patienceMs = 10_000;
/** A check is written to the index when that is behind by this share of what the rule allows. */
const confirmShare = 8;
/** All of one resolution: the upstream, the owners and the index. */
const resolveMs = 55_000;

export class UpstreamManifests {
  readonly #deps: UpstreamManifestsDeps;
  readonly #checked = new BoundedMap<Checked>({ entriesMax });
  readonly #absent = new BoundedMap<{ readonly error: AppError; readonly atMs: number }>({ entriesMax });
  readonly #down = new BoundedMap<{ readonly error: AppError; readonly atMs: number }>({ entriesMax });
  readonly #resolving = new SingleFlight<ResolvedManifest>();
  readonly #holding = new SingleFlight<void>();
  readonly #outcomes: Counter;

  constructor(deps: UpstreamManifestsDeps) {
    this.#deps = deps;
    this.#outcomes = deps.meter.counter('shoal_origin_upstream_manifests_total', 'Manifests of upstreams that were asked for, by outcome');
  }

  /** Resolves when the manifest is in the mesh. Throws `not-found` (kind `manifest`) and what the upstream refuses or fails with. */
  async resolve(target: UpstreamTarget, reference: Reference, options: { readonly signal: AbortSignal }): Promise<ResolvedManifest> {
    const { upstream, repository } = target;
    const text = 'tag' in reference ? reference.tag : reference.digest;
    const key = `${repository}:${text}${upstream.checksCaller ? ` ${credentialKey(target.credentials)}` : ''}`;
    const absent = this.#absent.get(key);
    if (absent !== undefined && this.#ageMs(absent) < absentMs) throw absent.error;
    try {
      await this.#deps.access.require(target, () => upstream.client.headManifest(target.name, reference, this.#call(target)), options);
      const resolved = await this.#resolving.run(key, () => this.#resolve(target, reference), options);
      this.#outcomes.add(1, { outcome: resolved.stale ? 'stale' : 'found' });
      return resolved;
    } catch (error) {
      const failure = toAppError(error);
      if (isAppError(failure, 'not-found') || isRefusal(failure)) this.#absent.set(key, { error: failure, atMs: this.#deps.clock.nowMs() });
      if (!options.signal.aborted) this.#outcomes.add(1, { outcome: failure.code });
      throw failure;
    }
  }

  async #resolve(target: UpstreamTarget, reference: Reference): Promise<ResolvedManifest> {
    if ('digest' in reference) {
      await this.#hold(target, reference.digest);
      return { digest: reference.digest, stale: false };
    }
    const key = `${target.repository}:${reference.tag}`;
    const checked = this.#checked.get(key);
    if (checked !== undefined && this.#ageMs(checked) < target.upstream.config.fresh) return { digest: checked.digest, stale: false };
    try {
      const digest = await this.#check(target, reference.tag);
      this.#checked.set(key, { digest, atMs: this.#deps.clock.nowMs() });
      return { digest, stale: false };
    } catch (error) {
      const failure = toAppError(error);
      if (!isDown(failure)) throw failure;
      const digest = await this.#lastKnown(target, reference.tag);
      if (digest === undefined) throw failure;
      this.#deps.logger.warn('upstream does not answer: a tag is answered as it was last', {
        repository: target.repository,
        code: failure.code,
        error: failure.message,
      });
      return { digest, stale: true };
    }
  }

  /** Asks the upstream, and makes what it names available. */
  async #check(target: UpstreamTarget, tag: Tag): Promise<Digest> {
    const { upstream, name } = target;
    const down = this.#down.get(upstream.namespace);
    if (down !== undefined && this.#ageMs(down) < downMs) throw down.error;
    const known = await this.#indexed(target, tag);
    let digest: Digest | undefined;
    let whole: UpstreamManifest | undefined;
    try {
      const call = known === undefined ? this.#call(target) : this.#call(target, patienceMs);
      digest = (await upstreamAnswer(upstream.client.headManifest(name, { tag }, call), call.signal)).digest;
      if (digest === undefined) {
        whole = await upstream.client.getManifest(name, { tag }, this.#call(target));
        digest = whole.digest;
      }
    } catch (error) {
      const failure = toAppError(error);
      if (isDown(failure)) this.#down.set(upstream.namespace, { error: failure, atMs: this.#deps.clock.nowMs() });
      throw failure;
    }
    await this.#hold(target, digest, whole);
    await this.#confirm(target, tag, digest, known);
    return digest;
  }

  /** Makes sure that the index has the manifest and the owners its bytes. */
  async #hold(target: UpstreamTarget, digest: Digest, whole?: UpstreamManifest): Promise<void> {
    // Others may wait for it, so that no caller's signal ends it.
    const { signal } = this.#call(target);
    await this.#holding.run(
      `${target.repository}@${digest}`,
      async () => {
        if (await this.#isHeld(target, digest)) return;
        const manifest = whole ?? (await target.upstream.client.getManifest(target.name, { digest }, this.#call(target)));
        await this.#store(target, manifest);
      },
      { signal },
    );
  }

  async #isHeld({ repository }: UpstreamTarget, digest: Digest): Promise<boolean> {
    const { index, keeper } = this.#deps;
    const options = { signal: AbortSignal.timeout(resolveMs) };
    try {
      await index.getManifest(repository, { digest }, options);
      await keeper.metainfo(digest, { localOnly: false }, options);
      return true;
    } catch (error) {
      // An owner that does not answer may have the bytes; they are fetched again rather than waited for.
      if (isAppError(error, 'not-found') || (isAppError(error, 'unavailable') && error.data['digest'] === digest)) return false;
      throw error;
    }
  }

  async #store(target: UpstreamTarget, { digest, mediaType, bytes }: UpstreamManifest): Promise<void> {
    const { store, peer, origins, index, self, logger } = this.#deps;
    const facts = readManifestFacts(bytes, mediaType);
    const options = { signal: AbortSignal.timeout(resolveMs) };
    const place = async (): Promise<void> => {
      const metainfo = await store.put(digest, bytes, { fsync: true });
      peer.seed(metainfo);
      try {
        await origins.ingest(metainfo, [self], isTiny(bytes.byteLength) ? bytes : undefined, options);
      } catch (error) {
        // It is here, and the upstream has it: fewer copies than a push needs are no reason to refuse a pull.
        logger.warn('a manifest of an upstream has fewer copies than it should', { digest, error: toAppError(error).message });
      }
    };
    const record = { ...facts, digest, sizeBytes: bytes.byteLength, tags: [], sparse: true };
    await placeAndPublish({ place, publish: (fence) => index.putManifest(target.repository, record, fence, options) }, this.#deps, options);
    logger.info('manifest fetched from an upstream', { repository: target.repository, digest, sizeBytes: bytes.byteLength });
  }

  /** Writes into the index what the tag is and, now and then, that it was checked. */
  async #confirm(target: UpstreamTarget, tag: Tag, digest: Digest, known: Indexed | undefined): Promise<void> {
    const { index, clock } = this.#deps;
    const writtenMsAgo = known?.digest === digest ? clock.wallMs() - known.checkedMs : Number.POSITIVE_INFINITY;
    if (writtenMsAgo < target.upstream.config.stale / confirmShare) return;
    const options = { signal: AbortSignal.timeout(resolveMs) };
    const publish = async (fence: bigint): Promise<unknown> => {
      const entry = await index.getManifest(target.repository, { digest }, options);
      return index.putManifest(target.repository, { ...entry, tags: [tag], sparse: true }, fence, options);
    };
    await placeAndPublish({ place: () => this.#hold(target, digest), publish }, this.#deps, options);
  }

  /** What the upstream said last, unless that is too long ago. */
  async #lastKnown(target: UpstreamTarget, tag: Tag): Promise<Digest | undefined> {
    const { stale } = target.upstream.config;
    const checked = this.#checked.get(`${target.repository}:${tag}`);
    if (checked !== undefined && this.#ageMs(checked) <= stale) return checked.digest;
    const known = await this.#indexed(target, tag);
    return known !== undefined && this.#deps.clock.wallMs() - known.checkedMs <= stale ? known.digest : undefined;
  }

  async #indexed({ repository }: UpstreamTarget, tag: Tag): Promise<Indexed | undefined> {
    try {
      const found = await this.#deps.index.getTag(repository, tag, { signal: AbortSignal.timeout(resolveMs) });
      return { digest: found.manifest.digest, checkedMs: taggedMs(found.tag) };
    } catch (error) {
      if (isAppError(error, 'not-found')) return undefined;
      throw error;
    }
  }

  #ageMs({ atMs }: { readonly atMs: number }): number {
    return this.#deps.clock.nowMs() - atMs;
  }

  /** Ends by itself: others may wait for what one caller began. */
  #call({ credentials }: UpstreamTarget, timeoutMs = resolveMs) {
    return { credentials, signal: AbortSignal.timeout(timeoutMs) };
  }
}

/** A tag in the index. */
interface Indexed {
  readonly digest: Digest;
  /** Unix time in milliseconds. */
  readonly checkedMs: number;
}

/** The time for it being over is the fault of the upstream. */
async function upstreamAnswer<T>(answer: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await abortable(answer, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
    throw new AppError('unavailable', 'the upstream does not answer in time', { data: { kind: 'upstream' }, cause: error });
  }
}
