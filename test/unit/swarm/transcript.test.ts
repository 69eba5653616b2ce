/**
 * Transcripts: each file in traces/ holds commands (lines with `>`) and, below each, what the engine answered. Run with
 * UPDATE_TRACES=1 to rewrite the answers, then read the difference.
 *
 * Commands: option NAME VALUE · pieces COUNT · want [HAVE..] · seed · forget · offer PEER.. · accept LINK HAVE.. · refuse LINK REASON MS ·
 * has LINK PIECE.. · piece LINK PIECE · no-piece LINK PIECE REASON · ok PIECE · corrupt PIECE PEER · unwritable PIECE ·
 * reader ID FIRST END · inbound PEER · ask LINK PIECE.. · cancel LINK PIECE.. · sent LINK PIECE · closed LINK failed|clean · drain · pass MS · show
 */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import test from 'node:test';
import { Bitfield, parsePeerId } from '#core';
import type { Effect, RefusalReason, SwarmEvent } from '#swarm';
import { Engine, lineOf, pieces } from './engine-harness.ts';

const folder = new URL('./traces/', import.meta.url);
const update = process.env['UPDATE_TRACES'] === '1';

class Script {
  readonly #options: Record<string, number> = {};
  #pieceCount = 8;
  #engine: Engine | undefined;

  /** Runs one command and returns its answer as lines. */
  run(line: string): string[] {
    const [command = '', ...words] = line.split(/\s+/);
    if (command === 'option') {
      this.#options[words[0] ?? ''] = Number(words[1]);
      return [];
    }
    if (command === 'pieces') {
      this.#pieceCount = Number(words[0]);
      return [];
    }
    this.#engine ??= new Engine(this.#options, this.#pieceCount);
    const engine = this.#engine;
    if (command === 'show') return [...engine.swarm.links(), ...engine.swarm.penalties()].map(describe);
    const effects = command === 'pass' ? engine.pass(Number(words[0])) : this.#act(engine, command, words);
    return [`@${engine.nowMs} next=${engine.swarm.nextDeadlineMs() ?? 'none'}`, ...effects.map(lineOf)];
  }

  #act(engine: Engine, command: string, words: readonly string[]): Effect[] {
    if (command === 'offer') return engine.offer(words);
    if (command === 'inbound') return engine.inbound(words[0] ?? '').effects;
    return engine.apply(this.#eventOf(engine, command, words));
  }

  #eventOf(engine: Engine, command: string, words: readonly string[]): SwarmEvent {
    const numbers = words.map(Number);
    const [link = -1, piece = -1] = numbers;
    const { digest, pieceLengthBytes: sizeBytes } = engine.blob;
    const makers: Record<string, () => SwarmEvent> = {
      want: () => ({ type: 'blob-wanted', metainfo: engine.blob, have: this.#have(words) }),
      seed: () => ({ type: 'blob-seeded', metainfo: engine.blob }),
      forget: () => ({ type: 'blob-forgotten', digest }),
      accept: () => ({ type: 'link-accepted', link, have: this.#have(words.slice(1)) }),
      refuse: () => ({ type: 'link-refused', link, reason: words[1] as RefusalReason, retryAfterMs: Number(words[2]) }),
      has: () => ({ type: 'peer-has', link, pieces: numbers.slice(1) }),
      piece: () => ({ type: 'piece-received', link, piece, sizeBytes }),
      'no-piece': () => ({ type: 'piece-refused', link, piece, reason: words[2] as RefusalReason }),
      ok: () => ({ type: 'piece-verified', digest, piece: link }),
      corrupt: () => ({ type: 'piece-corrupt', digest, piece: link, peer: parsePeerId(words[1] ?? '') }),
      unwritable: () => ({ type: 'piece-unwritable', digest, piece: link }),
      reader: () => ({ type: 'reader-moved', digest, reader: link, firstPiece: piece, endPiece: Number(words[2]) }),
      ask: () => ({ type: 'pieces-requested', link, pieces: numbers.slice(1) }),
      cancel: () => ({ type: 'pieces-cancelled', link, pieces: numbers.slice(1) }),
      sent: () => ({ type: 'piece-sent', link, piece, sizeBytes }),
      closed: () => ({ type: 'link-closed', link, failed: words[1] === 'failed' }),
      drain: () => ({ type: 'drain' }),
    };
    const make = makers[command];
    if (make === undefined) throw new Error(`unknown command: ${command}`);
    return make();
  }

  #have(words: readonly string[]): Bitfield {
    return words[0] === 'all' ? Bitfield.full(this.#pieceCount) : pieces(this.#pieceCount, ...words.map(Number));
  }
}

function describe(snapshot: object): string {
  return Object.entries(snapshot)
    .filter(([name]) => name !== 'digest')
    .map(([name, value]) => `${name}=${String(value)}`)
    .join(' ');
}

for (const name of readdirSync(folder).filter((file) => file.endsWith('.txt'))) {
  test(`transcript ${name}`, () => {
    const file = new URL(name, folder);
    const before = readFileSync(file, 'utf8');
    const script = new Script();
    const kept = before.split('\n').filter((line) => line.startsWith('>') || line.startsWith('#'));
    const after = kept.flatMap((line) => [line, ...(line.startsWith('>') ? script.run(line.slice(1).trim()) : [])]);
    const text = `${after.join('\n')}\n`;
    if (update) writeFileSync(file, text);
    else assert.equal(text, before);
  });
}
