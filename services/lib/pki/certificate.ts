/**
 * Builds X.509 certificates. node-forge writes the ASN.1, node:crypto makes the keys and signs: node-forge signs with RSA only, and
 * P-256 is as strong as RSA-3072 at half of its handshake cost (numbers in DECISIONS.md).
 *
 * node-forge is loaded on first use: it costs 34 ms and 10 MB, and a node that only presents its certificate never needs it.
 */
import { createHash, createPublicKey, type KeyObject, randomBytes, sign, X509Certificate } from 'node:crypto';
import { isIPv4, SocketAddress } from 'node:net';
import type forgeModule from 'node-forge';
import { AppError, assert } from '#core';

/** Distinguished name, in the order organisation, unit, common name. Each value has at most 64 characters. */
export interface SubjectName {
  readonly organization: string;
  readonly unit?: string;
  readonly commonName: string;
}

/** What goes into a certificate. Nothing is checked here but what ASN.1 cannot express; callers state policy. */
export interface CertificateSpec {
  readonly kind: 'authority' | 'leaf';
  readonly subject: SubjectName;
  readonly issuer: SubjectName;
  readonly publicKey: KeyObject;
  /** The key that signs: P-256. */
  readonly issuerKey: KeyObject;
  /** Unix time, milliseconds, rounded down to seconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  readonly ipAddresses?: readonly string[];
}

type Forge = typeof forgeModule;
type Asn1 = forgeModule.asn1.Asn1;

const oid = {
  organization: '2.5.4.10',
  unit: '2.5.4.11',
  commonName: '2.5.4.3',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** From this year on RFC 5280 wants GeneralizedTime. */
const generalizedTimeYear = 2050;

/** Builds and signs a certificate. Throws `invalid-argument` for an address that is not an IP address. */
export async function buildCertificate(spec: CertificateSpec): Promise<X509Certificate> {
  const { default: forge } = await import('node-forge');
  const der = new Der(forge);
  const algorithm = der.sequence(der.oid(oid.ecdsaWithSha256));
  const body = der.sequence(
    der.explicit(0, der.integer(Buffer.from([2]))),
    der.integer(serialNumber()),
    algorithm,
    nameOf(der, spec.issuer),
    der.sequence(der.time(spec.notBeforeMs), der.time(spec.notAfterMs)),
    nameOf(der, spec.subject),
    der.parse(spec.publicKey.export({ type: 'spki', format: 'der' })),
    der.explicit(3, der.sequence(...extensionsOf(der, spec))),
  );
  const signature = sign('sha256', der.encode(body), spec.issuerKey);
  return new X509Certificate(der.encode(der.sequence(body, algorithm, der.bits(signature, 0))));
}

/** 126 random bits in 16 octets: positive, never zero, and already the shortest encoding. RFC 5280 allows up to 20 octets. */
function serialNumber(): Buffer {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes;
}

function nameOf(der: Der, name: SubjectName): Asn1 {
  const part = (type: string, value: string): Asn1 => {
    assert(value.length > 0 && value.length <= 64, 'a part of a distinguished name has 1 to 64 characters');
    return der.set(der.sequence(der.oid(type), der.utf8(value)));
  };
  return der.sequence(
    part(oid.organization, name.organization),
    ...(name.unit === undefined ? [] : [part(oid.unit, name.unit)]),
    part(oid.commonName, name.commonName),
  );
}

function extensionsOf(der: Der, spec: CertificateSpec): readonly Asn1[] {
  const authority = spec.kind === 'authority';
  const constraints = authority ? [der.boolean(true), der.integer(Buffer.from([0]))] : [];
  // keyCertSign and cRLSign are bits 5 and 6 of a CA; digitalSignature is bit 0 of a leaf.
  const usage = authority ? der.bits(Buffer.from([0x06]), 1) : der.bits(Buffer.from([0x80]), 7);
  const list = [
    extension(der, oid.basicConstraints, true, der.sequence(...constraints)),
    extension(der, oid.keyUsage, true, usage),
    extension(der, oid.subjectKeyId, false, der.octets(keyIdOf(der, spec.publicKey))),
    extension(der, oid.authorityKeyId, false, der.sequence(der.tagged(0, keyIdOf(der, createPublicKey(spec.issuerKey))))),
  ];
  if (!authority) list.push(extension(der, oid.extendedKeyUsage, false, der.sequence(der.oid(oid.serverAuth), der.oid(oid.clientAuth))));
  const names = [
    ...(spec.uris ?? []).map((uri) => der.tagged(6, Buffer.from(uri, 'latin1'))),
    ...(spec.dnsNames ?? []).map((name) => der.tagged(2, Buffer.from(name, 'latin1'))),
    ...(spec.ipAddresses ?? []).map((address) => der.tagged(7, addressBytes(address))),
  ];
  if (names.length > 0) list.push(extension(der, oid.subjectAltName, false, der.sequence(...names)));
  return list;
}

function extension(der: Der, type: string, critical: boolean, value: Asn1): Asn1 {
  return der.sequence(der.oid(type), ...(critical ? [der.boolean(true)] : []), der.octets(der.encode(value)));
}

/** RFC 7093, method 1: the leftmost 160 bits of the SHA-256 of the public key's bits. */
function keyIdOf(der: Der, publicKey: KeyObject): Buffer {
  return createHash('sha256').update(der.publicKeyBits(publicKey)).digest().subarray(0, 20);
}

/** An IP address as 4 or 16 octets. Throws `invalid-argument`. */
function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split('.').map(Number));
  try {
    // SocketAddress prints every form of an IPv6 address the same way; an embedded IPv4 tail becomes two groups.
    const text = new SocketAddress({ address, family: 'ipv6' }).address.replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_match, a, b, c, d) =>
      [Number(a) * 256 + Number(b), Number(c) * 256 + Number(d)].map((group) => group.toString(16)).join(':'),
    );
    const [head = '', tail] = text.split('::');
    const left = head === '' ? [] : head.split(':');
    const right = tail === undefined || tail === '' ? [] : tail.split(':');
    const zeros = new Array<string>(8 - left.length - right.length).fill('0');
    return Buffer.from([...left, ...zeros, ...right].map((group) => group.padStart(4, '0')).join(''), 'hex');
  } catch (error) {
    throw new AppError('invalid-argument', 'not an IP address: give extra addresses in plain form, without a port or a zone', {
      data: { address: address.slice(0, 60) },
      cause: error,
    });
  }
}

