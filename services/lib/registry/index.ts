export type { Access } from './dispatch.ts';
export { MemoryImageStore, type MemoryImageStoreOptions } from './memory-image-store.ts';
export { limitBounds, type RegistryLimits, type RegistryOptions, type RegistryTls } from './options.ts';
export { createRegistry, type RegistryAddress, type RegistryDeps, type RegistryServer } from './server.ts';
