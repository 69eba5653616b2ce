/** Every shape of image, index and artifact that the checks push. */
import { randomBytes } from 'node:crypto';
import { type Descriptor, mediaTypes } from './content.ts';
import { type DataSet, DataSetBuilder } from './data-set.ts';

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
    build('empty-index', (set) => set.index([], { tag: 'empty-index', annotations: { run: randomBytes(8).toString('hex') } })),
  ];
}

function artifacts(): DataSet[] {
  const artifact = (set: DataSetBuilder, kind: string): Descriptor =>
    set.image({
      config: set.emptyJson(),
      layers: [set.layer('application/vnd.example.data')],
      artifactType: `application/vnd.example.${kind}`,
    });
  return [
    build('artifact', (set) =>
      set.image({
        tag: 'artifact',
        config: set.emptyJson(),
        layers: [set.layer('application/vnd.example.data')],
        artifactType: 'application/vnd.example.artifact',
      }),
    ),
    build('artifact-index', (set) => {
      const children = [artifact(set, 'one'), artifact(set, 'two')];
      set.index(children, { tag: 'artifact-index', artifactType: 'application/vnd.example.set' });
    }),
    build('artifact-without-layers', (set) =>
      set.image({
        tag: 'artifact-without-layers',
        config: set.emptyJson(),
        layers: [set.emptyJson()],
        artifactType: 'application/vnd.example.bare',
        annotations: { run: randomBytes(8).toString('hex') },
      }),
    ),
  ];
}

function subjects(): DataSet[] {
  return [
    build('artifacts-with-subject', (set) => {
      const subject = set.image({ tag: 'artifacts-with-subject' });
      set.image({ subject, annotations: { 'org.example.kind': 'image' } });
      for (const kind of ['sbom', 'signature']) {
        set.image({
          subject,
          config: set.emptyJson(),
          layers: [set.layer('application/vnd.example.data')],
          artifactType: `application/vnd.example.${kind}`,
          annotations: { 'org.example.kind': kind, 'org.example.run': randomBytes(4).toString('hex') },
        });
      }
    }),
    build('index-with-subject', (set) => {
      const subject = set.index(twoPlatforms(set), { tag: 'index-with-subject' });
      const children = ['amd64', 'arm64'].map((architecture) => ({
        ...set.image({ subject, annotations: { architecture } }),
        ...platform(architecture),
      }));
      set.index(children, { subject, artifactType: 'application/vnd.example.index', annotations: { kind: 'index' } });
    }),
    build('missing-subject', (set) =>
      set.image({
        tag: 'missing-subject',
        subject: set.absent(mediaTypes.manifest),
        config: set.emptyJson(),
        layers: [set.layer('application/vnd.example.data')],
        artifactType: 'application/vnd.example.orphan',
      }),
    ),
  ];
}

function oddities(): DataSet[] {
  return [
    build('data-field', (set) => set.image({ tag: 'data-field', layers: [set.inline(mediaTypes.layerGzip), set.layer()] })),
    build('non-distributable-layers', (set) => {
      const urls = ['https://layers.example.com/blob'];
      const absent = [set.absent(mediaTypes.layerLocal, { urls }), set.absent(mediaTypes.layerLocalGzip, { urls })];
      set.image({ tag: 'non-distributable-layers', layers: [...absent, set.layer()] });
    }),
    build('custom-fields', (set) => {
      const fields = { 'org.example.field': 'top', exampleNumber: 42 };
      const child = set.image({ config: set.config({ 'org.example.config': 'kept' }), fields });
      set.index([{ ...child, ...platform('amd64') }], { tag: 'custom-fields', fields });
    }),
  ];
}

function digestsAndTags(): DataSet[] {
  const tagged = (algorithm: 'sha256' | 'sha512'): DataSet =>
    build(
      `tag-param-${algorithm} (dev)`,
      (set) => set.image({ tagParameters: ['one', 'two', 'three'].map((name) => `param-${algorithm}-${name}`) }),
      algorithm,
    );
  return [build('sha512', (set) => set.index(twoPlatforms(set)), 'sha512'), tagged('sha256'), tagged('sha512')];
}
