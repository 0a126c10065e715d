// Writes package-lock.json anew. Needed only when package.json changes:
//     node tests/interop/relock.mjs
//
// Why not plain `npm install`: soketi asks for uWebSockets.js by Git address, which needs git and
// reaches outside the registry. npm's answer to that is "overrides", but npm 9.2 (Debian 12) cannot
// read an override whose value is an alias ("Invalid comparator"), while npm 11 can. So the overrides
// stay in here. This script lets a recent npm resolve the tree with them, then writes the result
// down in a form that needs none: in the lock file every package that asked for a replaced one asks
// for "*". `npm ci` of every npm from 9 on installs exactly that tree.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const here = path.dirname(fileURLToPath(import.meta.url));
const empty = 'npm:empty-npm-package@1.0.0';
const overrides = {
  'uWebSockets.js': '$uWebSockets.js',  // the republished build named in package.json
  'msgpackr-extract': empty,            // native, optional; its lock entry trips npm 11's own `npm ci`
  'aws-sdk': empty,                     // the rest is large, and soketi loads it for features not used here
  'sqs-consumer': empty,
  'pm2': empty,
};

const work = fs.mkdtempSync(path.join(os.tmpdir(), 'relock-'));
try {
  const manifest = JSON.parse(fs.readFileSync(path.join(here, 'package.json')));
  fs.writeFileSync(path.join(work, 'package.json'), JSON.stringify({ ...manifest, overrides }, null, 2));
  fs.copyFileSync(path.join(here, '.npmrc'), path.join(work, '.npmrc'));
  execFileSync('npm', ['install', '--package-lock-only', '--ignore-scripts'], { cwd: work, stdio: 'inherit' });

  const lock = JSON.parse(fs.readFileSync(path.join(work, 'package-lock.json')));
  for (const [where, entry] of Object.entries(lock.packages)) {
    delete entry.funding;
    if (!where) continue;
    for (const kind of ['dependencies', 'optionalDependencies', 'peerDependencies'])
      for (const name of Object.keys(entry[kind] ?? {}))
        if (name in overrides) entry[kind][name] = '*';
  }
  const text = JSON.stringify(lock, null, 2) + '\n';
  if (/https?:\/\/|"resolved"|git\+/.test(text)) throw new Error('the lock file still holds an address');
  fs.writeFileSync(path.join(here, 'package-lock.json'), text);
  console.log(`package-lock.json: ${Object.keys(lock.packages).length - 1} packages`);
} finally {
  fs.rmSync(work, { recursive: true, force: true });
}
