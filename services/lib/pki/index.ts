/** The cluster's PKI: who a certificate speaks for, making certificates, and keeping them fresh. */
export {
  type Authority,
  type AuthorityOptions,
  createAuthority,
  issueLeaf,
  type LeafMaterial,
  type LeafOptions,
  type PkiDeps,
} from './authority.ts';
export {
  CertificateDirectory,
  type CertificateDirectoryOptions,
  type CertificateEntry,
  type CertificatePaths,
  type InitOptions,
} from './directory.ts';
export { identityFromCertificate, type PeerCertificateLike } from './identity.ts';
export { authorityLifetimeMsDefault, authorityLifetimeMsMax, leafLifetimeMsDefault, leafLifetimeMsMax, lifetimeMsMin } from './limits.ts';
export { parseTlsMaterial, type TlsMaterial, type TlsMaterialInput } from './material.ts';
export { type ClusterIdentity, parseClusterName, parseSpiffeUri, roleDnsName, spiffeUriOf } from './names.ts';
export { isExpired, isRenewalDue, renewalDueMs, type Validity } from './renewal.ts';
export {
  type CertificateSource,
  FileCertificateSource,
  type FileCertificateSourceDeps,
  type FileCertificateSourceOptions,
  StaticCertificateSource,
} from './source.ts';
