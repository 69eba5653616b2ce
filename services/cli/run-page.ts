/** One self-contained HTML page about runs, simulated or real: the chart library, the curves and the graph of links are all inside. */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { GraphFrame, RunResult } from '#sim';

/** The page as text, about 1.2 MB. */
export async function runPage(title: string, results: readonly RunResult[]): Promise<string> {
  const library = await readFile(createRequire(import.meta.url).resolve('echarts/dist/echarts.min.js'), 'utf8');
  const charts = results.flatMap((result) => [curveOf(result), graphOf(result)]);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>${title}</title>
<style>body { font: 14px system-ui, sans-serif; margin: 24px; } .chart { height: 480px; margin-bottom: 32px; }</style>
</head>
<body>
${charts.map(() => '<div class="chart"></div>').join('\n')}
<script>${inScript(library)}</script>
<script>
const charts = ${inScript(JSON.stringify(charts))};
document.querySelectorAll('.chart').forEach((element, at) => {
  const chart = echarts.init(element);
  chart.setOption(charts[at]);
  addEventListener('resize', () => chart.resize());
});
</script>
</body>
</html>
`;
}

/** Nothing inside may end the script element. */
function inScript(text: string): string {
  return text.replaceAll('</', '<\\/');
}

function titleOf({ scenario, ratio }: RunResult): string {
  const over = `p50 ${ratio.p50.toFixed(3)}, p99 ${ratio.p99.toFixed(3)}, last ${ratio.last.toFixed(3)} of T*`;
  return `${scenario.name}: ${scenario.hostCount} hosts, seed ${scenario.seed}, ${over}`;
}

/** Completed hosts, received bytes and links over time, with T* and T*_K. */
function curveOf(result: RunResult) {
  const { samples, idealMs, pieceFactor } = result;
  const line = (name: string, values: readonly number[], axis: number) => ({
    name,
    type: 'line',
    showSymbol: false,
    yAxisIndex: axis,
    data: samples.map(({ timeMs }, at) => [timeMs / 1000, values[at]]),
  });
  const bounds = {
    symbol: 'none',
    data: [
      { xAxis: idealMs / 1000, label: { formatter: 'T*' } },
      { xAxis: (idealMs * pieceFactor) / 1000, label: { formatter: 'T*K', position: 'middle' } },
    ],
  };
  const percent = samples.map(({ hostsShare }) => 100 * hostsShare);
  return {
    title: { text: titleOf(result) },
    tooltip: { trigger: 'axis' },
    legend: { bottom: 0 },
    xAxis: { type: 'value', name: 's' },
    yAxis: [
      { type: 'value', name: '%', max: 100 },
      { type: 'value', name: 'links' },
    ],
    series: [
      { ...line('hosts that have everything (%)', percent, 0), markLine: bounds },
      line(
        'bytes received (%)',
        samples.map(({ bytesShare }) => 100 * bytesShare),
        0,
      ),
      line(
        'links',
        samples.map(({ linkCount }) => linkCount),
        1,
      ),
    ],
  };
}

/** The links around the origins, one frame after another. */
function graphOf(result: RunResult) {
  return {
    baseOption: {
      title: { text: `${result.scenario.name}: links among the hosts next to the origins; bold while a piece is sent` },
      tooltip: {},
      timeline: { axisType: 'category', playInterval: 1500, data: result.frames.map(({ timeMs }) => `${(timeMs / 1000).toFixed(1)} s`) },
      series: [
        {
          type: 'graph',
          layout: 'circular',
          roam: true,
          top: 50,
          bottom: 70,
          lineStyle: { curveness: 0.2 },
          edgeSymbol: ['none', 'arrow'],
        },
      ],
    },
    options: result.frames.map((frame) => ({ series: [frameOf(frame)] })),
  };
}

function frameOf({ nodes, links }: GraphFrame) {
  return {
    data: nodes.map(({ name, origin, haveShare }) => ({
      name,
      value: Math.round(100 * haveShare),
      symbolSize: 6 + 16 * haveShare,
      itemStyle: { color: origin ? '#c23531' : `hsl(${Math.round(40 + 100 * haveShare)}, 70%, 45%)` },
    })),
    links: links.map(({ from, to, sending }) => ({
      source: from,
      target: to,
      symbolSize: sending ? 6 : 0,
      lineStyle: { width: sending ? 2 : 0.5, opacity: sending ? 0.9 : 0.25 },
    })),
  };
}
