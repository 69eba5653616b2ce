/** Server reflection, so that grpcurl and its like can list, describe and call a node's services without the .proto files. */

import { BinaryReader } from '@bufbuild/protobuf/wire';
import type { Server } from '@grpc/grpc-js';
import type { PackageDefinition } from '@grpc/proto-loader';
import { ReflectionService } from '@grpc/reflection';
import { assert } from '#core';
import { healthDescriptors, shoalDescriptors } from '#gen/shoal/descriptors';

/** Adds reflection v1 and v1alpha for `services` (full names) and health to the server. */
export function addReflection(server: Server, services: readonly string[]): void {
  const fileDescriptorProtos = [...filesOf(shoalDescriptors), ...filesOf(healthDescriptors)];
  // Only the descriptors of a package definition are read by the reflection service.
  const definition = { protos: { fileDescriptorProtos } } as unknown as PackageDefinition;
  new ReflectionService(definition, { services: [...services, 'grpc.health.v1.Health'] }).addToServer(server);
}

/** The files of a base64 FileDescriptorSet, whose only field is `repeated FileDescriptorProto file = 1`. */
function filesOf(base64: string): Buffer[] {
  const reader = new BinaryReader(Buffer.from(base64, 'base64'));
  const files: Buffer[] = [];
  while (reader.pos < reader.len) {
    const [field] = reader.tag();
    assert(field === 1, 'a file descriptor set holds files only');
    files.push(Buffer.from(reader.bytes()));
  }
  return files;
}
