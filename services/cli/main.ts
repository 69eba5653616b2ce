/** The `shoal` command. */
import { Command } from 'commander';
import { isAppError, toAppError } from '#core';
import { version } from '#runtime';
import { agentCommand } from './agent/configure.ts';
import { certsCommand } from './certs.ts';
import { devclusterCommand } from './devcluster/command.ts';
import { eventsCommand } from './events.ts';
import { gcCommand } from './gc.ts';
import { limitsCommand, reloadCommand } from './limits.ts';
import { linksCommand, penaltiesCommand } from './links.ts';
import { preloadCommand } from './preload.ts';
import { simCommand } from './sim.ts';
import { statusCommand } from './status.ts';
import { transfersCommand } from './transfers.ts';
import { uploadsCommand } from './uploads.ts';

const program = new Command('shoal')
  .description('Looks after a Shoal cluster: certificates, a development cluster, what its nodes are doing, and simulations.')
  .version(version)
  .addCommand(agentCommand())
  .addCommand(certsCommand())
  .addCommand(devclusterCommand())
  .addCommand(statusCommand())
  .addCommand(transfersCommand())
  .addCommand(linksCommand())
  .addCommand(penaltiesCommand())
  .addCommand(limitsCommand())
  .addCommand(reloadCommand())
  .addCommand(eventsCommand())
  .addCommand(uploadsCommand())
  .addCommand(preloadCommand())
  .addCommand(gcCommand())
  .addCommand(simCommand());

try {
  await program.parseAsync();
} catch (error) {
  process.stderr.write(`shoal: ${isAppError(error) ? error.message : (toAppError(error).stack ?? String(error))}\n`);
  process.exitCode = 1;
}
