/** The table of clients in the README: written between its markers, compared without the versions. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { markdown, type Row, withoutVersions, withTable } from '../../interop/table.ts';

const row: Row = {
  name: 'crane',
  version: '0.22.1',
  remarks: 'layouts',
  push: { state: 'yes' },
  pull: { state: 'yes' },
  index: { state: 'cannot' },
  artifact: { state: 'yes' },
};
const readme = 'before\n<!-- make interop: begin -->\nold\n<!-- make interop: end -->\nafter\n';

test('the table replaces what is between the markers, and nothing else', () => {
  const text = withTable(readme, markdown([row]));
  assert.match(text, /^before\n<!-- make interop: begin -->\n\| client \|/);
  assert.match(
    text,
    /\n\|---\|(---\|)+\n\| crane \| 0\.22\.1 \| yes \| yes \| – \| yes \| layouts \|\n<!-- make interop: end -->\nafter\n$/,
  );
  assert.equal(withTable(text, markdown([row])), text);
});

test('a README without markers is refused', () => {
  assert.throws(() => withTable('before\nafter\n', 'table'), /no lines/);
});

test('another version is no difference; another outcome, remark or client is one', () => {
  const told = (rows: readonly Row[]): string => withoutVersions(withTable(readme, markdown(rows)));
  assert.equal(told([{ ...row, version: '1.0' }]), told([row]));
  assert.notEqual(told([{ ...row, pull: { state: 'failed', message: '' } }]), told([row]));
  assert.notEqual(told([{ ...row, push: { state: 'cannot' } }]), told([row]));
  assert.notEqual(told([{ ...row, remarks: 'archives' }]), told([row]));
  assert.notEqual(told([row, row]), told([row]));
});
