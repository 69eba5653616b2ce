/** Sizes and durations as people write them in config files. */
import { z } from 'zod';

const sizeUnits: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
};
const durationUnits: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

function parseUnits(text: string, units: Readonly<Record<string, number>>): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([A-Za-z]+)$/.exec(text.trim());
  const factor = match?.[2] === undefined ? undefined : units[match[2]];
  return factor === undefined ? undefined : Math.round(Number(match?.[1]) * factor);
}

/** Parses `64MiB`, `1.5 GB`, …; undefined when it is none. */
export const parseSize = (text: string): number | undefined => parseUnits(text, sizeUnits);
/** Parses `250ms`, `10s`, `24h`, …; undefined when it is none. */
export const parseDuration = (text: string): number | undefined => parseUnits(text, durationUnits);

/** `1.5 GiB`. */
export function formatSize(bytes: number): string {
  const unit = ['TiB', 'GiB', 'MiB', 'KiB'].find((name) => bytes >= (sizeUnits[name] ?? 1));
  return unit === undefined ? `${bytes} B` : `${(bytes / (sizeUnits[unit] ?? 1)).toFixed(1)} ${unit}`;
}

/** `1 d 3 h`, `12 s`, `250 ms`: the two largest units. */
export function formatDuration(ms: number): string {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const parts: string[] = [];
  let rest = Math.round(ms / 1000) * 1000;
  for (const unit of ['d', 'h', 'm', 's']) {
    const size = durationUnits[unit] ?? 1;
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count} ${unit}`);
  }
  return parts.slice(0, 2).join(' ');
}

function unitSchema(parse: (text: string) => number | undefined, example: string, bounds: { min: number; max: number }): z.ZodType<number> {
  return z.union([z.number(), z.string()]).transform((value, context) => {
    const parsed = typeof value === 'number' ? value : parse(value);
    if (parsed === undefined || !Number.isSafeInteger(parsed) || parsed < bounds.min || parsed > bounds.max) {
      context.addIssue({ code: 'custom', message: `write it like ${example}, from ${bounds.min} to ${bounds.max}` });
      return z.NEVER;
    }
    return parsed;
  });
}

/** A size in bytes: a number, or a string such as `64MiB`. */
export const sizeBytes = (min: number, max: number): z.ZodType<number> => unitSchema(parseSize, '64MiB', { min, max });
/** A duration in milliseconds: a number, or a string such as `10s`. */
export const durationMs = (min: number, max: number): z.ZodType<number> => unitSchema(parseDuration, '10s', { min, max });
