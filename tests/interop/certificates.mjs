// Certificates for one run, made by the openssl command: an authority, servers that it vouches for,
// and another authority.
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

class Certificates {
  constructor() {
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'interop-'));
    process.on('exit', () => fs.rmSync(this.directory, { recursive: true, force: true }));
    for (const name of ['ca', 'other-ca'])
      this.#openssl('req', '-x509', ...curve, '-days', '30', '-subj', `/CN=${name} of a test`, '-addext', 'basicConstraints=critical,CA:TRUE',
        '-addext', 'keyUsage=critical,keyCertSign', '-keyout', this.file(`${name}.key`), '-out', this.file(`${name}.pem`));
    this.#issue('here', 'IP:127.0.0.1,DNS:localhost');
    this.#issue('localhost', 'DNS:localhost');       // and not its address
  }

  file(name) { return path.join(this.directory, name); }
  get ca() { return this.file('ca.pem'); }
  get otherCa() { return this.file('other-ca.pem'); }
  certificate(name) { return this.file(`${name}.pem`); }
  key(name) { return this.file(`${name}.key`); }

  #openssl(...args) { execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] }); }

  #issue(name, names) {
    fs.writeFileSync(this.file('extensions'), `subjectAltName=${names}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n`);
    this.#openssl('req', '-new', ...curve, '-subj', '/CN=a server of a test', '-keyout', this.key(name), '-out', this.file('request'));
    this.#openssl('x509', '-req', '-in', this.file('request'), '-days', '30', '-CA', this.ca, '-CAkey', this.file('ca.key'),
      '-CAcreateserial', '-extfile', this.file('extensions'), '-out', this.certificate(name));
  }
}

let made;
export const certificates = () => made ??= new Certificates();
