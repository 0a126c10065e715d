// What npm installed lies in build/interop, not beside these files: need('ws') looks there.
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const given = process.argv.indexOf('--modules');
const place = process.env.INTEROP_MODULES ??
  (given > 0 ? process.argv[given + 1] : fileURLToPath(new URL('../../build/interop', import.meta.url)));
process.env.INTEROP_MODULES = path.resolve(place);      // for child processes
export const need = createRequire(path.join(path.resolve(place), 'package.json'));
