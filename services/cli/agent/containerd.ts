/** Containerd: one `hosts.toml` for each registry, or one for all. It is read at each pull; requests carry the registry's name as `ns`. */
import { AppError } from '#core';
import type { HostFiles } from './files.ts';
import { marked } from './marked-text.ts';
import { dockerHub, type MirrorSettings } from './settings.ts';
import type { RuntimePlan, WantedFile } from './wanted.ts';

const certificates = '/etc/containerd/certs.d';
const mainConfig = '/etc/containerd/config.toml';
/** The folder for every registry that has none of its own. */
const everything = '_default';

/** Where containerd goes on when the agent does not have an image. */
const serverOf = (upstream: string): string => `https://${upstream === dockerHub ? 'registry-1.docker.io' : upstream}`;

export async function planContainerd(settings: MirrorSettings, files: HostFiles): Promise<RuntimePlan> {
  const names = [...settings.upstreams, ...(settings.catchAll ? [everything] : [])];
  return {
    files: names.map((name) => wantedHosts(name, settings)),
    notes: [...(await notesOn(files)), ...overshadowing(settings, await files.list(certificates))],
  };
}

/** A folder of one registry takes precedence over the one for all. */
function overshadowing({ catchAll, upstreams }: MirrorSettings, present: readonly string[]): string[] {
  const others = present.filter((name) => name !== everything && !upstreams.includes(name));
  if (!catchAll || others.length === 0) return [];
  return [
    `containerd: ${others.join(', ')} below ${certificates} have settings of their own, so ${everything} does not apply to them; add --upstream for those.`,
  ];
}

function wantedHosts(name: string, { agent }: MirrorSettings): WantedFile {
  const path = `${certificates}/${name}/hosts.toml`;
  const header = `[host."${agent.url}"]`;
  const host = [header, '  capabilities = ["pull", "resolve"]'];
  const add = (base: string | undefined): string => {
    if (base === undefined) return marked(name === everything ? host : [`server = "${serverOf(name)}"`, '', ...host]);
    if (base.includes(header)) {
      throw new AppError('failed-precondition', `${path} has a host ${agent.url} already: remove that entry, or leave this registry out`);
    }
    // Hosts are asked in the order of the file; keys of the root stand before the first table.
    const firstTable = /^[ \t]*\[/m.exec(base)?.index ?? base.length;
    const head = base.slice(0, firstTable);
    return `${head}${head === '' || head.endsWith('\n') ? '' : '\n'}${marked(host)}${base.slice(firstTable)}`;
  };
  return { runtime: 'containerd', path, add };
}

async function notesOn(files: HostFiles): Promise<string[]> {
  const config = await files.read(mainConfig);
  if (config === undefined || /^\s*config_path\s*=\s*["'][^"']*certs\.d/m.test(config)) return [];
  return [
    `containerd: ${mainConfig} does not set config_path. Kubernetes (CRI) pulls use ${certificates} once the registry section says config_path = "${certificates}" and containerd was restarted; ctr takes --hosts-dir ${certificates}.`,
  ];
}
