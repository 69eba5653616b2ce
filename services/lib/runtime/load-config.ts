/** Reads a service's YAML file into its validated, frozen config. */
import { readFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import type { z } from 'zod';
import { AppError, toAppError } from '#core';
import { nearestName } from './nearest-name.ts';

/** Loads and validates `file`. Throws `invalid-argument` with one line for each fault: where it is, what is wrong, what was probably meant. */
export function loadConfig<T>(schema: z.ZodType<T>, file: string): T {
  return parseConfig(schema, readConfigFile(file), file);
}

/** Validates the text of a config file; `name` is used in messages. */
export function parseConfig<T>(schema: z.ZodType<T>, text: string, name: string): T {
  const document = parseDocument(text);
  const [fault] = document.errors;
  if (fault !== undefined) throw new AppError('invalid-argument', `${name}: not valid YAML: ${fault.message}`);
  const result = schema.safeParse(document.toJS() ?? {});
  if (result.success) return deepFreeze(result.data);
  const lines = result.error.issues.flatMap((issue) => describeIssue(schema, issue));
  throw new AppError('invalid-argument', [`${name} is not a valid config:`, ...lines.map((line) => `  ${line}`)].join('\n'));
}

function readConfigFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new AppError('not-found', `cannot read the config file ${file}: ${toAppError(error).message}`, {
      cause: error,
      data: { kind: 'config' },
    });
  }
}

function describeIssue(schema: z.ZodType, issue: z.core.$ZodIssue): string[] {
  const path = issue.path.map(String);
  if (issue.code !== 'unrecognized_keys') return [`${path.join('.') || 'the file'}: ${issue.message}`];
  const valid = keysAt(schema, path);
  return issue.keys.map((key) => {
    const nearest = nearestName(key, valid);
    const hint = nearest === undefined ? `valid here: ${valid.join(', ')}` : `did you mean ${[...path, nearest].join('.')}?`;
    return `${[...path, key].join('.')}: unknown key; ${hint}`;
  });
}

/** The keys that an object at `path` may have, found by walking the schema. */
function keysAt(schema: z.ZodType, path: readonly string[]): string[] {
  let at: unknown = schema;
  for (const step of path) at = childOf(unwrap(at), step);
  const shape = shapeOf(unwrap(at));
  return shape === undefined ? [] : Object.keys(shape);
}

interface SchemaDefinition {
  readonly type?: string;
  readonly innerType?: unknown;
  readonly in?: unknown;
  readonly element?: unknown;
  readonly shape?: Readonly<Record<string, unknown>>;
}

function definitionOf(schema: unknown): SchemaDefinition {
  return (schema as { readonly _zod?: { readonly def?: SchemaDefinition } } | undefined)?._zod?.def ?? {};
}

function unwrap(schema: unknown): unknown {
  const { innerType, in: input } = definitionOf(schema);
  const inner = innerType ?? input;
  return inner === undefined ? schema : unwrap(inner);
}

function shapeOf(schema: unknown): Readonly<Record<string, unknown>> | undefined {
  return definitionOf(schema).shape;
}

function childOf(schema: unknown, step: string): unknown {
  return definitionOf(schema).element ?? shapeOf(schema)?.[step];
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value;
  for (const item of Object.values(value)) deepFreeze(item);
  return Object.freeze(value);
}
