/** Writes to a database until the disk takes no more, and says what became of it; see database.test.ts. */
import { isAppError } from '#core';
import { commit, openDatabase } from '#storage';

let unhandledCount = 0;
process.on('unhandledRejection', () => {
  unhandledCount += 1;
});

const db = await openDatabase(process.argv[2] as string);
const table = db.openDB<Uint8Array, string>({ name: 'a', encoding: 'binary' });
const stored: string[] = [];
const refused: string[] = [];
const codes: string[] = [];

async function write(name: string): Promise<void> {
  try {
    await commit(db, () => {
      table.putSync(`${name}/small`, Buffer.alloc(10));
      table.putSync(`${name}/large`, Buffer.alloc(30_000));
    });
    stored.push(name);
  } catch (error) {
    refused.push(name);
    codes.push(isAppError(error) ? error.code : String(error));
  }
}

for (let round = 0; round < 8; round += 1) await Promise.all(['x', 'y', 'z'].map((name) => write(`${name}${round}`)));
const has = (name: string): boolean => table.get(`${name}/small`) !== undefined || table.get(`${name}/large`) !== undefined;
const lost = stored.filter((name) => !has(name));
const torn = refused.filter(has);
await db.close();
// The handlers of what nobody awaited run before the next turn of the event loop.
await new Promise((resolve) => setImmediate(resolve));
process.stdout.write(`${JSON.stringify({ storedCount: stored.length, codes, lost, torn, unhandledCount })}\n`);
