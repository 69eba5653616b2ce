/** Server reflection from the .proto files on disk, so that grpcurl and its like can call a node without them. */
import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Server } from '@grpc/grpc-js';
import { load } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { protoPath as healthProtoPath } from 'grpc-health-check';
import { AppError } from '#core';

/** From a source file the protos are three folders up, from a bundle in `dist/` one. */
const levelCountMax = 5;

/** The folder that holds `shoal/**.proto`: the nearest `proto` above this module. Throws `failed-precondition`. */
export function findProtoRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (let level = 0; level < levelCountMax; level += 1) {
    const candidate = join(folder, 'proto');
    if (existsSync(join(candidate, 'shoal'))) return candidate;
    folder = dirname(folder);
  }
  throw new AppError('failed-precondition', 'the proto folder is not beside the program: install it there or set protoRoot');
}

/** Adds reflection v1 and v1alpha for `services` (full names) and health to the server. */
export async function addReflection(server: Server, protoRoot: string, services: readonly string[]): Promise<void> {
  const entries = await readdir(join(protoRoot, 'shoal'), { recursive: true });
  const files = entries.filter((name) => name.endsWith('.proto')).map((name) => `shoal/${name.split(sep).join('/')}`);
  const definition = await load([...files, healthProtoPath], { includeDirs: [protoRoot], keepCase: true, longs: String, enums: String });
  new ReflectionService(definition, { services: [...services, 'grpc.health.v1.Health'] }).addToServer(server);
}
