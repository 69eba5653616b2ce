/** `shoal certs`: the cluster's CA and the certificates of its nodes. */
import { Command } from 'commander';
import pc from 'picocolors';
import { AppError, identityOf, isRole, type NodeIdentity, roles } from '#core';
import { CertificateDirectory } from '#pki';
import { formatDuration, parseDuration, SystemClock } from '#runtime';
import { print, printJson, table } from './output.ts';

const directoryDefault = '.shoal/certs';

export function certsCommand(): Command {
  const command = new Command('certs').description("makes and shows the cluster's certificates");
  const withDirectory = (sub: Command): Command => sub.option('--dir <folder>', 'the certificate folder', directoryDefault);

  withDirectory(command.command('init <cluster>'))
    .description('makes the CA of a cluster')
    .option('--lifetime <time>', 'of the CA, e.g. 365d')
    .option('--rotate', 'replace the CA and go on trusting the old one until it expires')
    .action(async (cluster: string, options: { dir: string; lifetime?: string; rotate?: boolean }) => {
      await open(options.dir).init({ cluster, ...lifetime(options.lifetime), onExisting: options.rotate === true ? 'rotate' : 'refuse' });
      print(`The CA of ${cluster} is in ${options.dir}. Keep its key away from the nodes; issue with: shoal certs issue <role>/<id>`);
    });

  withDirectory(command.command('issue <node...>'))
    .description(`issues (or renews) the certificates of nodes such as agent/host-7; roles: ${roles.join(', ')}`)
    .option('--lifetime <time>', 'of the certificates, at most 90d; 7d by default')
    .option('--ip <addresses...>', 'IP addresses to write into the certificate')
    .action(async (nodes: string[], options: { dir: string; lifetime?: string; ip?: string[] }) => {
      const directory = open(options.dir);
      for (const node of nodes) {
        const identity = parseNode(node);
        await directory.issue(identity, {
          ...lifetime(options.lifetime),
          ...(options.ip === undefined ? {} : { ipAddresses: options.ip }),
        });
        print(`${node}: ${directory.pathsOf(identity).certFile}`);
      }
    });

  withDirectory(command.command('renew'))
    .description('renews every certificate of which a third of its life or less remains')
    .action(async (options: { dir: string }) => {
      const renewed = await open(options.dir).renewDue();
      print(renewed.length === 0 ? 'Nothing is due.' : renewed.map(({ role, id }) => `renewed ${role}/${id}`).join('\n'));
    });

  withDirectory(command.command('list'))
    .description('shows every certificate and when it ends')
    .option('--json', 'print JSON')
    .action(async (options: { dir: string; json?: boolean }) => {
      const entries = await open(options.dir).list();
      if (options.json === true) return printJson(entries);
      const nowMs = new SystemClock().wallMs();
      const rows = entries.map(({ identity, notAfterMs, expired, renewalDue }) => [
        `${identity.role}/${identity.id}`,
        expired ? pc.red('expired') : renewalDue ? pc.yellow('due') : pc.green('valid'),
        expired ? '-' : formatDuration(notAfterMs - nowMs),
      ]);
      return print(table(['NODE', 'STATE', 'ENDS IN'], rows));
    });

  return command;
}

function open(root: string): CertificateDirectory {
  return new CertificateDirectory({ root }, { clock: new SystemClock() });
}

function lifetime(text: string | undefined): { lifetimeMs?: number } {
  if (text === undefined) return {};
  const lifetimeMs = parseDuration(text);
  if (lifetimeMs === undefined) throw new AppError('invalid-argument', '--lifetime: write it like 7d or 12h');
  return { lifetimeMs };
}

/** Accepts `<role>/<id>`; says what is wrong when the role is not one. */
function parseNode(text: string): NodeIdentity {
  const [role = ''] = text.split('/');
  if (!isRole(role)) throw new AppError('invalid-argument', `${text}: write it as <role>/<id> with a role of ${roles.join(', ')}`);
  return identityOf(text);
}
