// Beside pusher-js, step for step: the scripts of scripts/, on all four kinds of server.
import fs from 'node:fs';
import { compare, scripts } from '../differential.mjs';
import { test } from '../harness.mjs';

const directory = new URL('../scripts/', import.meta.url);
for (const file of fs.readdirSync(directory).filter(name => name.endsWith('.mjs')).sort())
  await import(new URL(file, directory));

for (const one of scripts)
  test(`beside pusher-js: ${one.name} (${one.dialect})`, {}, () => compare(one));
