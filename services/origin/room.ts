/** Whether a blob that is to come has a place on this disk. */
import { statfs } from 'node:fs/promises';
import { AppError } from '#core';
import { type BlobStore, onDisk } from '#storage';

export interface RoomNeeded {
  /** A folder on the disk of the store. */
  readonly root: string;
  readonly sizeBytes: number;
  /** All copies under way, this one included. */
  readonly copyingBytes: number;
}

/** Before hours are spent on a copy that has no place to go. Throws `resource-exhausted`. */
export async function requireRoom(
  { root, sizeBytes, copyingBytes }: RoomNeeded,
  { store }: { readonly store: Pick<BlobStore, 'usage'> },
): Promise<void> {
  const { capacityBytes } = store.usage();
  const disk = await onDisk('looking for room', () => statfs(root));
  const freeBytes = disk.bavail * disk.bsize;
  if (sizeBytes <= capacityBytes && copyingBytes <= freeBytes) return;
  throw new AppError(
    'resource-exhausted',
    'the disk has no room for a blob from storage or an upstream; free space or raise the capacity',
    {
      data: { sizeBytes, capacityBytes, freeBytes },
      retryAfterMs: 30_000,
    },
  );
}
