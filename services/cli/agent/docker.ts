/** Docker: `registry-mirrors` in `daemon.json`. The engine asks mirrors for images of Docker Hub only. */
import { AppError } from '#core';
import { dockerHub, type MirrorSettings } from './settings.ts';
import type { RuntimePlan } from './wanted.ts';

const daemonFile = '/etc/docker/daemon.json';

type Document = Readonly<Record<string, unknown>>;

export function planDocker(settings: MirrorSettings): RuntimePlan {
  const { agent, upstreams, catchAll } = settings;
  const others = upstreams.filter((upstream) => upstream !== dockerHub);
  const notes =
    others.length === 0
      ? []
      : [`docker: mirrors work for ${dockerHub} only; pull ${others.join(', ')} images by the agent's name, ${agent.host}/REPOSITORY.`];
  if (!catchAll && !upstreams.includes(dockerHub)) return { files: [], notes };
  return {
    files: [{ runtime: 'docker', path: daemonFile, add: (base) => addMirror(base, settings) }],
    notes: [
      ...notes,
      `docker: it does not name the registry to its mirrors, so what the agent pulls through from ${dockerHub} is ${agent.host}/${dockerHub}/REPOSITORY.`,
      'docker: systemctl reload docker takes the new mirrors into use; running containers go on.',
    ],
  };
}

function addMirror(base: string | undefined, { agent }: MirrorSettings): string {
  const before = parseDaemon(base);
  const after: Record<string, unknown> = { ...before, 'registry-mirrors': [agent.url, ...listOf(before, 'registry-mirrors', agent.url)] };
  // Docker speaks plain HTTP to loopback without being told.
  if (!agent.isSecure && !agent.isLoopback) {
    after['insecure-registries'] = [...listOf(before, 'insecure-registries', agent.host), agent.host];
  }
  return format(after, base);
}

/** `current` without the agent. A list that is empty now and was not there in `before` goes. Undefined when nothing is left of a file that was made. */
export function withoutMirror(
  current: string,
  before: string | undefined,
  agent: { readonly url: string; readonly host: string },
): string | undefined {
  const original = parseDaemon(before);
  const document: Record<string, unknown> = { ...parseDaemon(current) };
  for (const [key, own] of [
    ['registry-mirrors', agent.url],
    ['insecure-registries', agent.host],
  ] as const) {
    if (!Object.hasOwn(document, key) || listOf(original, key).includes(own)) continue;
    const rest = listOf(document, key, own);
    if (rest.length > 0 || Object.hasOwn(original, key)) document[key] = rest;
    else delete document[key];
  }
  return before === undefined && Object.keys(document).length === 0 ? undefined : format(document, current);
}

/** Throws `failed-precondition` when the file is not what the engine would accept. */
function parseDaemon(text: string | undefined): Document {
  if (text === undefined || text.trim() === '') return {};
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new AppError('failed-precondition', `${daemonFile} is not JSON: correct it first, it has been left alone`, { cause: error });
  }
  if (typeof document !== 'object' || document === null || Array.isArray(document)) {
    throw new AppError('failed-precondition', `${daemonFile} is not a JSON object: correct it first, it has been left alone`);
  }
  return document as Document;
}

function listOf(document: Document, key: string, except?: string): string[] {
  const value = Object.hasOwn(document, key) ? document[key] : [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
    throw new AppError('failed-precondition', `${daemonFile}: ${key} is not a list of strings: correct it first, it has been left alone`);
  }
  return value.filter((item) => item !== except);
}

/** Indented as the file was. */
function format(document: Document, like: string | undefined): string {
  const indent = /^([ \t]+)"/m.exec(like ?? '')?.[1] ?? '  ';
  return `${JSON.stringify(document, undefined, indent)}${like === undefined || like.endsWith('\n') ? '\n' : ''}`;
}
