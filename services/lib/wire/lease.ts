/** What a call takes from the pool of connections. */
import type { Client as GrpcClient } from '@grpc/grpc-js';

/** A connection taken from the pool for the time of one call. */
export interface Lease {
  readonly client: GrpcClient;
  release(): void;
}
