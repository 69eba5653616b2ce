/** Builds what is pushed as one whole: blobs, and manifests in the order in which they must be pushed. */
import {
  type Algorithm,
  type Content,
  contentOf,
  type Descriptor,
  descriptorOf,
  jsonContent,
  mediaTypes,
  randomContent,
} from './content.ts';

export interface PushedManifest extends Content {
  readonly mediaType: string;
  readonly tag?: string;
  /** Tags given as parameters of a push by digest. */
  readonly tagParameters?: readonly string[];
  readonly subject?: string;
  /** What a list of referrers says of it. */
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

export interface DataSet {
  readonly name: string;
  readonly blobs: readonly Content[];
  readonly manifests: readonly PushedManifest[];
}

export interface ManifestOptions {
  readonly tag?: string;
  readonly tagParameters?: readonly string[];
  readonly subject?: Descriptor;
  readonly artifactType?: string;
  readonly annotations?: Readonly<Record<string, string>>;
  /** Further fields of the document. */
  readonly fields?: Readonly<Record<string, unknown>>;
}

export interface ImageOptions extends ManifestOptions {
  readonly config?: Descriptor;
  readonly layers?: readonly Descriptor[];
}

export class DataSetBuilder {
  readonly #name: string;
  readonly #algorithm: Algorithm;
  readonly #blobs = new Map<string, Content>();
  readonly #manifests: PushedManifest[] = [];

  constructor(name: string, algorithm: Algorithm = 'sha256') {
    this.#name = name;
    this.#algorithm = algorithm;
  }

  /** A random blob. */
  layer(mediaType: string = mediaTypes.layerGzip, extra: Readonly<Record<string, unknown>> = {}): Descriptor {
    return this.#keep(randomContent(512, this.#algorithm), mediaType, extra);
  }

  /** A blob of the given bytes. */
  blob(bytes: Uint8Array, mediaType: string, extra: Readonly<Record<string, unknown>> = {}): Descriptor {
    return this.#keep(contentOf(bytes, this.#algorithm), mediaType, extra);
  }

  /** A config nobody pushed before. */
  config(fields: Readonly<Record<string, unknown>> = {}, { isInline = false }: { readonly isInline?: boolean } = {}): Descriptor {
    const nonce = randomContent(8).digest;
    const diffIds = { type: 'layers', diff_ids: [] };
    const content = jsonContent({ os: 'linux', architecture: 'amd64', rootfs: diffIds, author: nonce, ...fields }, this.#algorithm);
    return this.#keep(content, mediaTypes.config, isInline ? dataOf(content) : {});
  }

  /** The two bytes `{}` that artifacts have for want of a config. */
  emptyJson(): Descriptor {
    return this.#keep(contentOf(Buffer.from('{}'), this.#algorithm), mediaTypes.empty);
  }

  /** A blob whose descriptor carries its bytes. */
  inline(mediaType: string): Descriptor {
    const content = randomContent(64, this.#algorithm);
    return this.#keep(content, mediaType, dataOf(content));
  }

  /** A descriptor of a blob that is never pushed. */
  absent(mediaType: string, extra: Readonly<Record<string, unknown>> = {}): Descriptor {
    return descriptorOf(randomContent(512, this.#algorithm), mediaType, extra);
  }

  image(options: ImageOptions = {}): Descriptor {
    const { config = this.config(), layers = [this.layer(), this.layer()], ...rest } = options;
    const artifactType = options.artifactType ?? config.mediaType;
    return this.#manifest(mediaTypes.manifest, { config, layers }, { ...rest, listedAs: artifactType });
  }

  index(manifests: readonly Descriptor[], options: ManifestOptions = {}): Descriptor {
    return this.#manifest(mediaTypes.index, { manifests }, { ...options, listedAs: options.artifactType });
  }

  build(): DataSet {
    return { name: this.#name, blobs: [...this.#blobs.values()], manifests: this.#manifests };
  }

  #keep(content: Content, mediaType: string, extra: Readonly<Record<string, unknown>> = {}): Descriptor {
    this.#blobs.set(content.digest, content);
    return descriptorOf(content, mediaType, extra);
  }

  #manifest(mediaType: string, body: object, options: ManifestOptions & { readonly listedAs: string | undefined }): Descriptor {
    const { subject, artifactType, annotations, fields = {}, tag, tagParameters, listedAs } = options;
    const content = jsonContent({ schemaVersion: 2, mediaType, artifactType, ...body, subject, annotations, ...fields }, this.#algorithm);
    this.#manifests.push({
      ...content,
      mediaType,
      ...(tag === undefined ? {} : { tag }),
      ...(tagParameters === undefined ? {} : { tagParameters }),
      ...(subject === undefined ? {} : { subject: subject.digest }),
      ...(listedAs === undefined ? {} : { artifactType: listedAs }),
      ...(annotations === undefined ? {} : { annotations }),
    });
    return descriptorOf(content, mediaType, artifactType === undefined ? {} : { artifactType });
  }
}

/** The field of a descriptor that carries the bytes themselves. */
function dataOf({ bytes }: Content): { readonly data: string } {
  return { data: bytes.toString('base64') };
}
