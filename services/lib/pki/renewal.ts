/** When a certificate is due for renewal. Pure. */

export interface Validity {
  /** Unix time, milliseconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/**
 * The moment from which a certificate should be renewed: when a third of its life remains. A week-long leaf is renewed after four and a
 * half days and leaves more than two for someone to notice that renewal fails.
 */
export function renewalDueMs({ notBeforeMs, notAfterMs }: Validity): number {
  return notAfterMs - Math.floor((notAfterMs - notBeforeMs) / 3);
}

/** True from {@link renewalDueMs} on, also after expiry. `wallMs` is Unix time. */
export function isRenewalDue(validity: Validity, wallMs: number): boolean {
  return wallMs >= renewalDueMs(validity);
}

/** True once a certificate is no longer valid. `wallMs` is Unix time. */
export function isExpired({ notAfterMs }: Pick<Validity, 'notAfterMs'>, wallMs: number): boolean {
  return wallMs >= notAfterMs;
}
