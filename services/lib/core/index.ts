export { AssertionError, assert, assertNever } from './assert.ts';
export { Bitfield } from './bitfield.ts';
export {
  algorithmOf,
  type Digest,
  type DigestAlgorithm,
  DigestHasher,
  digestBytes,
  digestFromBytes,
  digestOf,
  hexOf,
  isDigest,
  parseDigest,
} from './digest.ts';
export { AppError, type AppErrorOptions, type ErrorCode, type ErrorData, isAppError, toAppError } from './errors.ts';
export {
  type ByteRange,
  blobSizeBytesMax,
  isPieceLength,
  isTiny,
  leafSizeBytes,
  pieceCountOf,
  pieceLengthBytesMax,
  pieceLengthFor,
  pieceSizeOf,
  piecesOfRange,
} from './geometry.ts';
export { globMatcher } from './glob.ts';
export type {
  BlobReader,
  BlobStat,
  CallOptions,
  ImageReader,
  ImageStore,
  ImageWriter,
  Manifest,
  ManifestStat,
  ManifestUpload,
  Page,
  PageRequest,
  ReadOptions,
  Reference,
  Referrer,
  UploadChunk,
  UploadStat,
} from './image-store.ts';
export { giveBack, giveBackMessage, share } from './memory.ts';
export {
  hashPiece,
  hashSizeBytes,
  type Metainfo,
  MetainfoBuilder,
  metainfoOf,
  metainfoOfLeaves,
  pieceHashOf,
  pieceSize,
  verifyPiece,
} from './metainfo.ts';
export {
  identityOf,
  isRepositoryName,
  isRole,
  isTag,
  type NodeIdentity,
  type PeerId,
  parseNodeId,
  parsePeerId,
  parseRepositoryName,
  parseTag,
  peerIdOf,
  type RepositoryName,
  type Role,
  repositoryLengthMax,
  roles,
  type Tag,
} from './names.ts';
export {
  type Clock,
  type Counter,
  type Histogram,
  type Labels,
  type LogFields,
  type Logger,
  type Meter,
  nullMeter,
  nullTracer,
  type Rng,
  type Span,
  type SpanOptions,
  silentLogger,
  type Tracer,
} from './ports.ts';
export { SeededRng, shuffle } from './rng.ts';
