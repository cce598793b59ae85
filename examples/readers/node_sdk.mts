// A Lambda function for Node that calls an API with the access token of a token secret. It reads the token with the
// AWS SDK.
//
// Packages: none in Lambda, where the SDK is part of the runtime. Elsewhere, and to compile:
// `npm i @aws-sdk/client-secrets-manager @aws-sdk/client-lambda` and `npm i --save-dev typescript @types/node`.
//
// Runtime nodejs22.x or newer (on Node 20 the SDK prints a warning), handler `node_sdk.handler` once compiled (tsc),
// timeout 30 seconds or more. The role needs:
//
//     {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
//     {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}
//
// Environment variables:
//
//     SECRET_ID           name or ARN of the secret to read
//     API_URL             start of every URL of the API
//     REFRESHER_FUNCTION  optional: name or ARN of the refresher, which is asked for a new token after a 401.
//                         Only this needs the second statement
//     TOKEN_SECRET_ID     only if SECRET_ID is a published secret (`publishTo`): the token secret
//
// Events, and what the function returns:
//
//     {"paths": ["/v1/orders"]}                         GET of each path: the responses, as a list
//     {"path": "/v1/orders", "body": {"item": "book"}}  POST of the body: the response

import { setTimeout as sleep } from 'node:timers/promises';
import { InvokeCommand, LambdaClient, TooManyRequestsException } from '@aws-sdk/client-lambda';
import { GetSecretValueCommand, SecretsManagerClient } from '@aws-sdk/client-secrets-manager';

