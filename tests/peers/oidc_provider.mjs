// A certified OpenID provider (npm oidc-provider) for the tests, and a control server for it.
//
//   node oidc_provider.mjs <port> <control port> <folder with the keys of the clients that sign>
//
// The provider rotates refresh tokens. A second use of one revokes all tokens of its grant, the newest one included.
// With ROTATE=0 in the environment it returns the same refresh token every time.
//
// Native apps have the clients `loopback`, `loopback-secret` and `device`, or register a client of their own at /reg (RFC 7591).
// An authorization request gets a refresh token only with the scope offline_access and prompt=consent, a device only with the scope.
//
// Requests to the control server:
//   GET  /health                     200 when both servers listen
//   POST /login/<client>             logs a person in with the client `basic`, `post` or `public`; returns the token response
//   GET  /exchanges                  the number of refresh_token requests to the token endpoint so far
//   GET  /exchanges?refresh_token=…  the number of those with this token

import { createHash, createPublicKey, randomBytes } from 'node:crypto';
import { appendFileSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { jwtVerify } from 'jose';
import { Provider } from 'oidc-provider';

const [port, controlPort] = process.argv.slice(2, 4).map(Number);
const keys = process.argv[4];
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const host = '127.0.0.1';
const issuer = `http://${host}:${port}`;
const redirectUri = 'https://client.example/callback';

const clients = [
  // The secret must be form-encoded before base64 (RFC 6749 section 2.3.1). Without that it is rejected.
  { client_id: 'basic', client_secret: 'unseen-s3cr+t/=& %:x', token_endpoint_auth_method: 'client_secret_basic' },
  { client_id: 'post', client_secret: 'unseen-post-secret', token_endpoint_auth_method: 'client_secret_post' },
  { client_id: 'public', token_endpoint_auth_method: 'none' },
];

// Native apps. The port of a loopback redirect URI may be any (RFC 8252 section 7.3).
const native = [
  { client_id: 'loopback', token_endpoint_auth_method: 'none', redirect_uris: ['http://127.0.0.1/callback'] },
  {
    client_id: 'loopback-secret', client_secret: 'unseen-post-secret', token_endpoint_auth_method: 'client_secret_post',
    redirect_uris: ['http://127.0.0.1/callback', 'http://localhost/callback'],
  },
  {
    client_id: 'device', token_endpoint_auth_method: 'none',
    redirect_uris: [], response_types: [], grant_types: [DEVICE_CODE, 'refresh_token'],
  },
];

// A client that gets tokens for itself (RFC 6749 section 4.4).
const machine = {
  client_id: 'machine', client_secret: 'unseen-s3cr+t/=& %:x', token_endpoint_auth_method: 'client_secret_basic',
  redirect_uris: [], response_types: [], grant_types: ['client_credentials'],
};

// Clients that sign (RFC 7523), each with its own algorithm. They get tokens for themselves, also for an assertion.
const algorithms = { RS256: 'rsa-pkcs8.pem', PS256: 'rsa-pkcs8.pem', ES256: 'p256-pkcs8.pem', EdDSA: 'ed25519.pem' };
const publicKeys = Object.fromEntries(
  Object.entries(algorithms).map(([algorithm, file]) => [algorithm, createPublicKey(readFileSync(`${keys}/${file}`))]),
);
const signers = Object.entries(publicKeys).map(([algorithm, key]) => ({
  client_id: `signer-${algorithm}`, token_endpoint_auth_method: 'private_key_jwt', token_endpoint_auth_signing_alg: algorithm,
  jwks: { keys: [{ ...key.export({ format: 'jwk' }), kid: 'key-1', alg: algorithm, use: 'sig' }] },
  redirect_uris: [], response_types: [], grant_types: ['client_credentials', JWT_BEARER],
}));

const codeFlow = { response_types: ['code'], grant_types: ['authorization_code', 'refresh_token'] };
const provider = new Provider(issuer, {
  clients: [
    machine, ...signers,
    ...clients.map((client) => ({ redirect_uris: [redirectUri], ...codeFlow, ...client })),
    ...native.map((client) => ({ application_type: 'native', ...codeFlow, ...client })),
  ],
  features: {
    devInteractions: { enabled: true }, clientCredentials: { enabled: true },
    deviceFlow: { enabled: true }, registration: { enabled: true, initialAccessToken: false },
  },
  scopes: ['openid', 'offline_access', 'orders.read'],
  clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none', 'private_key_jwt'],
  enabledJWA: { clientAuthSigningAlgValues: Object.keys(algorithms) },
  pkce: { required: () => true },
  rotateRefreshToken: process.env.ROTATE !== '0',
  ttl: { AccessToken: 60, ClientCredentials: 60, AuthorizationCode: 60, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
});

// oidc-provider leaves this grant to its users. jose verifies the assertion.
provider.registerGrantType(JWT_BEARER, async (ctx) => {
  const { client, params } = ctx.oidc;
  await jwtVerify(params.assertion, publicKeys[client.tokenEndpointAuthSigningAlg ?? client.clientAuthSigningAlg], {
    issuer: client.clientId, audience: `${issuer}/token`, requiredClaims: ['sub', 'exp', 'jti'], maxTokenAge: 600,
  });
  const token = new provider.ClientCredentials({ client, scope: 'orders.read' });
  ctx.body = { access_token: await token.save(), token_type: 'Bearer', expires_in: token.expiration };
}, ['assertion']);

const exchanges = []; // the refresh token of each request
provider.use(async (ctx, next) => {
  await next();
  if (ctx.oidc?.route === 'token' && ctx.oidc.params?.grant_type === 'refresh_token') {
    exchanges.push(ctx.oidc.params.refresh_token);
  }
});

for (const event of ['grant.error', 'grant.revoked', 'server_error']) {
  provider.on(event, (_ctx, error) => console.log(event, error?.message ?? '', error?.error_detail ?? ''));
}

// Appends every issued token, code and client's secret to a file. tests/check-no-secrets searches all output for them. A user code
// is not one of them: a person reads it on one screen and types it on another.
const record = (secret) => process.env.PEER_ISSUED && secret && appendFileSync(process.env.PEER_ISSUED, `${secret}\n`);
const issued = [
  'access_token', 'client_credentials', 'refresh_token', 'authorization_code', 'device_code', 'registration_access_token',
];
for (const kind of issued) provider.on(`${kind}.saved`, ({ jti }) => record(jti));
provider.on('registration_create.success', (_ctx, client) => record(client.clientSecret));

/** Posts a form, or gets the page if there is no form, with the cookies of `jar`. Does not follow redirects. */
async function request(url, jar, form) {
  const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
  const response = await fetch(url, {
    method: form ? 'POST' : 'GET', body: form && new URLSearchParams(form), redirect: 'manual', headers: { cookie },
  });
  for (const line of response.headers.getSetCookie()) {
    const [, name, value] = line.match(/^([^=]+)=([^;]*)/);
    if (value) jar.set(name, value); else jar.delete(name);
  }
  return response;
}

/** Opens the authorization page. Follows redirects and sends every form, as a person would, until it has the code. */
async function authorize(parameters) {
  const jar = new Map();
  let url = `${issuer}/auth?${new URLSearchParams(parameters)}`;
  let response = await request(url, jar);
  for (let step = 0; step < 20; step += 1) {
    const location = response.headers.get('location');
    if (location) {
      url = new URL(location, url).href;
      if (url.startsWith(redirectUri)) return new URL(url).searchParams.get('code');
      response = await request(url, jar);
      continue;
    }
    const page = await response.text();
    const action = page.match(/<form[^>]* action="([^"]+)"/)?.[1];
    if (!action) break;
    const hidden = [...page.matchAll(/<input type="hidden" name="([^"]+)" value="([^"]*)"/g)].map(([, name, value]) => [name, value]);
    url = new URL(action, url).href;
    response = await request(url, jar, { ...Object.fromEntries(hidden), login: 'alice', password: 'any' });
  }
  throw new Error(`the login ended at ${url} with status ${response.status}`);
}

async function login(client) {
  const verifier = randomBytes(32).toString('base64url');
  const code = await authorize({
    client_id: client.client_id, response_type: 'code', redirect_uri: redirectUri, scope: 'openid offline_access', prompt: 'consent',
    code_challenge: createHash('sha256').update(verifier).digest('base64url'), code_challenge_method: 'S256',
  });
  const form = { grant_type: 'authorization_code', code, redirect_uri: redirectUri, code_verifier: verifier };
  const headers = {};
  const { client_id: id, client_secret: secret, token_endpoint_auth_method: method } = client;
  if (method === 'client_secret_basic') {
    const credentials = [id, secret].map((text) => new URLSearchParams({ '': text }).toString().slice(1)).join(':');
    headers.authorization = `Basic ${btoa(credentials)}`;
  } else {
    Object.assign(form, { client_id: id }, secret && { client_secret: secret });
  }
  return fetch(`${issuer}/token`, { method: 'POST', headers, body: new URLSearchParams(form) });
}

const control = createServer(async ({ method, url }, response) => {
  const { pathname, searchParams } = new URL(url, issuer);
  const send = (status, body) => response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  const client = clients.find(({ client_id: id }) => pathname === `/login/${id}`);
  try {
    if (method === 'GET' && pathname === '/health') {
      send(200, '"ready"');
    } else if (method === 'GET' && pathname === '/exchanges') {
      const token = searchParams.get('refresh_token');
      send(200, String(exchanges.filter((sent) => token === null || sent === token).length));
    } else if (method === 'POST' && client) {
      const tokens = await login(client);
      send(tokens.status, await tokens.text());
    } else {
      send(404, '"GET /health, GET /exchanges or POST /login/<client>"');
    }
  } catch (error) {
    send(500, JSON.stringify(error.message));
  }
});

provider.listen(port, host, () => control.listen(controlPort, host, () => console.log('listening', issuer)));
