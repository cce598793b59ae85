// A Lambda function for Node that calls an API with the token kept by token-refresher, read through the AWS
// Parameters and Secrets Lambda Extension; fetch and node:crypto are all it uses.
//
// Runtime nodejs20.x or newer, handler `node_extension.handler` once compiled (tsc), timeout 30 seconds or more, and
// the layer AWS-Parameters-and-Secrets-Lambda-Extension of your Region. Its role needs:
//
//     {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
//     {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}
//
// Settings: SECRET_ID, API_URL, and, with the second statement, REFRESHER_FUNCTION (name or ARN), which is asked for
// a new token when the API refuses the current one. `{"paths": ["/v1/orders"]}` is answered with what the API said to
// each.
//
// The extension answers from a cache of its own for SECRETS_MANAGER_TTL seconds (300, the most it can be) and cannot
// be told to read past it; for tokens that live for less than 20 minutes set a quarter of their lifetime. A version
// that is asked for by its id is always right, since a version never changes: after a refusal the refresher tells the
// id of the current one. Where SECRET_ID is a secret that tokens are published to (`publishTo`), TOKEN_SECRET_ID
// names the token secret.

import { createHash, createHmac } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

const { SECRET_ID = '', API_URL = '', REFRESHER_FUNCTION, TOKEN_SECRET_ID = SECRET_ID } = process.env;
// Where the refresher's report has the id of the version that is current in the secret read here.
const CURRENT = TOKEN_SECRET_ID === SECRET_ID ? 'versionId' : 'publishedVersionId';
const { PARAMETERS_SECRETS_EXTENSION_HTTP_PORT = '2773' } = process.env;
const { AWS_REGION = '', AWS_ACCESS_KEY_ID = '', AWS_SECRET_ACCESS_KEY = '', AWS_SESSION_TOKEN = '' } = process.env;

const MARGIN_MS = 60_000; // this long before its expiry a token is looked for anew,
const PAUSE_MS = 5_000; // and again this often, until the new one is there
const UNKNOWN_MS = 120_000; // how long a token is used that does not say when it expires
const WAIT_MS = 15_000; // for a refresh that was asked for
const ASK_MS = 600_000; // at most one request in this time: an API that refuses all would use up the secret's versions

interface Token {
  text: string;
  versionId: string;
  expiresAtMs: number;
  lookAgainAtMs: number;
}

/** For now, as it seems. */
class StoreFailed extends Error {}

let cached: Token | undefined;
let refusedText: string | undefined;
let askedAtMs = -Infinity;

/** Milliseconds or seconds, as a number or a string of digits, or RFC 3339. */
export function millisecondsSinceEpoch(moment: number | string): number {
  const number = Number(moment);
  const milliseconds = Number.isNaN(number) ? Date.parse(String(moment)) : number < 1e11 ? number * 1000 : number;
  if (Number.isNaN(milliseconds)) throw new Error(`the expiry of the token in ${SECRET_ID} is no point in time`);
  return milliseconds;
}

async function read(version: Record<string, string> = { versionStage: 'AWSCURRENT' }): Promise<Token> {
  const query = new URLSearchParams({ secretId: SECRET_ID, ...version });
  const url = `http://localhost:${PARAMETERS_SECRETS_EXTENSION_HTTP_PORT}/secretsmanager/get?${query}`;
  // Only in an invocation: before the first one the extension is not ready.
  const headers = { 'X-Aws-Parameters-Secrets-Token': AWS_SESSION_TOKEN };
  const answered = fetch(url, { headers, signal: AbortSignal.timeout(5_000) });
  const [status, body] = await answered.then(async (response) => [response.status, await response.text()] as const)
    .catch((error) => { throw new StoreFailed(`the extension did not answer: ${error}`); });
  if (status >= 500 || status === 429) throw new StoreFailed(`the extension answered ${status}`);
  if (status !== 200) {
    throw new Error(`the extension answered ${status} for ${SECRET_ID}; is it there, may the role read it?`);
  }
  const answer = JSON.parse(body);
  const secret = JSON.parse(answer.SecretString);
  const text = secret.accessToken ?? secret.access_token;
  if (!text) throw new Error(`${SECRET_ID} holds no access token; has the refresher run?`);
  const moment = secret.expiresAt || secret.expires_at;
  const expiresAtMs = moment ? millisecondsSinceEpoch(moment) : Date.now() + UNKNOWN_MS;
  const lookAgainAtMs = Math.max(expiresAtMs - MARGIN_MS, Date.now() + PAUSE_MS);
  return { text, versionId: answer.VersionId, expiresAtMs, lookAgainAtMs };
}

/** One at a time: whoever calls while the work is under way gets the same promise. */
function shared<T>(work: (argument: Token | undefined) => Promise<T>) {
  let underWay: Promise<T> | undefined;
  return (argument?: Token) => (underWay ??= work(argument).finally(() => (underWay = undefined)));
}

