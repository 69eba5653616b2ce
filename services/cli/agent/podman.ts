/**
 * Podman, buildah, skopeo and CRI-O: a file of our own in `registries.conf.d`. The agent is asked twice: as `<agent>/<registry>/<repository>`,
 * where images that it fetches from other registries live, and as `<agent>/<repository>`, where images live that were pushed under that name.
 */
import { AppError } from '#core';
import type { HostFiles } from './files.ts';
import { marked, withoutMarked } from './marked-text.ts';
import { dockerHub, type MirrorSettings } from './settings.ts';
import type { RuntimePlan } from './wanted.ts';

const main = '/etc/containers/registries.conf';
const folder = '/etc/containers/registries.conf.d';
const ownName = '50-shoal.conf';

export async function planPodman(settings: MirrorSettings, files: HostFiles): Promise<RuntimePlan> {
  const { upstreams, catchAll } = settings;
  const hosts = [...new Set([...(catchAll ? [dockerHub] : []), ...upstreams])];
  await refuseForeign(hosts, files);
  const notes = catchAll
    ? [`podman: there is no setting for every registry; ${hosts.join(', ')} are set, name others with --upstream.`]
    : [];
  const add = (base: string | undefined): string => {
    if (base !== undefined)
      throw new AppError('failed-precondition', `${folder}/${ownName} has lines of somebody else: move them to another file`);
    return marked(hosts.flatMap((host, index) => [...(index === 0 ? [] : ['']), ...registryLines(host, settings)]));
  };
  return { files: [{ runtime: 'podman', path: `${folder}/${ownName}`, add }], notes };
}

function registryLines(host: string, { agent }: MirrorSettings): string[] {
  const mirror = (location: string): string[] => ['[[registry.mirror]]', `location = "${location}"`, `insecure = ${!agent.isSecure}`];
  return ['[[registry]]', `prefix = "${host}"`, `location = "${host}"`, '', ...mirror(`${agent.host}/${host}`), '', ...mirror(agent.host)];
}

/** A later file replaces the whole entry of a registry, so one that exists elsewhere would be lost. */
async function refuseForeign(hosts: readonly string[], files: HostFiles): Promise<void> {
  const names = (await files.list(folder)).filter((name) => name.endsWith('.conf'));
  for (const path of [main, ...names.map((name) => `${folder}/${name}`)]) {
    const text = withoutMarked((await files.read(path)) ?? '') ?? '';
    for (const [, host = ''] of text.matchAll(/^\s*(?:prefix|location)\s*=\s*["']([^"']+)["']/gm)) {
      if (!hosts.includes(host)) continue;
      throw new AppError(
        'failed-precondition',
        `${path} has settings for ${host}, which another file would replace: add the agent there by hand, or leave podman or ${host} out`,
      );
    }
  }
}
