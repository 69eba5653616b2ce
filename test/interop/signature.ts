/** What cosign pushes beside an image: a manifest under a tag made of the image's digest, whose layer is the signed claim. */
import { randomBytes } from 'node:crypto';
import { type Content, contentOf, descriptorOf, jsonContent, mediaTypes } from '../conformance/content.ts';
import { named, writeLayout } from './layout.ts';

export interface Signature {
  /** `sha256-<hex>.sig` */
  readonly tag: string;
  readonly manifest: Content;
  readonly blobs: readonly Content[];
  /** Writes it as an OCI layout. */
  readonly write: (folder: string) => void;
}

const claimType = 'application/vnd.dev.cosign.simplesigning.v1+json';

/** Shaped like cosign's; the signature itself is random bytes, which no registry looks at. */
export function cosignSignature(image: Content): Signature {
  const claim = contentOf(
    Buffer.from(
      JSON.stringify({
        critical: {
          identity: { 'docker-reference': '' },
          image: { 'docker-manifest-digest': image.digest },
          type: 'cosign container image signature',
        },
        optional: null,
      }),
    ),
  );
  const config = jsonContent({
    architecture: '',
    created: '0001-01-01T00:00:00Z',
    os: '',
    rootfs: { type: 'layers', diff_ids: [claim.digest] },
    config: {},
  });
  const manifest = jsonContent({
    schemaVersion: 2,
    mediaType: mediaTypes.manifest,
    config: descriptorOf(config, mediaTypes.config),
    layers: [descriptorOf(claim, claimType, { annotations: { 'dev.cosignproject.cosign/signature': randomBytes(64).toString('base64') } })],
  });
  const tag = `${image.digest.replace(':', '-')}.sig`;
  const blobs = [config, claim];
  const entry = descriptorOf(manifest, mediaTypes.manifest, named(tag));
  return { tag, manifest, blobs, write: (folder) => writeLayout(folder, [...blobs, manifest], [entry]) };
}
