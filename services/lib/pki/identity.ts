/**
 * Who a certificate speaks for. The one place that turns a verified peer certificate into a cluster, a role and an id.
 *
 * Node prints the alternative names as one string, `DNS:a, URI:b`, and quotes every value that holds a comma, a quote or a
 * control character. Nothing that this library issues needs quoting, so a string with a quote in it is refused as a whole;
 * without quotes the separator cannot be forged from inside a value.
 */
import { X509Certificate } from 'node:crypto';
import { AppError, toAppError } from '#core';
import { type ClusterIdentity, parseSpiffeUri } from './names.ts';

/** What Node's TLS sockets and grpc-js hand out as a peer certificate; an empty object when there is none. */
export interface PeerCertificateLike {
  readonly subjectaltname?: string | undefined;
}

/** The longest list of alternative names that is read: far above what a node needs, far below what costs time. */
const subjectAltNameLengthMax = 8192;

/**
 * Reads the cluster and the node from a certificate that TLS has already verified: an X509Certificate, its DER bytes, or Node's
 * peer certificate object. Throws `unauthenticated` unless there is exactly one URI name and it is a well-formed node URI.
 */
export function identityFromCertificate(certificate: X509Certificate | Uint8Array | PeerCertificateLike): ClusterIdentity {
  const names = subjectAltNameOf(certificate);
  const uris = splitSubjectAltName(names).filter((name) => name.startsWith('URI:'));
  const [uri] = uris;
  if (uri === undefined || uris.length !== 1) {
    throw refusal(`it carries ${uris.length} URI names where exactly one is needed`, names);
  }
  try {
    return parseSpiffeUri(uri.slice('URI:'.length));
  } catch (error) {
    throw refusal('its URI name is not spiffe://<cluster>/<role>/<id>', names, toAppError(error));
  }
}

/** Splits Node's printed alternative names into `TYPE:value` items. Throws `unauthenticated` when a value is quoted or the list is too long. */
export function splitSubjectAltName(names: string): readonly string[] {
  if (names.length > subjectAltNameLengthMax) throw refusal('its list of alternative names is too long', names);
  if (names.includes('"')) throw refusal('an alternative name holds a character that no node name has', names);
  return names === '' ? [] : names.split(', ');
}

function subjectAltNameOf(certificate: X509Certificate | Uint8Array | PeerCertificateLike): string {
  if (certificate instanceof X509Certificate) return certificate.subjectAltName ?? '';
  if (!(certificate instanceof Uint8Array)) return certificate.subjectaltname ?? '';
  try {
    return new X509Certificate(certificate).subjectAltName ?? '';
  } catch (error) {
    throw refusal('it cannot be parsed', '', toAppError(error));
  }
}

function refusal(why: string, names: string, cause?: AppError): AppError {
  return new AppError('unauthenticated', `the certificate names no node: ${why}; present one made by "shoal certs issue"`, {
    data: { subjectAltName: names.slice(0, 250) },
    ...(cause === undefined ? {} : { cause }),
  });
}
