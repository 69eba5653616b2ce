/** The metrics of the peer library. Sources and receivers are told apart by role only. */
import type { Counter, Histogram, Meter } from '#core';

export interface PeerMetrics {
  readonly receivedBytes: Counter;
  readonly receivedPieces: Counter;
  readonly corruptPieces: Counter;
  readonly droppedPieces: Counter;
  readonly sentBytes: Counter;
  readonly sentPieces: Counter;
  /** Label `outcome`: `complete`, `failed` or `abandoned`. */
  readonly transfers: Counter;
  readonly transferSeconds: Histogram;
  readonly firstByteSeconds: Histogram;
}

/** Values that are read when metrics are collected. */
export interface PeerGauges {
  readonly heldBytes: () => number;
  readonly sendBytes: () => number;
  readonly downloadCount: () => number;
  readonly outboundLinkCount: () => number;
  readonly inboundLinkCount: () => number;
}

export function peerMetrics(meter: Meter): PeerMetrics {
  return {
    receivedBytes: meter.counter('shoal_peer_received_bytes', 'Verified bytes by the role of their source'),
    receivedPieces: meter.counter('shoal_peer_received_pieces', 'Verified pieces by the role of their source'),
    corruptPieces: meter.counter('shoal_peer_corrupt_pieces', 'Pieces that failed verification by the role of their source'),
    droppedPieces: meter.counter('shoal_peer_dropped_pieces', 'Pieces that lost a race by the role of their source'),
    sentBytes: meter.counter('shoal_peer_sent_bytes', 'Bytes served by the role of the receiver'),
    sentPieces: meter.counter('shoal_peer_sent_pieces', 'Pieces served by the role of the receiver'),
    transfers: meter.counter('shoal_peer_transfers', 'Ended downloads by outcome'),
    transferSeconds: meter.histogram('shoal_peer_transfer_seconds', 'Time of a complete download'),
    firstByteSeconds: meter.histogram('shoal_peer_first_byte_seconds', 'From opening a blob to its first byte, by source'),
  };
}

export function registerGauges(meter: Meter, gauges: PeerGauges): void {
  meter.gauge('shoal_peer_held_bytes', 'Bytes received and not yet on disk', gauges.heldBytes);
  meter.gauge('shoal_peer_send_bytes', 'Bytes read from disk and not yet taken by the transport', gauges.sendBytes);
  meter.gauge('shoal_peer_downloads', 'Running downloads', gauges.downloadCount);
  meter.gauge('shoal_peer_outbound_links', 'Links on which this node downloads', gauges.outboundLinkCount);
  meter.gauge('shoal_peer_inbound_links', 'Links on which this node serves', gauges.inboundLinkCount);
}
