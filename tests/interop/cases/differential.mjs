// Beside pusher-js, step for step: the scripts of scripts/, on all four kinds of server.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { compare, needed, scripts } from '../differential.mjs';
import { differences } from '../differences.mjs';
import { test } from '../harness.mjs';

const directory = new URL('../scripts/', import.meta.url);
for (const file of fs.readdirSync(directory).filter(name => name.endsWith('.mjs')).sort())
  await import(new URL(file, directory));

const running = [];
for (const one of scripts)
  test(`beside pusher-js: ${one.name} (${one.dialect})`, {}, () => {
    running.push(compare(one));
    return running.at(-1);
  });

// The harness starts what may take longest first, and so this one last.
test('beside pusher-js: every difference in the table is one', { seconds: 29 }, async () => {
  await Promise.allSettled(running);
  if (running.length === scripts.length && !process.env.SELF)
    assert.deepEqual(differences.filter(rule => !rule.sometimes && !needed.has(rule.id)).map(rule => rule.id), []);
});
