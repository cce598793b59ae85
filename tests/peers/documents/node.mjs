// The token documents of OAuth libraries for Node. Each library writes and reads its document itself.
//
//   node node.mjs write LIBRARY    lets the library exchange a refresh token, and prints the document that it then saves
//   node node.mjs read LIBRARY     gives a saved document to the library, and prints what the library makes of it
//
// The input is one JSON object on stdin: tokenEndpoint, clientId, clientSecret, and refreshToken or document. What `read` prints:
//
//   accessToken     the token that the library sends to an API, or returns, without a request to a token endpoint
//   refreshToken    the token that the library would exchange next
//   valid           the library's own judgement of the access token
//   expires         the end of the access token, as the library understands it, in seconds since 1970

import { createServer } from 'node:http';
import { text } from 'node:stream/consumers';

/** An API that answers with the access token of the request. It is not a token endpoint: the answer to a POST is 501. */
async function startApi() {
  const api = createServer(({ method, headers }, response) => {
    response.writeHead(method === 'GET' ? 200 : 501, { 'content-type': 'text/plain', connection: 'close' });
    response.end(headers.authorization?.replace(/^Bearer /, ''));
  });
  await new Promise((listening) => api.listen(0, '127.0.0.1', listening));
  api.unref();
  return `http://127.0.0.1:${api.address().port}/`;
}

/** simple-oauth2: a token is saved as JSON. */
const simpleOauth2 = {
  async client({ tokenEndpoint, clientId, clientSecret }) {
    const { AuthorizationCode } = await import('simple-oauth2');
    const { origin, pathname } = new URL(tokenEndpoint);
    return new AuthorizationCode({ client: { id: clientId, secret: clientSecret }, auth: { tokenHost: origin, tokenPath: pathname } });
  },
  async write(given) {
    const due = (await this.client(given)).createToken({ refresh_token: given.refreshToken, expires_in: -30 });
    return JSON.stringify(await due.refresh());
  },
  async read(given) {
    const accessToken = (await this.client(given)).createToken(JSON.parse(given.document));
    const { access_token, refresh_token, expires_at } = accessToken.token;
    return [access_token, refresh_token, accessToken.expired() === false, expires_at.getTime() / 1000];
  },
};

/** openid-client 5: a `TokenSet` is saved as JSON. The provider's userinfo endpoint is the API. */
const openidClient = {
  async client({ tokenEndpoint, clientId, clientSecret }) {
    const { Issuer } = await import('openid-client');
    const issuer = await Issuer.discover(new URL(tokenEndpoint).origin);
    return new issuer.Client({ client_id: clientId, client_secret: clientSecret });
  },
  async write(given) {
    return JSON.stringify(await (await this.client(given)).refresh(given.refreshToken));
  },
  async read(given) {
    const { TokenSet } = await import('openid-client');
    const tokens = new TokenSet(JSON.parse(given.document));
    // It fails if the subject is not that of the ID token.
    await (await this.client(given)).userinfo(tokens);
    const isValid = !tokens.expired() && tokens.expires_in > 0 && tokens.claims().exp > Date.now() / 1000;
    return [tokens.access_token, tokens.refresh_token, isValid, tokens.expires_at];
  },
};

/** google-auth-library: saves what the listeners of `tokens` get. */
const googleAuthLibrary = {
  async client({ clientId, clientSecret }, oauth2TokenUrl, credentials) {
    const { OAuth2Client } = await import('google-auth-library');
    const client = new OAuth2Client({ clientId, clientSecret, endpoints: { oauth2TokenUrl } });
    client.setCredentials(credentials);
    return client;
  },
  async write(given, api) {
    const client = await this.client(given, given.tokenEndpoint, { refresh_token: given.refreshToken });
    let document;
    client.on('tokens', (tokens) => { document = JSON.stringify(tokens); });
    await client.request({ url: api });
    return document;
  },
  async read(given, api) {
    const client = await this.client(given, api, JSON.parse(given.document));
    let refreshed = false;
    client.on('tokens', () => { refreshed = true; });
    const { token } = await client.getAccessToken();
    const { data: sent } = await client.request({ url: api, responseType: 'text' });
    const { refresh_token, expiry_date } = client.credentials;
    return [sent, refresh_token, sent === token && !refreshed && !client.isTokenExpiring(), expiry_date / 1000];
  },
};

const libraries = { 'simple-oauth2': simpleOauth2, 'openid-client': openidClient, 'google-auth-library': googleAuthLibrary };

const [command, name] = process.argv.slice(2);
const [given, api] = [JSON.parse(await text(process.stdin)), await startApi()];
if (command === 'write') {
  process.stdout.write(await libraries[name].write(given, api));
} else {
  const [accessToken, refreshToken, valid, expires] = await libraries[name].read(given, api);
  process.stdout.write(JSON.stringify({ accessToken, refreshToken, valid, expires }));
}