function setting(name: string, meaning: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; ${meaning}`);
  return value;
}

const SECRET_ID = setting('SECRET_ID', 'set it to the name or ARN of the secret to read, such as myapp/prod/upwork');
const API_URL = setting('API_URL', 'set it to the start of every URL of the API, such as https://api.example.com');
const { REFRESHER_FUNCTION } = process.env;
const TOKEN_SECRET_ID = process.env.TOKEN_SECRET_ID || SECRET_ID;

const MARGIN_MS = 60_000; // how long before the token expires the secret is read again
const PAUSE_MS = 5_000; // the least time between two such reads
const UNKNOWN_MS = 120_000; // how long a token is used if its expiry is unknown
const WAIT_MS = 15_000; // how long to wait for the new token after a request for a refresh
const ASK_MS = 600_000; // the least time between two requests for a refresh: each refresh adds versions to the secret

// Other programs' names for the expiry of the token, and for when it was issued. Those in snake_case are read too.
const EXPIRIES = ['expiry', 'expiryDate', 'expiryTime', 'expiresOn', 'accessExpiry', 'accessTokenExpiresAt',
  'tokenExpiry', 'tokenExpiryDate', 'tokenExpiresAt', 'expirationTimeMilliseconds'];
const STARTS = ['created', 'createdAt', 'IssuedUtc', 'auth_time'];
const FIRST_TIME_MS = 1_325_376_000_000; // `expires` is a time from here on (the year 2012), and a lifetime below

// Short timeouts: a failing store must not use up the invocation while the cached token is still valid.
const within = (requestTimeout: number) => ({ connectionTimeout: 2_000, requestTimeout, throwOnRequestTimeout: true });
const secretsManager = new SecretsManagerClient({ maxAttempts: 2, requestHandler: within(3_000) });
const lambda = new LambdaClient({ maxAttempts: 1, requestHandler: within(60_000) });

interface Token {
  text: string;
  versionId: string;
  expiresAtMs: number;
  readAgainAtMs: number;
}

let cached: Token | undefined;
let askedAtMs = -Infinity;

type Members = Record<string, any>;

/** Adds a name in camelCase to each member in snake_case: `accessToken` to `access_token`. */
function inCamelCase(members: Members): Members {
  const camelCase = (name: string) => name.replace(/_([a-z])/g, (_, letter) => letter.toUpperCase());
  return { ...Object.fromEntries(Object.keys(members).map((name) => [camelCase(name), members[name]])), ...members };
}

function hasRefreshToken(value: any): boolean {
  return [value?.refreshToken, value?.refresh_token].some((token) => typeof token === 'string' && token !== '');
}

/** Returns the object with the tokens, with names in camelCase: the secret, or if it has no refresh token, its only
 *  member that is an object with one. What `memberNames` names is moved there. */
export function tokensIn(secret: Members): Members {
  const names = secret.memberNames || secret.member_names || {};
  const named: Members = {};
  for (const [name, pointer] of Object.entries<string>(typeof names === 'string' ? JSON.parse(names) : names)) {
    const path = pointer.split('/').slice(1).map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
    const last = path.pop() ?? '';
    const place = path.reduce((members, part) => members[part] ?? {}, secret);
    // Moved, because it could be taken for something else under its old name.
    named[name] = place[last];
    delete place[last];
  }
  const ours = ['tokenResponse', 'token_response', 'memberNames', 'member_names'];
  const inner = Object.keys(secret).filter((name) => !ours.includes(name) && hasRefreshToken(secret[name]));
  const isInside = inner.length === 1 && !hasRefreshToken({ ...secret, ...named });
  const tokens = { ...inCamelCase(isInside ? secret[inner[0]!] : secret), ...inCamelCase(named) };
  // google-auth calls the access token `token`. Without a refresh token beside it, a `token` may mean anything.
  if (!('accessToken' in tokens) && hasRefreshToken(tokens) && typeof tokens.token === 'string') {
    tokens.accessToken = tokens.token;
  }
  return tokens;
}

/** Accepts milliseconds or seconds, as a number or a string of digits, and RFC 3339. Without a zone it is UTC. Anything
 *  else is NaN. */
export function millisecondsSinceEpoch(point: unknown): number {
  if (typeof point === 'number' || (typeof point === 'string' && /^\d+$/.test(point))) {
    const number = Number(point);
    return number < 1e11 ? number * 1000 : number;
  }
  const form = /^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d(?:\.\d+)?)(Z|[+-]\d\d:\d\d)?$/;
  const [, date, clock, zone = 'Z'] = form.exec(String(point).toUpperCase()) ?? [];
  return date ? Date.parse(`${date}T${clock}${zone}`) : NaN;
}

/** Returns when the access token expires, in milliseconds since the epoch, or NaN if the secret does not say it. */
export function expiryOf(tokens: Members): number {
  const times = (...names: string[]) => names.map((name) => millisecondsSinceEpoch(tokens[name]))
    .filter((time) => !Number.isNaN(time)); // a value that is not a time has another meaning
  if (tokens.expiresAt) {
    const [expiresAt] = times('expiresAt');
    if (expiresAt !== undefined) return expiresAt;
    throw new Error(`the expiry of the token in ${SECRET_ID} is not a point in time`);
  }
  const ends = [...times(...EXPIRIES), ...times('expires').filter((time) => time >= FIRST_TIME_MS)];
  const [start = NaN] = times(...STARTS);
  const [lifetime = NaN] = times('expiresIn', 'expires').filter((time) => time < FIRST_TIME_MS);
  return ends.length > 0 ? Math.min(...ends) : start + lifetime;
}

async function read(): Promise<Token> {
  const command = new GetSecretValueCommand({ SecretId: SECRET_ID, VersionStage: 'AWSCURRENT' });
  const response = await secretsManager.send(command);
  const tokens = tokensIn(JSON.parse(response.SecretString ?? '{}'));
  const text = tokens.accessToken;
  if (!text) throw new Error(`${SECRET_ID} holds no access token; the refresher writes one when it runs, see its log`);
  const expiry = expiryOf(tokens);
  const expiresAtMs = Number.isNaN(expiry) ? Date.now() + UNKNOWN_MS : expiry;
  const readAgainAtMs = Math.max(expiresAtMs - MARGIN_MS, Date.now() + PAUSE_MS);
  return { text, versionId: response.VersionId ?? '', expiresAtMs, readAgainAtMs };
}

function isTransient(error: any): boolean {
  if (!error.$metadata) return false; // not an error of the SDK
  const status = error.$metadata.httpStatusCode;
  return status === undefined || status >= 500 || status === 429 || error.name === 'ThrottlingException';
}

/** Runs the work once at a time: a call while it runs gets the same promise. */
function shared<T>(work: (argument: Token | undefined) => Promise<T>) {
  let running: Promise<T> | undefined;
  return (argument?: Token) => (running ??= work(argument).finally(() => (running = undefined)));
}

/** Reads the secret. If the store fails, the cached token is used until it expires. */
const load = shared(async () => {
  try {
    cached = await read();
  } catch (error) {
    if (!cached || Date.now() >= cached.expiresAtMs || !isTransient(error)) throw error;
    console.log(`${SECRET_ID} could not be read, version ${cached.versionId} is used: ${error}`);
    cached.readAgainAtMs = Date.now() + PAUSE_MS;
  }
  return cached;
});

async function accessToken(): Promise<Token> {
  const token = cached && Date.now() < cached.readAgainAtMs ? cached : await load();
  if (Date.now() < token.expiresAtMs) return token;
  throw new Error(`version ${token.versionId} of ${SECRET_ID} has expired; see the refresher's log`);
}

