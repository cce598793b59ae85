// A Lambda function for Node that calls an API with the access token of a token secret. It reads the token through the
// AWS Parameters and Secrets Lambda Extension.
//
// Packages: none at run time, it uses fetch and node:crypto. To compile: `npm i --save-dev typescript @types/node`.
//
// Runtime nodejs22.x or newer, handler `node_extension.handler` once compiled (tsc), timeout 30 seconds or more, and
// the layer AWS-Parameters-and-Secrets-Lambda-Extension of your Region. The role needs:
//
//     {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "<the secret's ARN>"}
//     {"Effect": "Allow", "Action": "lambda:InvokeFunction", "Resource": "<the refresher's ARN>"}
//
// Environment variables:
//
//     SECRET_ID            name or ARN of the secret to read
//     API_URL              start of every URL of the API
//     REFRESHER_FUNCTION   optional: name or ARN of the refresher, which is asked for a new token after a 401.
//                          Only this needs the second statement
//     TOKEN_SECRET_ID      only if SECRET_ID is a published secret (`publishTo`): the token secret
//     SECRETS_MANAGER_TTL  the extension's own: how many seconds it caches a secret (300, which is also the most). For
//                          tokens that live for less than 20 minutes, set a quarter of their lifetime
//
// Events, and what the function returns:
//
//     {"paths": ["/v1/orders"]}                         GET of each path: the responses, as a list
//     {"path": "/v1/orders", "body": {"item": "book"}}  POST of the body: the response
//
// No request can bypass the extension's cache, so after a 401 the extension may still return the rejected version. This
// function then asks the refresher, which reports the id of the current version, and reads that version by its id. A
// version never changes, so a cached version is never out of date.

import { createHash, createHmac } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';

function setting(name: string, meaning: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set; ${meaning}`);
  return value;
}

const SECRET_ID = setting('SECRET_ID', 'set it to the name or ARN of the secret to read, such as myapp/prod/upwork');
const API_URL = setting('API_URL', 'set it to the start of every URL of the API, such as https://api.example.com');
const { REFRESHER_FUNCTION } = process.env;
const TOKEN_SECRET_ID = process.env.TOKEN_SECRET_ID || SECRET_ID;
// The member of the refresher's report that holds the current version of SECRET_ID.
const CURRENT = TOKEN_SECRET_ID === SECRET_ID ? 'versionId' : 'publishedVersionId';
const EXTENSION_PORT = process.env.PARAMETERS_SECRETS_EXTENSION_HTTP_PORT || '2773';

const MARGIN_MS = 60_000; // how long before the token expires the secret is read again
const PAUSE_MS = 5_000; // the least time between two such reads
const UNKNOWN_MS = 120_000; // how long a token is used if its expiry is unknown
const WAIT_MS = 15_000; // how long to wait while another request for a refresh is under way
const ASK_MS = 600_000; // the least time between two requests for a refresh: each refresh adds versions to the secret

// Other programs' names for the expiry of the token, and for when it was issued. Those in snake_case are read too.
const EXPIRIES = ['expiry', 'expiryDate', 'expiryTime', 'expiresOn', 'accessExpiry', 'accessTokenExpiresAt',
  'tokenExpiry', 'tokenExpiryDate', 'tokenExpiresAt', 'expirationTimeMilliseconds'];
const STARTS = ['created', 'createdAt', 'IssuedUtc', 'auth_time'];
const FIRST_TIME_MS = 1_325_376_000_000; // `expires` is a time from here on (the year 2012), and a lifetime below

interface Token {
  text: string;
  versionId: string;
  expiresAtMs: number;
  readAgainAtMs: number;
}

/** The secret cannot be read now; a later read may succeed. */
class StoreFailed extends Error {}

let cached: Token | undefined;
let rejectedTexts: string[] = []; // the last tokens that the API rejected
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

async function read(version: Record<string, string> = { versionStage: 'AWSCURRENT' }): Promise<Token> {
  const query = new URLSearchParams({ secretId: SECRET_ID, ...version });
  const url = `http://localhost:${EXTENSION_PORT}/secretsmanager/get?${query}`;
  // The extension is ready only during an invocation, so nothing is read when this file is loaded.
  const sessionToken = setting('AWS_SESSION_TOKEN', 'the extension requires it in every request, and Lambda sets it');
  const headers = { 'X-Aws-Parameters-Secrets-Token': sessionToken };
  const responded = fetch(url, { headers, signal: AbortSignal.timeout(5_000) });
  const [status, body] = await responded.then(async (response) => [response.status, await response.text()] as const)
    .catch((error) => { throw new StoreFailed(`the extension did not respond (is its layer attached?): ${error}`); });
  if (status >= 500 || status === 429) throw new StoreFailed(`the extension answered ${status}`);
  if (status !== 200) {
    throw new Error(`the extension answered ${status} for ${SECRET_ID}; check the name and the role's policy`);
  }
  const found = JSON.parse(body);
  const tokens = tokensIn(JSON.parse(found.SecretString || '{}'));
  const text = tokens.accessToken;
  if (!text) throw new Error(`${SECRET_ID} holds no access token; the refresher writes one when it runs, see its log`);
  const expiry = expiryOf(tokens);
  const expiresAtMs = Number.isNaN(expiry) ? Date.now() + UNKNOWN_MS : expiry;
  const readAgainAtMs = Math.max(expiresAtMs - MARGIN_MS, Date.now() + PAUSE_MS);
  return { text, versionId: found.VersionId, expiresAtMs, readAgainAtMs };
}

