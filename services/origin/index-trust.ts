/**
 * Whether the index may be believed when it says that nobody shows a blob. An index that was created anew, or restored from an old copy, has forgotten
 * blobs; the bytes at the origins are then all that is left of them, and must not be deleted on its word.
 */
import type { IndexState } from '#cluster';
import { AppError } from '#core';
import type { GarbageMarks } from './garbage-marks.ts';

export class IndexTrust {
  readonly #marks: Pick<GarbageMarks, 'index' | 'setIndex'>;

  constructor(marks: Pick<GarbageMarks, 'index' | 'setIndex'>) {
    this.#marks = marks;
  }

  /** Whether this is the index that is known here, and not older than it was; the first one that answers is. */
  believes(answered: IndexState): boolean {
    const known = this.#marks.index();
    return known === undefined || (known.id === answered.id && known.version <= answered.version);
  }

  /** Throws `failed-precondition` when the index that answered is another one than before, or is older than it was. */
  check(answered: IndexState): void {
    if (this.believes(answered)) return;
    const what = this.#marks.index()?.id === answered.id ? 'has gone back to an older state' : 'is another one than before';
    throw new AppError(
      'failed-precondition',
      `the build-index ${what}: what it has forgotten would be deleted. Restore it, or accept that with "shoal gc --trust-index"`,
      { data: { kind: 'index-changed' } },
    );
  }

  /** Remembers the index that answered, whatever was known before. */
  async accept(answered: IndexState): Promise<void> {
    const known = this.#marks.index();
    if (known?.id === answered.id && known.version === answered.version) return;
    await this.#marks.setIndex(answered);
  }
}
