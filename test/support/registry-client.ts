/** A few requests of the registry protocol, as a client without a container runtime would send them. */
import { createHash } from 'node:crypto';

export interface PushedBlob {
  readonly digest: string;
  readonly size: number;
}

const digestOf = (bytes: Uint8Array): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** Fetches and throws, with the body, unless the status is the expected one. */
async function expectStatus(url: string, init: RequestInit, status: number): Promise<Response> {
  const response = await fetch(url, init);
  if (response.status !== status) throw new Error(`${init.method} ${url}: ${response.status} ${await response.text()}`);
  return response;
}

/** Uploads one blob (POST, then PUT with the body). Returns its digest. */
export async function pushBlob(registry: string, repository: string, bytes: Uint8Array): Promise<string> {
  const digest = digestOf(bytes);
  const start = await expectStatus(`http://${registry}/v2/${repository}/blobs/uploads/`, { method: 'POST' }, 202);
  const location = new URL(start.headers.get('location') ?? '', `http://${registry}`);
  location.searchParams.set('digest', digest);
  await expectStatus(location.href, { method: 'PUT', body: bytes as Uint8Array<ArrayBuffer> }, 201);
  return digest;
}

/** Pushes an OCI image with the given layers. */
export async function pushImage(
  registry: string,
  repository: string,
  tag: string,
  layers: readonly Uint8Array[],
): Promise<{ readonly digest: string; readonly blobs: readonly PushedBlob[] }> {
  const blobs: PushedBlob[] = [];
  for (const bytes of [Buffer.from('{}'), ...layers])
    blobs.push({ digest: await pushBlob(registry, repository, bytes), size: bytes.byteLength });
  const [config, ...rest] = blobs;
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
      layers: rest.map((blob) => ({ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...blob })),
    }),
  );
  const headers = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' };
  await expectStatus(`http://${registry}/v2/${repository}/manifests/${tag}`, { method: 'PUT', body: manifest, headers }, 201);
  return { digest: digestOf(manifest), blobs };
}