/** What the store has; a store that fails is bridged for as long as the cached token is valid. */
const load = shared(async () => {
  try {
    const token = await read();
    // The extension's cache may still hold the version that was refused.
    if (!cached || token.text !== refusedText) cached = token;
  } catch (error) {
    if (!cached || Date.now() >= cached.expiresAtMs || !(error instanceof StoreFailed)) throw error;
    console.log(`${SECRET_ID} could not be read, version ${cached.versionId} goes on: ${error.message}`);
  }
  cached.lookAgainAtMs = Math.max(cached.lookAgainAtMs, Date.now() + PAUSE_MS);
  return cached;
});

async function accessToken(): Promise<Token> {
  const token = cached && Date.now() < cached.lookAgainAtMs ? cached : await load();
  if (Date.now() < token.expiresAtMs) return token;
  throw new Error(`version ${token.versionId} of ${SECRET_ID} has expired; see the refresher's log`);
}

/** Lambda's Invoke, signed with Signature Version 4: the status and the report, or the error. */
async function invokeRefresher(name: string, event: object): Promise<{ status: number; report: any }> {
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const endpoint = process.env.AWS_ENDPOINT_URL_LAMBDA ?? `https://lambda.${AWS_REGION}.amazonaws.com`;
  const path = `/2015-03-31/functions/${encodeURIComponent(name)}/invocations`;
  const body = JSON.stringify(event);
  const now = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = [now.slice(0, 8), AWS_REGION, 'lambda', 'aws4_request'];
  const headers = { host: new URL(endpoint).host, 'x-amz-date': now, 'x-amz-security-token': AWS_SESSION_TOKEN };
  const signed = Object.keys(headers).join(';');
  const lines = Object.entries(headers).map(([header, value]) => `${header}:${value}`);
  const canonical = ['POST', path.replaceAll('%', '%25'), '', ...lines, '', signed, sha256(body)].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', now, scope.join('/'), sha256(canonical)].join('\n');
  const hmac = (key: string | Buffer, part: string) => createHmac('sha256', key).update(part).digest();
  const signature = [...scope, toSign].reduce<string | Buffer>(hmac, `AWS4${AWS_SECRET_ACCESS_KEY}`).toString('hex');
  const credential = `${AWS_ACCESS_KEY_ID}/${scope.join('/')}`;
  const authorization = `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${signed}, Signature=${signature}`;
  const response = await fetch(endpoint + path, {
    method: 'POST', body, headers: { ...headers, authorization, 'content-type': 'application/json' },
    signal: AbortSignal.timeout(60_000),
  });
  return { status: response.status, report: await response.json() };
}

/** Asks until no refresh is under way, and tells the version that is current then. However many readers ask for the
 *  same version, one exchange is made. */
async function askForRefresh(name: string, versionId: string): Promise<string> {
  askedAtMs = Date.now();
  const giveUpAt = performance.now() + WAIT_MS;
  while (true) {
    const event = { secretId: TOKEN_SECRET_ID, force: true, ifVersionId: versionId };
    const { status, report } = await invokeRefresher(name, event);
    if (status !== 429 && !report.outcome) {
      const what = report.errorType ?? report.Message ?? status;
      throw new Error(`${TOKEN_SECRET_ID} was not refreshed: ${what}: ${report.errorMessage}`);
    }
    const outcome = status === 429 ? "another's request is under way" : report.outcome;
    console.log(`asked for a refresh of ${SECRET_ID}, version ${versionId}: ${outcome}`);
    const isUnderWay = status === 429 || outcome === 'in_progress';
    if (!isUnderWay || performance.now() >= giveUpAt) return report[CURRENT] ?? versionId;
    await sleep(500);
  }
}

/** What takes the place of a token that the API refused before its time. */
const renew = shared(async (refused) => {
  refusedText = refused?.text;
  cached = await read();
  if (cached.text === refused?.text && REFRESHER_FUNCTION && Date.now() >= askedAtMs + ASK_MS) {
    const versionId = await askForRefresh(REFRESHER_FUNCTION, cached.versionId);
    cached = await read({ versionId });
  }
  if (cached.text !== refused?.text) return cached;
  throw new Error(`the API refuses version ${cached.versionId} of ${SECRET_ID}, and there is no newer one`);
});

/** Asks the API, and once more with another token where it refuses the first one. */
async function get(path: string): Promise<unknown> {
  const ask = (token: Token) => fetch(API_URL + path, {
    headers: { Authorization: `Bearer ${token.text}` }, redirect: 'manual', signal: AbortSignal.timeout(10_000),
  });
  let token = await accessToken();
  let answer = await ask(token);
  if (answer.status === 401) {
    // Another call may have met the same refusal before.
    token = cached && cached.text !== token.text ? cached : await renew(token);
    answer = await ask(token);
  }
  if (answer.ok) return answer.json();
  throw new Error(`${API_URL}${path} answered ${answer.status} to version ${token.versionId} of ${SECRET_ID}`);
}

export const handler = ({ paths }: { paths: string[] }): Promise<unknown[]> => Promise.all(paths.map(get));
