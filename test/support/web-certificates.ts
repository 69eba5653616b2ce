/** Certificates as a web server and its clients have them, made for tests. */
import { generateKeyPairSync } from 'node:crypto';
import forge from 'node-forge';

export interface WebCertificate {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface WebAuthority extends WebCertificate {
  /** A certificate for `localhost` and 127.0.0.1 with this common name, for servers and clients. */
  issue(commonName: string): WebCertificate;
}

let serial = 0;

function certificate(commonName: string, issuer: { readonly name: string; readonly keyPem: string } | undefined): WebCertificate {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs1', format: 'pem' },
  });
  const made = forge.pki.createCertificate();
  serial += 1;
  made.publicKey = forge.pki.publicKeyFromPem(publicKey);
  made.serialNumber = serial.toString(16).padStart(4, '0');
  made.validity.notBefore = new Date(Date.now() - 3_600_000);
  made.validity.notAfter = new Date(Date.now() + 86_400_000);
  made.setSubject([{ name: 'commonName', value: commonName }]);
  made.setIssuer([{ name: 'commonName', value: issuer?.name ?? commonName }]);
  made.setExtensions(
    issuer === undefined
      ? [{ name: 'basicConstraints', cA: true, critical: true }]
      : [
          { name: 'extKeyUsage', serverAuth: true, clientAuth: true },
          {
            name: 'subjectAltName',
            altNames: [
              { type: 2, value: 'localhost' },
              { type: 7, ip: '127.0.0.1' },
            ],
          },
        ],
  );
  made.sign(forge.pki.privateKeyFromPem(issuer?.keyPem ?? privateKey), forge.md.sha256.create());
  return { certPem: forge.pki.certificateToPem(made), keyPem: privateKey };
}

/** A CA of its own. */
export function webAuthority(name = 'test CA'): WebAuthority {
  const own = certificate(name, undefined);
  return { ...own, issue: (commonName) => certificate(commonName, { name, keyPem: own.keyPem }) };
}
