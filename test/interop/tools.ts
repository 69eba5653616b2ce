/** The programs of other people that `make interop` runs, and which version of each is installed. */
import { run } from '../support/processes.ts';

interface Tool {
  readonly name: string;
  readonly args: readonly string[];
  readonly version: RegExp;
  readonly from: string;
}

const debian = (name: string): string => `apt-get install ${name}`;

/** What must be in the path. `.ci/run` installs all of it. */
const tools: readonly Tool[] = [
  { name: 'docker', args: ['--version'], version: /version ([^,\s]+)/, from: debian('docker.io') },
  { name: 'dockerd', args: ['--version'], version: /version ([^,\s]+)/, from: debian('docker.io') },
  { name: 'containerd', args: ['--version'], version: /containerd\S* (\S+)/, from: debian('containerd') },
  { name: 'ctr', args: ['--version'], version: /containerd\S* (\S+)/, from: debian('containerd') },
  { name: 'podman', args: ['--version'], version: /version (\S+)/, from: debian('podman') },
  { name: 'buildah', args: ['--version'], version: /version (\S+)/, from: debian('buildah') },
  { name: 'skopeo', args: ['--version'], version: /version (\S+)/, from: debian('skopeo') },
  { name: 'crane', args: ['version'], version: /v?(\S+)/, from: 'go install github.com/google/go-containerregistry/cmd/crane@v0.22.1' },
  { name: 'oras', args: ['version'], version: /Version:\s+(\S+)/, from: 'go build of oras.land/oras/cmd/oras v1.3.1 (see .ci/run)' },
  { name: 'helm', args: ['version', '--short'], version: /v?([0-9][^\s+]*)/, from: 'go install helm.sh/helm/v3/cmd/helm@v3.22.0' },
];

export type Versions = ReadonlyMap<string, string>;

/** The version of each tool. Throws, naming all that are missing and where they come from. */
export async function findTools(): Promise<Versions> {
  const versions = new Map<string, string>();
  const missing: string[] = [];
  for (const { name, args, version, from } of tools) {
    const output = await run(name, args).catch(() => undefined);
    const found = output?.code === 0 ? version.exec(output.stdout)?.[1] : undefined;
    if (found === undefined) missing.push(`${name}: ${from}`);
    else versions.set(name, found);
  }
  if (process.getuid?.() !== 0) missing.push('root: the engines of docker, containerd and podman need it');
  if (missing.length > 0) throw new Error(`make interop needs what is not here:\n  ${missing.join('\n  ')}`);
  return versions;
}
