export { BlobHolders, type BlobHoldersDeps } from './blob-holders.ts';
export { type ImageReaderDeps, MeshImageReader } from './image-reader.ts';
export { type ImageWriterDeps, MeshImageWriter } from './image-writer.ts';
export { type Publication, placeAndPublish } from './publish.ts';
export { readWhole } from './read-whole.ts';
export { UpstreamImageReader, type UpstreamReaderDeps } from './upstream-reader.ts';
export { UpstreamImageWriter, type UpstreamWriterDeps } from './upstream-writer.ts';