/** Whether the last request is long ago. A clock that was set back does not prolong that time. */
function mayAsk(): boolean {
  const ago = Date.now() - askedAtMs;
  return ago < 0 || ago >= ASK_MS;
}

/** Invokes the refresher once, and returns whether it has taken the request. However many readers ask for the same
 *  version, there is one exchange. */
async function askForRefresh(versionId: string): Promise<boolean> {
  const Payload = JSON.stringify({ secretId: TOKEN_SECRET_ID, force: true, ifVersionId: versionId });
  try {
    const response = await lambda.send(new InvokeCommand({ FunctionName: REFRESHER_FUNCTION, Payload }));
    const report = JSON.parse(response.Payload?.transformToString() || '{}') ?? {};
    if (report.outcome !== 'in_progress') askedAtMs = Date.now();
    const what = `${report.errorType}: ${report.errorMessage}`;
    if (response.FunctionError) throw new Error(`${TOKEN_SECRET_ID} was not refreshed: ${what}`);
    if (!report.outcome) {
      throw new Error(`the response of ${REFRESHER_FUNCTION} is not a refresher report; check the function's name`);
    }
    console.log(`asked for a refresh of ${SECRET_ID}, version ${versionId}: ${report.outcome}`);
    return true;
  } catch (error) {
    if (!(error instanceof TooManyRequestsException)) throw error;
    console.log(`${REFRESHER_FUNCTION} is busy: another request is under way, perhaps for another secret`);
    return false;
  }
}

/** Returns another token than the one that the API rejected. */
const tokenAfter = shared(async (rejected) => {
  cached = await read();
  if (cached.text === rejected?.text && REFRESHER_FUNCTION && mayAsk()) {
    const giveUpAt = performance.now() + WAIT_MS;
    let isTaken = false;
    while (performance.now() < giveUpAt) {
      isTaken ||= await askForRefresh(cached.versionId);
      cached = await read();
      if (cached.text !== rejected.text) break;
      await sleep(500);
    }
  }
  if (cached.text !== rejected?.text) return cached;
  throw new Error(`the API rejects version ${cached.versionId} of ${SECRET_ID}, and there is no newer one`);
});

/** Sends a request with the token, and after a 401 once more with another token. Returns the JSON response. */
async function call(method: 'GET' | 'POST', path: string, body?: unknown): Promise<unknown> {
  const headers = { Accept: 'application/json', ...(body !== undefined && { 'Content-Type': 'application/json' }) };
  const send = (token: Token) => fetch(API_URL + path, {
    method, headers: { ...headers, Authorization: `Bearer ${token.text}` },
    body: body === undefined ? null : JSON.stringify(body),
    redirect: 'manual', signal: AbortSignal.timeout(10_000),
  });
  let token = await accessToken();
  let response = await send(token);
  if (response.status === 401) {
    // Another call may have replaced the same token meanwhile.
    token = cached && cached.text !== token.text ? cached : await tokenAfter(token);
    response = await send(token);
  }
  if (!response.ok) {
    throw new Error(`${API_URL}${path} answered ${response.status} to version ${token.versionId} of ${SECRET_ID}`);
  }
  const text = await response.text();
  return text ? JSON.parse(text) : null;
}

export async function handler(event: { paths?: string[]; path?: string; body?: unknown }): Promise<unknown> {
  if (event.paths) return Promise.all(event.paths.map((path) => call('GET', path)));
  if (event.path && event.body !== undefined) return call('POST', event.path, event.body);
  throw new Error('the event has neither "paths" (for GET) nor "path" and "body" (for POST)');
}
