/** A cluster's certificate authority, in memory: makes the CA and issues leaves. */
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { AppError, type Clock, isAppError, type NodeIdentity, parseNodeId, toAppError } from '#core';
import { buildCertificate, type SubjectName } from './certificate.ts';
import {
  authorityLifetimeMsDefault,
  authorityLifetimeMsMax,
  backdateMs,
  extraNameCountMax,
  leafLifetimeMsDefault,
  leafLifetimeMsMax,
  lifetimeMsMin,
} from './limits.ts';
import { parseClusterName, roleDnsName, spiffeUriOf } from './names.ts';
import { splitPem } from './pem.ts';

/** A CA with its key. Whoever holds it can become any node of the cluster. */
export interface Authority {
  readonly cluster: string;
  readonly certPem: string;
  /** PKCS #8. */
  readonly keyPem: string;
  /** Unix time, milliseconds. */
  readonly notAfterMs: number;
}

/** A node's certificate with its key. */
export interface LeafMaterial {
  readonly identity: NodeIdentity;
  readonly certPem: string;
  /** PKCS #8. */
  readonly keyPem: string;
  /** Unix time, milliseconds. */
  readonly notAfterMs: number;
}

export interface PkiDeps {
  readonly clock: Pick<Clock, 'wallMs'>;
}

export interface AuthorityOptions {
  readonly cluster: string;
  /** 10 minutes to 10 years; one year by default. */
  readonly lifetimeMs?: number;
}

export interface LeafOptions {
  readonly identity: NodeIdentity;
  /** 10 minutes to 90 days; 7 days by default. Cut to the end of the CA's own life. */
  readonly lifetimeMs?: number;
  /** DNS names besides the one of the role, at most 32: only for callers that check a host name, e.g. a tool outside the cluster. */
  readonly extraDnsNames?: readonly string[];
  /** At most 32. */
  readonly ipAddresses?: readonly string[];
}

const organizationUnitOfCa = 'certificate authority';
const dnsNamePattern = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i;

/** Makes a self-signed CA. Throws `invalid-argument` for a bad cluster name or lifetime. */
export async function createAuthority(options: AuthorityOptions, deps: PkiDeps): Promise<Authority> {
  const cluster = parseClusterName(options.cluster);
  const lifetimeMs = checkedLifetime(options.lifetimeMs ?? authorityLifetimeMsDefault, authorityLifetimeMsMax);
  const keys = generateKeys();
  const subject = authoritySubject(cluster);
  const nowMs = deps.clock.wallMs();
  const certificate = await buildCertificate({
    kind: 'authority',
    subject,
    issuer: subject,
    publicKey: keys.publicKey,
    issuerKey: keys.privateKey,
    notBeforeMs: nowMs - backdateMs,
    notAfterMs: nowMs + lifetimeMs,
  });
  return { cluster, certPem: certificate.toString(), keyPem: pemOfKey(keys.privateKey), notAfterMs: notAfterMsOf(certificate) };
}

/**
 * Issues a certificate with a fresh key. Throws `invalid-argument` for a bad id, name or lifetime and `failed-precondition` when the
 * CA has expired.
 */
export async function issueLeaf(authority: Authority, options: LeafOptions, deps: PkiDeps): Promise<LeafMaterial> {
  const identity: NodeIdentity = { role: options.identity.role, id: parseNodeId(options.identity.id) };
  const lifetimeMs = checkedLifetime(options.lifetimeMs ?? leafLifetimeMsDefault, leafLifetimeMsMax);
  const { extraDnsNames = [], ipAddresses = [] } = options;
  checkExtraNames(extraDnsNames, ipAddresses);
  const nowMs = deps.clock.wallMs();
  if (nowMs >= authority.notAfterMs) {
    throw new AppError('failed-precondition', 'the cluster CA has expired: run "shoal certs rotate", then issue again', {
      data: { cluster: authority.cluster, expired: new Date(authority.notAfterMs).toISOString() },
    });
  }
  const keys = generateKeys();
  const certificate = await buildCertificate({
    kind: 'leaf',
    subject: { organization: authority.cluster, unit: identity.role, commonName: identity.id },
    issuer: authoritySubject(authority.cluster),
    publicKey: keys.publicKey,
    issuerKey: createPrivateKey(authority.keyPem),
    notBeforeMs: nowMs - backdateMs,
    notAfterMs: Math.min(nowMs + lifetimeMs, authority.notAfterMs),
    uris: [spiffeUriOf({ cluster: authority.cluster, identity })],
    dnsNames: [roleDnsName(authority.cluster, identity.role), ...extraDnsNames],
    ipAddresses,
  });
  return { identity, certPem: certificate.toString(), keyPem: pemOfKey(keys.privateKey), notAfterMs: notAfterMsOf(certificate) };
}

