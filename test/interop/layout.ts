/** OCI layouts on disk that clients push: two images for two platforms with real layers, and an index of both. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type Content, contentOf, type Descriptor, descriptorOf, jsonContent, mediaTypes } from '../conformance/content.ts';
import { runOk } from '../support/processes.ts';

const mib = 2 ** 20;

export interface Images {
  /** Of both platforms. */
  readonly index: Content;
  /** By architecture. */
  readonly amd64: Content;
  readonly arm64: Content;
  readonly blobs: readonly Content[];
  readonly descriptors: readonly Descriptor[];
}

/** Makes the images; nothing of them was ever pushed. The layers of one are large enough for a swarm, one is tiny. */
async function makeImages(scratch: string): Promise<Images> {
  const blobs: Content[] = [];
  const image = async (architecture: string): Promise<Content> => {
    const layers = [await layerOf(scratch, architecture, 2 * mib), await layerOf(scratch, `${architecture}-small`, 100)];
    const config = jsonContent({
      architecture,
      os: 'linux',
      created: '2024-01-01T00:00:00Z',
      config: { Cmd: ['/none'] },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      history: layers.map(() => ({ created: '2024-01-01T00:00:00Z', created_by: 'interop' })),
    });
    const manifest = jsonContent({
      schemaVersion: 2,
      mediaType: mediaTypes.manifest,
      config: descriptorOf(config, mediaTypes.config),
      layers: layers.map(({ content }) => descriptorOf(content, mediaTypes.layerGzip)),
    });
    blobs.push(config, ...layers.map(({ content }) => content));
    return manifest;
  };
  const [amd64, arm64] = [await image('amd64'), await image('arm64')];
  const descriptors = [
    descriptorOf(amd64, mediaTypes.manifest, { platform: { architecture: 'amd64', os: 'linux' } }),
    descriptorOf(arm64, mediaTypes.manifest, { platform: { architecture: 'arm64', os: 'linux' } }),
  ];
  const index = jsonContent({ schemaVersion: 2, mediaType: mediaTypes.index, manifests: descriptors });
  return { index, amd64, arm64, blobs, descriptors };
}

async function layerOf(scratch: string, name: string, sizeBytes: number): Promise<{ readonly content: Content; readonly diffId: string }> {
  const folder = join(scratch, `layer-${name}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), randomBytes(sizeBytes));
  const file = join(scratch, `${name}.tar`);
  await runOk('tar', ['-C', folder, '--owner=0', '--group=0', '--numeric-owner', '-cf', file, name]);
  const tar = readFileSync(file);
  rmSync(file);
  return { content: contentOf(gzipSync(tar)), diffId: `sha256:${createHash('sha256').update(tar).digest('hex')}` };
}

/** Writes a layout with the given entries in its `index.json`, which is `document` itself when that is given. */
export function writeLayout(
  folder: string,
  contents: readonly Content[],
  entries: readonly Descriptor[],
  document: Buffer = Buffer.from(JSON.stringify({ schemaVersion: 2, manifests: entries })),
): void {
  mkdirSync(join(folder, 'blobs', 'sha256'), { recursive: true });
  for (const { digest, bytes } of contents) writeFileSync(join(folder, 'blobs', 'sha256', digest.slice('sha256:'.length)), bytes);
  writeFileSync(join(folder, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(folder, 'index.json'), document);
}

/** The name of an entry of a layout's `index.json`. */
export const named = (name: string): Readonly<Record<string, unknown>> => ({ annotations: { 'org.opencontainers.image.ref.name': name } });

/** New images, and a layout of them below `scratch`, with the tags `multi` (the index), `amd64` and `arm64`. */
export async function makeLayout(scratch: string): Promise<{ readonly images: Images; readonly layout: string }> {
  const images = await makeImages(scratch);
  const layout = join(scratch, 'layout');
  const entries = [
    descriptorOf(images.index, mediaTypes.index, named('multi')),
    descriptorOf(images.amd64, mediaTypes.manifest, named('amd64')),
    descriptorOf(images.arm64, mediaTypes.manifest, named('arm64')),
  ];
  writeLayout(layout, [...images.blobs, images.amd64, images.arm64, images.index], entries);
  return { images, layout };
}
