/** What a node presents and trusts in TLS, checked as a whole before anything uses it. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { AppError, type NodeIdentity, toAppError } from '#core';
import { notAfterMsOf, notBeforeMsOf } from './authority.ts';
import { identityFromCertificate } from './identity.ts';
import { intermediateCountMax, trustedAuthorityCountMax } from './limits.ts';
import { type ClusterIdentity, roleDnsName } from './names.ts';
import { splitPem } from './pem.ts';
import { isExpired } from './renewal.ts';

/** A certificate, its key and the trusted CAs, proven to belong together. */
export interface TlsMaterial {
  readonly cluster: string;
  readonly identity: NodeIdentity;
  /** One or more CA certificates; more than one while a CA is being rotated. */
  readonly caPem: string;
  /** The leaf, followed by intermediates if there are any. */
  readonly certPem: string;
  /** Secret: never logged. */
  readonly keyPem: string;
  /** Unix time, milliseconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  /** Upper-case hexadecimal, for logs. */
  readonly serialNumber: string;
}

export interface TlsMaterialInput {
  readonly caPem: string;
  /** May also hold the key. */
  readonly certPem: string;
  /** When absent the key is taken from `certPem`. */
  readonly keyPem?: string | undefined;
}

const serverAuth = '1.3.6.1.5.5.7.3.1';
const clientAuth = '1.3.6.1.5.5.7.3.2';

/**
 * Validates TLS material at `wallMs` (Unix time). Throws `failed-precondition` with the next step unless a trusted, unexpired CA signed the
 * certificate (directly or through intermediates), the key is the certificate's, its one URI names a node, it carries the role's
 * DNS name, may act as server and client, and is valid now.
 */
export function parseTlsMaterial(input: TlsMaterialInput, wallMs: number): TlsMaterial {
  const authorities = parseAuthorities(input.caPem);
  const { certificates, privateKeys } = splitPem(input.certPem);
  const [leaf, ...intermediates] = certificates.map((pem) => parseCertificate(pem, 'the certificate'));
  if (leaf === undefined) throw refusal('the certificate file holds no certificate');
  if (intermediates.length > intermediateCountMax) throw refusal(`more than ${intermediateCountMax} intermediate certificates`);
  const [keyPem, ...otherKeys] = input.keyPem === undefined ? privateKeys : splitPem(input.keyPem).privateKeys;
  if (keyPem === undefined || otherKeys.length > 0) throw refusal('there must be exactly one private key');
  if (!leaf.checkPrivateKey(parseKey(keyPem))) throw refusal('the private key is not the key of the certificate');
  const { cluster, identity } = nodeOf(leaf);
  checkUsage(leaf, roleDnsName(cluster, identity.role));
  checkValidity(leaf, wallMs);
  checkChain(leaf, intermediates, authorities, wallMs);
  return {
    cluster,
    identity,
    caPem: authorities.map(String).join(''),
    certPem: [leaf, ...intermediates].map(String).join(''),
    keyPem,
    notBeforeMs: notBeforeMsOf(leaf),
    notAfterMs: notAfterMsOf(leaf),
    serialNumber: leaf.serialNumber,
  };
}

/** The CA certificates of a trust bundle. Throws `failed-precondition` when there is none, too many, or one is not a CA. */
export function parseAuthorities(caPem: string): readonly X509Certificate[] {
  const authorities = splitPem(caPem).certificates.map((pem) => parseCertificate(pem, 'a trusted CA'));
  if (authorities.length === 0) throw refusal('the trust bundle holds no CA certificate');
  if (authorities.length > trustedAuthorityCountMax) throw refusal(`the trust bundle holds more than ${trustedAuthorityCountMax} CAs`);
  if (!authorities.every((authority) => authority.ca)) throw refusal('the trust bundle holds a certificate that is not a CA');
  return authorities;
}

function parseCertificate(pem: string, what: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (error) {
    throw refusal(`${what} cannot be parsed`, { cause: toAppError(error) });
  }
}

function parseKey(pem: string): KeyObject {
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw refusal('the private key cannot be parsed; it must be unencrypted PEM', { cause: toAppError(error) });
  }
}

function nodeOf(leaf: X509Certificate): ClusterIdentity {
  try {
    return identityFromCertificate(leaf);
  } catch (error) {
    throw refusal('the certificate names no node', { cause: toAppError(error) });
  }
}

function checkUsage(leaf: X509Certificate, dnsName: string): void {
  if (leaf.ca) throw refusal('a CA certificate cannot be used as the certificate of a node');
  if (leaf.checkHost(dnsName) === undefined) throw refusal('the certificate lacks the DNS name of its role', { data: { dnsName } });
  // Node names the extended key usages `keyUsage`, and leaves it undefined when there are none.
  const usages: readonly string[] | undefined = leaf.keyUsage;
  if (!usages?.includes(serverAuth) || !usages.includes(clientAuth)) {
    throw refusal('the certificate must be usable by servers and clients (extended key usage)');
  }
}

function checkValidity(leaf: X509Certificate, wallMs: number): void {
  const validity = { from: new Date(notBeforeMsOf(leaf)).toISOString(), to: new Date(notAfterMsOf(leaf)).toISOString() };
  if (isExpired({ notAfterMs: notAfterMsOf(leaf) }, wallMs)) throw refusal('the certificate has expired', { data: validity });
  if (wallMs < notBeforeMsOf(leaf)) {
    throw new AppError('failed-precondition', 'the certificate is not valid yet: set the clock of this host, or wait', { data: validity });
  }
}

/** Follows the signatures from the leaf to a trusted, unexpired CA. */
function checkChain(
  leaf: X509Certificate,
  intermediates: readonly X509Certificate[],
  authorities: readonly X509Certificate[],
  wallMs: number,
): void {
  let current = leaf;
  for (let depth = 0; depth <= intermediateCountMax; depth += 1) {
    const child = current;
    const isIssuer = (candidate: X509Certificate): boolean =>
      candidate.ca && child.checkIssued(candidate) && child.verify(candidate.publicKey);
    const root = authorities.find(isIssuer);
    if (root !== undefined) {
      if (isExpired({ notAfterMs: notAfterMsOf(root) }, wallMs)) throw refusal('the CA that signed the certificate has expired');
      return;
    }
    const next = intermediates.find(isIssuer);
    if (next === undefined) break;
    if (isExpired({ notAfterMs: notAfterMsOf(next) }, wallMs)) throw refusal('an intermediate certificate has expired');
    current = next;
  }
  throw refusal('no trusted CA signed the certificate');
}

function refusal(why: string, options: { readonly cause?: AppError; readonly data?: Readonly<Record<string, string>> } = {}): AppError {
  return new AppError('failed-precondition', `unusable TLS material: ${why}; run "shoal certs issue" and install its files`, options);
}
