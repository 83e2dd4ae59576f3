// Reads an AsyncAPI document with AsyncAPI's own parser, offline, and fails on any error or warning.
//
//     npm install --no-save --no-package-lock --prefix build/npm @asyncapi/parser@3.6.3
//     NODE_PATH=build/npm/node_modules node deploy/checks/asyncapi.mjs docs/contract/asyncapi.json
//
// Exit 0: valid; 1: not, each fault on a line; 2: wrong usage, or the parser is not there.
//
// The parser does not look into schemas of dialect 2020-12, nor does it hold examples against schemas or ask for the parameters of an
// address: `check-jsonschema --check-metaschema docs/contract/schemas/*.json` and tests/unit/consumers/test_contract.py do.

import { createRequire } from 'node:module';

// Faults of severity 0 and 1; 2 and 3 are hints of style.
const WARNING = 1;

const [file] = process.argv.slice(2);
if (file === undefined) {
  console.error('usage: node deploy/checks/asyncapi.mjs FILE');
  process.exit(2);
}

let Parser;
let fromFile;
try {
  // require, since NODE_PATH does not count for import
  ({ Parser, fromFile } = createRequire(import.meta.url)('@asyncapi/parser'));
} catch (fault) {
  console.error(`@asyncapi/parser is not there (see the first lines of this script): ${fault.code}`);
  process.exit(2);
}

const { document, diagnostics } = await fromFile(new Parser(), file).parse();
const faults = diagnostics.filter((each) => each.severity <= WARNING);
for (const each of faults) {
  const line = each.range === undefined ? '' : `:${each.range.start.line + 1}`;
  console.error(`${file}${line} ${each.path.join('.')}: ${each.message} (${each.code})`);
}
if (document === undefined || faults.length > 0) {
  process.exit(1);
}
const channels = document.channels().all();
const messages = document.messages().all();
console.log(`${file}: AsyncAPI ${document.version()}, ${channels.length} channels, ${messages.length} messages`);
