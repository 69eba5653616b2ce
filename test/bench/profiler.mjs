/**
 * Preloaded into a node of a cluster (NODE_OPTIONS=--import=...): while SHOAL_PROFILE names a folder, SIGUSR2 starts the CPU profiler and the
 * next one stops it and writes `<pid>.cpuprofile` there.
 */
import { writeFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { join } from 'node:path';

const folder = process.env['SHOAL_PROFILE'];
if (folder !== undefined) {
  let session;
  process.on('SIGUSR2', () => {
    if (session === undefined) {
      session = new Session();
      session.connect();
      session.post('Profiler.enable');
      session.post('Profiler.setSamplingInterval', { interval: 500 });
      session.post('Profiler.start');
      return;
    }
    session.post('Profiler.stop', (error, result) => {
      if (error === null) writeFileSync(join(folder, `${process.pid}.cpuprofile`), JSON.stringify(result.profile));
    });
    session.disconnect();
    session = undefined;
  });
}
