export { MeshImageReader } from './image-reader.ts';
export { type ImageWriterDeps, MeshImageWriter } from './image-writer.ts';
export { readWhole } from './read-whole.ts';
