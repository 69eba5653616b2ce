/** The wire: mutual-TLS gRPC servers and clients, typed by the protos, and exchanges for the bytes of blobs. */
export { advertisedEndpoint } from './advertised.ts';
export { ChannelPool, type ChannelPoolDeps, type ChannelPoolOptions } from './channel-pool.ts';
export { ChunkMessage, rawUploadSourceService } from './chunk-message.ts';
export {
  digestFromProto,
  digestToProto,
  durationFromProto,
  durationToProto,
  metainfoFromProto,
  metainfoToProto,
  nodeIdentityFromProto,
  nodeIdentityToProto,
  type PeerAddress,
  peerFromProto,
  peerToProto,
  required,
  roleFromProto,
  roleToProto,
  safeNumber,
  timestampFromProto,
  timestampToProto,
} from './codec.ts';
export { OutgoingMessage } from './outgoing-message.ts';
export { PieceFramePool, pieceFrame } from './piece-frames.ts';
export { type HealthReport, type PeerHandlers, WireServer, type WireServerDeps, type WireServerOptions } from './server.ts';
export { type CallStatus, errorFromStatus, statusFromError } from './status.ts';
export type {
  CallContext,
  Client,
  ClientCallOptions,
  ClientMethod,
  ExchangeRefusal,
  Handler,
  Handlers,
  InboundExchange,
  InboundExchangeEvents,
  OutboundExchange,
  OutboundExchangeEvents,
  PieceFrame,
  RequestOf,
  ResponseOf,
  Target,
  WireMethod,
  WireService,
} from './types.ts';
