export type { BackendCallOptions, BlobBackend } from './backend.ts';
export {
  type BlobStore,
  LentChunks,
  type PartialBlob,
  type ReadableBlob,
  readRange,
  type StoredBlob,
  type StoreOptions,
} from './blob-store.ts';
export { commit, type EmbeddedDb, openDatabase, type Table } from './database.ts';
export { type BlobStoreDeps, DiskBlobStore, type DiskBlobStoreOptions, putSizeBytesMax } from './disk-blob-store.ts';
export { DurableQueue, type DurableQueueDeps, type DurableQueueOptions, type QueuedTask, type QueueWorker } from './durable-queue.ts';
export { FileBackend, type FileBackendOptions } from './file-backend.ts';
export { onDisk } from './fs-errors.ts';
export { HashThread } from './hash-thread.ts';
export { MemoryBackend } from './memory-backend.ts';
export { MemoryBlobStore } from './memory-blob-store.ts';
export type { FinishedUpload } from './upload-session.ts';
export { type OpenUpload, UploadStore, type UploadStoreDeps, type UploadStoreOptions } from './upload-store.ts';