/** The few ASN.1 types a certificate needs, on top of node-forge, with Buffers instead of its byte strings. */
class Der {
  readonly #forge: Forge;

  constructor(forge: Forge) {
    this.#forge = forge;
  }

  encode(value: Asn1): Buffer {
    return Buffer.from(this.#forge.asn1.toDer(value).getBytes(), 'latin1');
  }

  parse(bytes: Buffer): Asn1 {
    return this.#forge.asn1.fromDer(bytes.toString('latin1'));
  }

  /** The content of a public key's BIT STRING, without the count of unused bits. */
  publicKeyBits(publicKey: KeyObject): Buffer {
    const point = publicKey.export({ format: 'jwk' });
    assert(point.kty === 'EC' && point.x !== undefined && point.y !== undefined, 'the keys of this PKI are on P-256');
    return Buffer.concat([Buffer.from([4]), Buffer.from(point.x, 'base64url'), Buffer.from(point.y, 'base64url')]);
  }

  sequence(...items: readonly Asn1[]): Asn1 {
    return this.#constructed(this.#forge.asn1.Type.SEQUENCE, items);
  }

  set(...items: readonly Asn1[]): Asn1 {
    return this.#constructed(this.#forge.asn1.Type.SET, items);
  }

  explicit(tag: number, value: Asn1): Asn1 {
    const { asn1 } = this.#forge;
    return asn1.create(asn1.Class.CONTEXT_SPECIFIC, tag, true, [value]);
  }

  tagged(tag: number, bytes: Buffer): Asn1 {
    const { asn1 } = this.#forge;
    return asn1.create(asn1.Class.CONTEXT_SPECIFIC, tag, false, bytes.toString('latin1'));
  }

  /** Bytes are big-endian two's complement and already minimal. */
  integer(bytes: Buffer): Asn1 {
    return this.#primitive(this.#forge.asn1.Type.INTEGER, bytes);
  }

  boolean(value: boolean): Asn1 {
    return this.#primitive(this.#forge.asn1.Type.BOOLEAN, Buffer.from([value ? 0xff : 0]));
  }

  bits(bytes: Buffer, unusedBitCount: number): Asn1 {
    return this.#primitive(this.#forge.asn1.Type.BITSTRING, Buffer.concat([Buffer.from([unusedBitCount]), bytes]));
  }

  octets(bytes: Buffer): Asn1 {
    return this.#primitive(this.#forge.asn1.Type.OCTETSTRING, bytes);
  }

  utf8(text: string): Asn1 {
    return this.#primitive(this.#forge.asn1.Type.UTF8, Buffer.from(text, 'utf8'));
  }

  oid(dotted: string): Asn1 {
    return this.#primitive(this.#forge.asn1.Type.OID, Buffer.from(this.#forge.asn1.oidToDer(dotted).getBytes(), 'latin1'));
  }

  time(unixMs: number): Asn1 {
    const { asn1 } = this.#forge;
    const date = new Date(unixMs);
    return date.getUTCFullYear() < generalizedTimeYear
      ? asn1.create(asn1.Class.UNIVERSAL, asn1.Type.UTCTIME, false, asn1.dateToUtcTime(date))
      : asn1.create(asn1.Class.UNIVERSAL, asn1.Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(date));
  }

  #constructed(type: number, items: readonly Asn1[]): Asn1 {
    const { asn1 } = this.#forge;
    return asn1.create(asn1.Class.UNIVERSAL, type, true, [...items]);
  }

  #primitive(type: number, bytes: Buffer): Asn1 {
    const { asn1 } = this.#forge;
    return asn1.create(asn1.Class.UNIVERSAL, type, false, bytes.toString('latin1'));
  }
}
