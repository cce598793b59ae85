// Runs a Node handler like Lambda, with a clock that the test sets.
//
//   node runtime.mjs <file with a handler>
//
// The time is in the file CLOCK_FILE, in milliseconds since the epoch.

import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';

const api = `http://${process.env.AWS_LAMBDA_RUNTIME_API}/2018-06-01/runtime/invocation`;
const post = (path, body) => fetch(`${api}/${path}`, { method: 'POST', body: JSON.stringify(body) });

Date.now = () => Number(readFileSync(process.env.CLOCK_FILE, 'utf8'));
const { handler } = await import(pathToFileURL(process.argv[2]));
while (true) {
  const next = await fetch(`${api}/next`);
  const requestId = next.headers.get('lambda-runtime-aws-request-id');
  try {
    await post(`${requestId}/response`, await handler(await next.json()));
  } catch (error) {
    console.error(error);
    await post(`${requestId}/error`, { errorType: error.name, errorMessage: error.message });
  }
}
