// A Lambda function for Node that calls an API with the token kept by token-refresher, read with the AWS SDK.
//
// Runtime nodejs20.x or newer, handler `node_sdk.handler` once compiled (tsc), timeout 30 seconds or more; the SDK is
// in the runtime. Its role needs:
//
//     {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
//     {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}
//
// Settings: SECRET_ID, API_URL, and, with the second statement, REFRESHER_FUNCTION (name or ARN), which is asked for a
// new token when the API refuses the current one; where SECRET_ID is a secret that tokens are published to
// (`publishTo`), TOKEN_SECRET_ID names the token secret. `{"paths": ["/v1/orders"]}` is answered with what the API said
// to each.

import { setTimeout as sleep } from 'node:timers/promises';
import { InvokeCommand, LambdaClient, TooManyRequestsException } from '@aws-sdk/client-lambda';
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';

const { SECRET_ID = '', API_URL = '', REFRESHER_FUNCTION, TOKEN_SECRET_ID = SECRET_ID } = process.env;

const MARGIN_MS = 60_000; // this long before its expiry a token is looked for anew,
const PAUSE_MS = 5_000; // and again this often, until the new one is there
const UNKNOWN_MS = 120_000; // how long a token is used that does not say when it expires
const WAIT_MS = 15_000; // for a refresh that was asked for
const ASK_MS = 600_000; // at most one request in this time: an API that refuses all would use up the secret's versions

// Short: a failing store must not use up the invocation while the token at hand is still good.
const within = (requestTimeout: number) => ({ connectionTimeout: 2_000, requestTimeout, throwOnRequestTimeout: true });
const secretsManager = new SecretsManagerClient({ maxAttempts: 2, requestHandler: within(3_000) });
const lambda = new LambdaClient({ maxAttempts: 1, requestHandler: within(60_000) });

interface Token {
  text: string;
  versionId: string;
  expiresAtMs: number;
  lookAgainAtMs: number;
}

let cached: Token | undefined;
let askedAtMs = -Infinity;

/** Milliseconds or seconds, as a number or a string of digits, or RFC 3339. */
export function millisecondsSinceEpoch(moment: number | string): number {
  const number = Number(moment);
  const milliseconds = Number.isNaN(number) ? Date.parse(String(moment)) : number < 1e11 ? number * 1000 : number;
  if (Number.isNaN(milliseconds)) throw new Error(`the expiry of the token in ${SECRET_ID} is no point in time`);
  return milliseconds;
}

async function read(): Promise<Token> {
  const command = new GetSecretValueCommand({ SecretId: SECRET_ID, VersionStage: 'AWSCURRENT' });
  const answer = await secretsManager.send(command);
  const secret = JSON.parse(answer.SecretString ?? '{}');
  const text = secret.accessToken ?? secret.access_token;
  if (!text) throw new Error(`${SECRET_ID} holds no access token; has the refresher run?`);
  const moment = secret.expiresAt || secret.expires_at;
  const expiresAtMs = moment ? millisecondsSinceEpoch(moment) : Date.now() + UNKNOWN_MS;
  const lookAgainAtMs = Math.max(expiresAtMs - MARGIN_MS, Date.now() + PAUSE_MS);
  return { text, versionId: answer.VersionId ?? '', expiresAtMs, lookAgainAtMs };
}

function isTransient(error: any): boolean {
  if (!error.$metadata) return false; // not the SDK's
  const status = error.$metadata.httpStatusCode;
  return status === undefined || status >= 500 || status === 429 || error.name === 'ThrottlingException';
}

/** One at a time: whoever calls while the work is under way gets the same promise. */
function shared<T>(work: (argument: Token | undefined) => Promise<T>) {
  let underWay: Promise<T> | undefined;
  return (argument?: Token) => (underWay ??= work(argument).finally(() => (underWay = undefined)));
}

/** What the store has; a store that fails is bridged for as long as the cached token is valid. */
const load = shared(async () => {
  try {
    cached = await read();
  } catch (error) {
    if (!cached || Date.now() >= cached.expiresAtMs || !isTransient(error)) throw error;
    console.log(`${SECRET_ID} could not be read, version ${cached.versionId} goes on: ${error}`);
    cached.lookAgainAtMs = Date.now() + PAUSE_MS;
  }
  return cached;
});

async function accessToken(): Promise<Token> {
  const token = cached && Date.now() < cached.lookAgainAtMs ? cached : await load();
  if (Date.now() < token.expiresAtMs) return token;
  throw new Error(`version ${token.versionId} of ${SECRET_ID} has expired; see the refresher's log`);
}

/** Asks once. However many readers ask for the same version, one exchange is made. */
async function askForRefresh(versionId: string): Promise<void> {
  askedAtMs = Date.now();
  const Payload = JSON.stringify({ secretId: TOKEN_SECRET_ID, force: true, ifVersionId: versionId });
  try {
    const answer = await lambda.send(new InvokeCommand({ FunctionName: REFRESHER_FUNCTION, Payload }));
    const report = JSON.parse(answer.Payload?.transformToString() ?? '{}');
    const what = `${report.errorType}: ${report.errorMessage}`;
    if (answer.FunctionError) throw new Error(`${TOKEN_SECRET_ID} was not refreshed: ${what}`);
    console.log(`asked for a refresh of ${SECRET_ID}, version ${versionId}: ${report.outcome}`);
  } catch (error) {
    if (!(error instanceof TooManyRequestsException)) throw error;
    console.log(`another's request to refresh ${SECRET_ID} is under way`);
  }
}

/** What takes the place of a token that the API refused before its time. */
const renew = shared(async (refused) => {
  cached = await read();
  if (cached.text === refused?.text && REFRESHER_FUNCTION && Date.now() >= askedAtMs + ASK_MS) {
    await askForRefresh(cached.versionId);
    const giveUpAt = performance.now() + WAIT_MS;
    while ((cached = await read()).text === refused.text && performance.now() < giveUpAt) await sleep(500);
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
