/** NetworkEventService: streams the network events of this node to operators. */
import { AppError, type Digest, peerIdOf } from '#core';
import type { NetworkEventServiceService, WatchNetworkEventsRequest } from '#gen/shoal/peer/v1/network_event_service';
import { digestFromProto, type Handlers } from '#wire';
import type { NetworkEventKind } from './network-event.ts';
import { networkEventKindFromProto, networkEventToProto } from './network-event-codec.ts';
import type { NetworkEventFilter, NetworkEvents } from './network-events.ts';

const digestCountMax = 100;
const kindCountMax = 100;

/** The handlers of NetworkEventService. */
export function networkEventHandlers(events: NetworkEvents): Handlers<typeof NetworkEventServiceService> {
  return {
    async *watchNetworkEvents(request, { signal, caller, logger }) {
      logger.info('network events are watched', { by: peerIdOf(caller) });
      for await (const batch of events.watch(filterOf(request), { signal })) yield { events: batch.map(networkEventToProto) };
    },
  };
}

function filterOf({ digests, kinds }: WatchNetworkEventsRequest): NetworkEventFilter {
  if (digests.length > digestCountMax) throw new AppError('invalid-argument', `digests: at most ${digestCountMax}`);
  if (kinds.length > kindCountMax) throw new AppError('invalid-argument', `kinds: at most ${kindCountMax}`);
  return {
    ...(digests.length === 0 ? {} : { digests: new Set<Digest>(digests.map((digest) => digestFromProto(digest, 'digests'))) }),
    ...(kinds.length === 0 ? {} : { kinds: new Set<NetworkEventKind>(kinds.map(networkEventKindFromProto)) }),
  };
}
