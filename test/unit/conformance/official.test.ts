/** How the conformance program judges its own results and those of the official program. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testCases } from '#test/conformance/official';
import { isClean, Recorder, Skip, totalsOf } from '#test/conformance/recorder';
import { junit, table } from '#test/conformance/report';

test('passes, failures, errors and skips are read from a JUnit file', () => {
  const xml = `<testsuites><testsuite tests="5">
    <testcase name="a" classname="suite"/>
    <testcase name="b"><failure message="was 500">body</failure></testcase>
    <testcase name="c"><skipped></skipped></testcase>
    <testcase name="d" status="passed" time="1"><system-out>all fine</system-out></testcase>
    <testcase name="e"><error message="broken"/></testcase>
  </testsuite></testsuites>`;
  assert.deepEqual(testCases(xml), [
    { name: 'suite/a', outcome: 'passed', message: '' },
    { name: 'b', outcome: 'failed', message: 'was 500' },
    { name: 'c', outcome: 'skipped', message: '' },
    { name: 'd', outcome: 'passed', message: '' },
    { name: 'e', outcome: 'failed', message: 'broken' },
  ]);
});

test('what this program writes is read the same way', async () => {
  const recorder = new Recorder();
  const check = recorder.area('proxy', 'blobs');
  await check('works', async () => undefined);
  await check('a < b & "c"', async () => {
    throw new Error('no <digest>');
  });
  await check('optional', async () => {
    throw new Skip('not offered');
  });
  assert.deepEqual(
    testCases(junit(recorder.results)).map(({ outcome }) => outcome),
    ['passed', 'failed', 'skipped'],
  );
  assert.match(table(recorder.results), /proxy +blobs +1 +1 +1/);
});

test('a run is clean only without failures, without skips and with enough passes', () => {
  assert.equal(isClean({ passed: 10, failed: 0, skipped: 0 }, 10), true);
  assert.equal(isClean({ passed: 9, failed: 0, skipped: 0 }, 10), false);
  assert.equal(isClean({ passed: 10, failed: 1, skipped: 0 }, 10), false);
  assert.equal(isClean({ passed: 10, failed: 0, skipped: 1 }, 10), false);
  assert.deepEqual(totalsOf([]), { passed: 0, failed: 0, skipped: 0 });
});