/** Runs the work once at a time: a call while it runs gets the same promise. */
function shared<T>(work: (argument: Token | undefined) => Promise<T>) {
  let running: Promise<T> | undefined;
  return (argument?: Token) => (running ??= work(argument).finally(() => (running = undefined)));
}

/** Reads the secret. If the store fails, the cached token is used until it expires. */
const load = shared(async () => {
  try {
    const token = await read();
    // The extension's cache may still hold a rejected version.
    if (!cached || !rejectedTexts.includes(token.text)) cached = token;
  } catch (error) {
    if (!cached || Date.now() >= cached.expiresAtMs || !(error instanceof StoreFailed)) throw error;
    console.log(`${SECRET_ID} could not be read, version ${cached.versionId} is used: ${error.message}`);
  }
  cached.readAgainAtMs = Math.max(cached.readAgainAtMs, Date.now() + PAUSE_MS);
  return cached;
});

async function accessToken(): Promise<Token> {
  const token = cached && Date.now() < cached.readAgainAtMs ? cached : await load();
  if (Date.now() < token.expiresAtMs) return token;
  throw new Error(`version ${token.versionId} of ${SECRET_ID} has expired; see the refresher's log`);
}

/** Calls Lambda's Invoke, signed with Signature Version 4. Returns the status and the report, or the error. */
async function invokeRefresher(name: string, event: object): Promise<{ status: number; report: any }> {
  const region = setting('AWS_REGION', "set it to the refresher's Region, such as eu-central-1 (Lambda sets it)");
  const forSignature = 'the request to the refresher is signed with it, and Lambda sets it';
  const accessKeyId = setting('AWS_ACCESS_KEY_ID', forSignature);
  const secretAccessKey = setting('AWS_SECRET_ACCESS_KEY', forSignature);
  const sessionToken = setting('AWS_SESSION_TOKEN', forSignature);
  const china = region.startsWith('cn-') ? '.cn' : '';
  const endpoint = process.env.AWS_ENDPOINT_URL_LAMBDA || `https://lambda.${region}.amazonaws.com${china}`;
  const path = `/2015-03-31/functions/${encodeURIComponent(name)}/invocations`;
  const body = JSON.stringify(event);
  const now = new Date().toISOString().replace(/[-:]|\.\d+/g, '');
  const scope = [now.slice(0, 8), region, 'lambda', 'aws4_request'];
  const headers = { host: new URL(endpoint).host, 'x-amz-date': now, 'x-amz-security-token': sessionToken };
  const signed = Object.keys(headers).join(';');
  const lines = Object.entries(headers).map(([header, value]) => `${header}:${value}`);
  const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
  const canonical = ['POST', path.replaceAll('%', '%25'), '', ...lines, '', signed, sha256(body)].join('\n');
  const toSign = ['AWS4-HMAC-SHA256', now, scope.join('/'), sha256(canonical)].join('\n');
  const hmac = (key: string | Buffer, part: string) => createHmac('sha256', key).update(part).digest();
  const signature = [...scope, toSign].reduce<string | Buffer>(hmac, `AWS4${secretAccessKey}`).toString('hex');
  const credential = `${accessKeyId}/${scope.join('/')}`;
  const authorization = `AWS4-HMAC-SHA256 Credential=${credential}, SignedHeaders=${signed}, Signature=${signature}`;
  const response = await fetch(endpoint + path, {
    method: 'POST', body, headers: { ...headers, authorization, 'content-type': 'application/json' },
    signal: AbortSignal.timeout(60_000),
  });
  return { status: response.status, report: await response.json() ?? {} };
}

/** Whether the last request is long ago. A clock that was set back does not prolong that time. */
function mayAsk(): boolean {
  const ago = Date.now() - askedAtMs;
  return ago < 0 || ago >= ASK_MS;
}

/** Invokes the refresher, again while another request is under way. Returns the id of the version that is current
 *  then. However many readers ask for the same version, there is one exchange. */
async function askForRefresh(name: string, versionId: string): Promise<string> {
  const giveUpAt = performance.now() + WAIT_MS;
  while (true) {
    const event = { secretId: TOKEN_SECRET_ID, force: true, ifVersionId: versionId };
    const { status, report } = await invokeRefresher(name, event);
    if (status === 200 && report.outcome !== 'in_progress') askedAtMs = Date.now();
    if (status !== 429 && !report.outcome) {
      const unknown = 'the response is not a refresher report; check REFRESHER_FUNCTION';
      const what = report.errorMessage ?? report.Message ?? unknown;
      throw new Error(`${TOKEN_SECRET_ID} was not refreshed: ${report.errorType ?? status}: ${what}`);
    }
    const outcome = status === 429 ? 'another request is under way' : report.outcome;
    console.log(`asked for a refresh of ${SECRET_ID}, version ${versionId}: ${outcome}`);
    const isUnderWay = status === 429 || outcome === 'in_progress';
    if (!isUnderWay || performance.now() >= giveUpAt) return report[CURRENT] ?? versionId;
    await sleep(500);
  }
}

/** Returns another token than the one that the API rejected. */
const tokenAfter = shared(async (rejected) => {
  if (!rejected) throw new Error('no token was rejected');
  rejectedTexts = [...rejectedTexts.slice(-7), rejected.text];
  let token = await read();
  if (rejectedTexts.includes(token.text) && REFRESHER_FUNCTION && mayAsk()) {
    token = await read({ versionId: await askForRefresh(REFRESHER_FUNCTION, rejected.versionId) });
  }
  if (!rejectedTexts.includes(token.text)) return (cached = token);
  throw new Error(`the API rejects version ${rejected.versionId} of ${SECRET_ID}, and there is no newer one`);
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
