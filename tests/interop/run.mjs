// Runs every file of cases/. A case file calls test(name, options, body); see harness.mjs.
//     node tests/interop/run.mjs [--client PROGRAM] [--modules DIRECTORY] [WORD...]
import fs from 'node:fs';
import { run } from './harness.mjs';

const cases = new URL('./cases/', import.meta.url);
for (const file of fs.readdirSync(cases).filter(name => name.endsWith('.mjs')).sort())
  await import(new URL(file, cases));
await run();
