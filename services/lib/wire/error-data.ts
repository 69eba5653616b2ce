/**
 * The values of error data as text. The proto's map holds strings only, so a number or boolean is written as itself (`5`, `true`), a
 * string as itself too unless it would be read back as something else: then it is written as JSON, in quotes.
 */
import type { ErrorData } from '#core';

type DataValue = ErrorData[string];

/** Lossless for every value but -0, which becomes 0. Lone surrogates in strings are replaced by protobuf. */
export function encodeDataValue(value: DataValue): string {
  if (typeof value !== 'string') return String(value);
  return value.startsWith('"') || typeof decodeDataValue(value) !== 'string' ? JSON.stringify(value) : value;
}

/** The reverse of {@link encodeDataValue}; text from elsewhere that is not in its form stays a string. */
export function decodeDataValue(text: string): DataValue {
  if (text === 'true') return true;
  if (text === 'false') return false;
  if (text.startsWith('"')) return unquoted(text);
  return String(Number(text)) === text ? Number(text) : text;
}

function unquoted(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'string' ? value : text;
  } catch {
    return text;
  }
}