/** The file form of an authority: key, then certificate, in one PEM text, so that the two cannot part. */
export function authorityToPem(authority: Authority): string {
  return authority.keyPem + authority.certPem;
}

/** Reads {@link authorityToPem} back. Throws `failed-precondition` when it is not a cluster's CA with its key. */
export function authorityFromPem(pem: string): Authority {
  const { certificates, privateKeys } = splitPem(pem);
  const [certPem] = certificates;
  const [keyPem] = privateKeys;
  if (certPem === undefined || keyPem === undefined) throw notAnAuthority('it must hold one private key and one certificate');
  try {
    const certificate = new X509Certificate(certPem);
    const key = createPrivateKey(keyPem);
    if (!certificate.ca || !certificate.checkPrivateKey(key)) throw notAnAuthority('the key and the CA certificate do not belong together');
    if (!certificate.verify(createPublicKey(key))) throw notAnAuthority('the certificate is not signed by its own key');
    const [, cluster = ''] = /^O=(.*)$/m.exec(certificate.subject) ?? [];
    parseClusterName(cluster);
    return { cluster, certPem: certificate.toString(), keyPem, notAfterMs: notAfterMsOf(certificate) };
  } catch (error) {
    if (isAppError(error, 'failed-precondition')) throw error;
    throw notAnAuthority('it cannot be parsed', toAppError(error));
  }
}

/** Unix time in milliseconds at which a certificate ends. */
export function notAfterMsOf(certificate: X509Certificate): number {
  return Date.parse(certificate.validTo);
}

/** Unix time in milliseconds at which a certificate begins. */
export function notBeforeMsOf(certificate: X509Certificate): number {
  return Date.parse(certificate.validFrom);
}

/** Every CA of a cluster has the same name; the key identifiers tell a rotated one from its predecessor. */
function authoritySubject(cluster: string): SubjectName {
  return { organization: cluster, unit: organizationUnitOfCa, commonName: 'shoal' };
}

function generateKeys(): { readonly publicKey: KeyObject; readonly privateKey: KeyObject } {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function pemOfKey(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }).toString();
}

function checkedLifetime(lifetimeMs: number, maxMs: number): number {
  if (Number.isSafeInteger(lifetimeMs) && lifetimeMs >= lifetimeMsMin && lifetimeMs <= maxMs) return lifetimeMs;
  throw new AppError('invalid-argument', `the lifetime must be ${lifetimeMsMin} to ${maxMs} ms`, { data: { lifetimeMs } });
}

function checkExtraNames(dnsNames: readonly string[], ipAddresses: readonly string[]): void {
  if (dnsNames.length > extraNameCountMax || ipAddresses.length > extraNameCountMax) {
    throw new AppError('invalid-argument', `at most ${extraNameCountMax} extra names and addresses fit into a certificate`);
  }
  const bad = dnsNames.find((name) => !dnsNamePattern.test(name) || name.endsWith('.shoal'));
  if (bad !== undefined) {
    throw new AppError('invalid-argument', 'not a usable extra DNS name: give a plain host name outside of ".shoal"', {
      data: { name: bad.slice(0, 100) },
    });
  }
}

function notAnAuthority(why: string, cause?: AppError): AppError {
  return new AppError('failed-precondition', `the CA file is of no use: ${why}; restore it from a backup or run "shoal certs rotate"`, {
    ...(cause === undefined ? {} : { cause }),
  });
}
