export {
  type Access,
  type AccessControl,
  type Caller,
  type Challenge,
  type Evidence,
  type Identity,
  type IssuedToken,
  type Judgement,
  openAccess,
  type Right,
  type TokenIssuer,
  type TokenRequest,
} from './access.ts';
export type { AuditAction, AuditOutcome, AuditRecord } from './audit.ts';
export { MemoryImageStore, type MemoryImageStoreOptions } from './memory-image-store.ts';
export { limitBounds, type RegistryLimits, type RegistryOptions, type RegistryTls, type RegistryTlsSource } from './options.ts';
export { createRegistry, type RegistryAddress, type RegistryDeps, type RegistryServer } from './server.ts';
