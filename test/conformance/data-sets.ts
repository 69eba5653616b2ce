/** Every shape of image, index and artifact that the checks push. */
import { randomBytes } from 'node:crypto';
import { type Descriptor, mediaTypes } from './content.ts';
import { type DataSet, DataSetBuilder, type ImageOptions } from './data-set.ts';

const platform = (architecture: string): { readonly platform: object } => ({ platform: { os: 'linux', architecture } });

/** Just below the 4 MiB that a registry must accept. */
const largeAnnotations = (): Record<string, string> =>
  Object.fromEntries(Array.from({ length: 390 }, (_, index) => [`org.example.large.${index}`, randomBytes(5000).toString('hex')]));

function build(name: string, fill: (set: DataSetBuilder) => void, algorithm: 'sha256' | 'sha512' = 'sha256'): DataSet {
  const set = new DataSetBuilder(name, algorithm);
  fill(set);
  return set.build();
}

function twoPlatforms(set: DataSetBuilder): Descriptor[] {
  return ['amd64', 'arm64'].map((architecture) => ({ ...set.image(), ...platform(architecture) }));
}

export function dataSets(): DataSet[] {
  return [...images(), ...indexes(), ...artifacts(), ...subjects(), ...oddities(), ...digestsAndTags()];
}

/** Manifests of which a part is never pushed. Only for registries that are set so. */
export function sparseSets(): DataSet[] {
  return [
    build('sparse', (set) => {
      set.image({ tag: 'sparse-image', layers: [set.absent(mediaTypes.layerGzip), set.layer()] });
      const absent = { ...set.absent(mediaTypes.manifest), ...platform('arm64') };
      set.index([{ ...set.image(), ...platform('amd64') }, absent], { tag: 'sparse-index' });
    }),
  ];
}

function images(): DataSet[] {
  return [
    build('image', (set) => set.image({ tag: 'image' })),
    build('image-uncompressed', (set) =>
      set.image({ tag: 'image-uncompressed', layers: [set.layer(mediaTypes.layer), set.layer(mediaTypes.layer)] }),
    ),
    build('large-manifest', (set) => set.image({ tag: 'large-manifest', annotations: largeAnnotations() })),
    build('no-layers', (set) => set.image({ tag: 'no-layers', layers: [] })),
  ];
}

function indexes(): DataSet[] {
  return [
    build('index', (set) => set.index(twoPlatforms(set), { tag: 'index' })),
    build('nested-index', (set) => {
      const inner = [set.index(twoPlatforms(set)), set.index(twoPlatforms(set))];
      set.index(inner, { tag: 'nested-index' });
    }),
    // The same bytes in every run, and in every repository.
    build('empty-index', (set) => set.index([], { tag: 'empty-index' })),
  ];
}

/** One of these is about something, where `subject` is given. */
function artifact(set: DataSetBuilder, kind: string, options: ImageOptions = {}): Descriptor {
  const artifactType = `application/vnd.example.${kind}`;
  return set.image({ config: set.emptyJson(), layers: [set.layer('application/vnd.example.data')], artifactType, ...options });
}

function artifacts(): DataSet[] {
  return [
    build('artifact', (set) => artifact(set, 'artifact', { tag: 'artifact' })),
    build('artifact-index', (set) => {
      const children = ['amd64', 'arm64'].map((architecture) => ({ ...artifact(set, 'set'), ...platform(architecture) }));
      set.index(children, { tag: 'artifact-index', artifactType: 'application/vnd.example.set' });
    }),
    build('artifact-without-layers', (set) =>
      set.image({
        tag: 'artifact-without-layers',
        config: set.emptyJson(),
        layers: [set.emptyJson()],
        artifactType: 'application/vnd.example.bare',
      }),
    ),
  ];
}

/** Annotations of which no two are the same. */
const remarks = (kind: string): Record<string, string> => ({ 'org.example.kind': kind, 'org.example.run': randomBytes(4).toString('hex') });

function subjects(): DataSet[] {
  return [
    build('artifacts-with-subject', (set) => {
      const subject = set.image({ tag: 'artifacts-with-subject' });
      // An image without annotations, whose type is that of its config, and two artifacts with tags of their own.
      set.image({ subject });
      for (const kind of ['sbom', 'signature']) artifact(set, kind, { subject, annotations: remarks(kind), tag: `tagged-${kind}` });
    }),
    build('index-with-subject', (set) => {
      const subject = set.index(twoPlatforms(set), { tag: 'index-with-subject' });
      const children = ['amd64', 'arm64'].map((architecture) => ({
        ...artifact(set, 'index', { subject, annotations: remarks(architecture) }),
        ...platform(architecture),
      }));
      const options = { artifactType: 'application/vnd.example.index', annotations: remarks('index'), tag: 'tagged-index' };
      set.index(children, { subject, ...options });
      // Indexes have no config: this one has no type at all.
      set.index([], { subject, annotations: remarks('untyped') });
    }),
    build('missing-subject', (set) => {
      artifact(set, 'orphan', { tag: 'missing-subject', subject: set.absent(mediaTypes.manifest), annotations: remarks('orphan') });
    }),
  ];
}

function oddities(): DataSet[] {
  return [
    build('data-field', (set) => {
      const layers = [set.inline(mediaTypes.layerGzip), set.inline(mediaTypes.layerGzip), set.layer()];
      set.image({ tag: 'data-field', config: set.config({}, { isInline: true }), layers });
    }),
    build('non-distributable-layers', (set) => {
      const urls = ['https://layers.example.com/blob'];
      const absent = [set.absent(mediaTypes.layerLocalGzip, { urls }), set.absent(mediaTypes.layerLocal, { urls })];
      set.image({ tag: 'non-distributable-layers', layers: [...absent, set.layer()] });
    }),
    build('custom-fields', (set) => {
      const fields = { 'org.example.field': 'top', exampleNumber: 42 };
      const children = ['amd64', 'arm64'].map((architecture) => ({
        ...set.image({ config: set.config({ architecture, 'org.example.config': 'kept' }), fields }),
        ...platform(architecture),
      }));
      set.index(children, { tag: 'custom-fields', fields });
    }),
  ];
}

function digestsAndTags(): DataSet[] {
  const tagged = (algorithm: 'sha256' | 'sha512'): DataSet => {
    const name = (part: string): string => `param-${algorithm}-${part}`;
    const fill = (set: DataSetBuilder): void => {
      const children = ['amd64', 'arm64'].map((architecture) => ({
        ...set.image({ tagParameters: [name(architecture)] }),
        ...platform(architecture),
      }));
      set.index(children, { tagParameters: ['one', 'two', 'three'].map(name) });
    };
    return build(`tag-param-${algorithm} (dev)`, fill, algorithm);
  };
  return [build('sha512', (set) => set.index(twoPlatforms(set)), 'sha512'), tagged('sha256'), tagged('sha512')];
}
