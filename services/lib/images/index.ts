export { BlobHolders, type BlobHoldersDeps } from './blob-holders.ts';
export { type ImageReaderDeps, MeshImageReader } from './image-reader.ts';
export { type ImageWriterDeps, MeshImageWriter } from './image-writer.ts';
export { type Publication, placeAndPublish } from './publish.ts';
export { readWhole } from './read-whole.ts';
