/** A tracker and its owners in memory: every node of a test joins it and gets a PeerDirectory of its own. */

import type { LookupResult, PeerDirectory } from '#cluster';
import { AppError, type Digest, type Metainfo, type NodeIdentity, type PeerId, peerIdOf } from '#core';
import type { PeerOffer } from '#swarm';

type State = 'wanted' | 'complete';

interface Announced {
  readonly member: MemoryDirectory;
  state: State;
}

export class MemoryTracker {
  /** While false, nobody gets an answer and nobody is heard. */
  up = true;
  /** Who owns every blob, best first. */
  readonly owners: PeerOffer[] = [];
  /** What owners do when they are asked for a blob: they may fetch it from somewhere. */
  onAskOwners: (digest: Digest) => Promise<void> = async () => undefined;
  readonly #metainfos = new Map<Digest, Metainfo>();
  readonly #announced = new Map<Digest, Map<PeerId, Announced>>();

  /** The blob exists: lookups find its metainfo. */
  publish(metainfo: Metainfo): void {
    this.#metainfos.set(metainfo.digest, metainfo);
  }

  /** A node's directory; set its `endpoint` once it listens. */
  join(identity: NodeIdentity): MemoryDirectory {
    return new MemoryDirectory(this, peerIdOf(identity));
  }

  lookup(digest: Digest, asker: PeerId): LookupResult {
    if (!this.up) throw new AppError('unavailable', 'no tracker and no owner answers');
    const metainfo = this.#metainfos.get(digest);
    if (metainfo === undefined) throw new AppError('not-found', 'the owners have no such blob', { data: { kind: 'blob' } });
    return { metainfo, peers: this.peers(digest, asker) };
  }

  update(digest: Digest, member: MemoryDirectory, state: State | 'gone', peersWanted: number): void {
    if (!this.up) return;
    const swarm = this.#announced.get(digest) ?? new Map<PeerId, Announced>();
    this.#announced.set(digest, swarm);
    if (state === 'gone') {
      swarm.delete(member.peer);
      return;
    }
    swarm.set(member.peer, { member, state });
    if (peersWanted > 0) queueMicrotask(() => member.tell(digest, this.peers(digest, member.peer)));
  }

  /** What a node has told of a blob. */
  stateOf(digest: Digest, identity: NodeIdentity): State | undefined {
    return this.#announced.get(digest)?.get(peerIdOf(identity))?.state;
  }

  peers(digest: Digest, asker: PeerId): PeerOffer[] {
    const swarm = [...(this.#announced.get(digest)?.values() ?? [])];
    return swarm.filter(({ member }) => member.peer !== asker).map(({ member, state }) => member.offer(state === 'complete'));
  }
}

export class MemoryDirectory implements PeerDirectory {
  /** `host:port` of the node, once it listens. */
  endpoint = '';
  readonly peer: PeerId;
  readonly #tracker: MemoryTracker;
  readonly #listeners = new Set<(digest: Digest, peers: readonly PeerOffer[]) => void>();

  constructor(tracker: MemoryTracker, peer: PeerId) {
    this.#tracker = tracker;
    this.peer = peer;
  }

  offer(complete: boolean): PeerOffer {
    return { peer: this.peer, endpoint: this.endpoint, complete };
  }

  tell(digest: Digest, peers: readonly PeerOffer[]): void {
    for (const listener of this.#listeners) listener(digest, peers);
  }

  async lookup(digest: Digest): Promise<LookupResult> {
    return this.#tracker.lookup(digest, this.peer);
  }

  async askOwners(digest: Digest): Promise<LookupResult> {
    await this.#tracker.onAskOwners(digest);
    return { ...this.#tracker.lookup(digest, this.peer), peers: this.#tracker.owners };
  }

  update(digest: Digest, { state, peersWanted }: { readonly state: State | 'gone'; readonly peersWanted: number }): void {
    this.#tracker.update(digest, this, state, peersWanted);
  }

  onOffer(listener: (digest: Digest, peers: readonly PeerOffer[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  owners(): readonly PeerOffer[] {
    return this.#tracker.owners;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listeners.clear();
  }
}
