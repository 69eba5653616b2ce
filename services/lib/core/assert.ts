/** Checks for programmer errors. They are always on and are never used for operating errors (see errors.ts). */

/** Thrown when the program itself is wrong; nothing catches it on purpose. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Throws {@link AssertionError} unless `condition` holds. `why` states the invariant. */
export function assert(condition: unknown, why: string): asserts condition {
  if (!condition) throw new AssertionError(why);
}

/** Closes an exhaustive switch: a new union member that is not handled fails to compile. */
export function assertNever(value: never, why = 'unexpected value'): never {
  throw new AssertionError(`${why}: ${JSON.stringify(value)}`);
}
