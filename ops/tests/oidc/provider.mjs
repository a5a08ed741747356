// The certified OpenID provider (npm oidc-provider) as a test wants it. It says `listening` and its
// issuer when it can be asked, and makes new keys at each start.
//
//   node provider.mjs <folder with node_modules> <port, or 0> [<where the client `no` has browsers
//   sent back to>]
//
// Clients get tokens by their credentials for the resource that they name: `urn:no` and `urn:other`
// give JWTs (RFC 9068), `urn:no:opaque` opaque tokens with the audience `urn:no`. What a token says
// of roles and tenant is in its client's name: `operator.acme`. So it is with people: anybody who
// logs in under such a name is let in with any password. Their roles and tenant are in the ID
// token, what they are called is told at the UserInfo endpoint alone.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, port, callback] = process.argv.slice(2);
const module = join(folder, 'node_modules/oidc-provider/lib/index.js');
const { default: Provider } = await import(pathToFileURL(module));

const server = createServer();
await new Promise((done) => server.listen(Number(port), '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const run = Date.now().toString(36);
const key = (type, options, more) => {
  const jwk = generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' });
  return { ...jwk, use: 'sig', ...more, kid: `${more.alg}-${run}` };
};
const algs = ['ES256', 'EdDSA', 'PS256', 'RS256'];
const keys = [
  key('ec', { namedCurve: 'P-256' }, { alg: 'ES256' }),
  key('ed25519', {}, { alg: 'EdDSA' }),
  key('rsa', { modulusLength: 2048 }, { alg: 'PS256' }),
  key('rsa', { modulusLength: 2048 }, { alg: 'RS256' }),
];

const client = (client_id) => ({
  client_id,
  client_secret: `secret-of-${client_id}`,
  grant_types: ['client_credentials'],
  redirect_uris: [],
  response_types: [],
});
const no = client('no');
if (callback) {
  no.grant_types.push('authorization_code');
  no.redirect_uris.push(callback);
  no.post_logout_redirect_uris = [new URL('/auth/me', callback).href];
  no.response_types.push('code');
}
const rights = (name) => {
  const [role, tenant] = name.split('.');
  return { roles: [role], tenant };
};
const provider = new Provider(issuer, {
  jwks: { keys },
  clients: [...['submitter.acme', 'viewer', 'nobody.acme'].map(client), no],
  cookies: { keys: [randomUUID()] },
  enabledJWA: { idTokenSigningAlgValues: algs },
  extraTokenClaims: (ctx, token) => rights(token.clientId),
  claims: { openid: ['sub', 'roles', 'tenant'], profile: ['name'], email: ['email'] },
  findAccount: (ctx, accountId) => ({
    accountId,
    claims: () => ({ sub: accountId, name: `The ${accountId}`, ...rights(accountId) }),
  }),
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: (ctx, asking) => asking.clientId === 'no' },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // A scope that is the name of an algorithm has the token signed with it.
      getResourceServerInfo: (ctx, resource) => {
        const audience = resource.replace(':opaque', '');
        const scope = algs.join(' ');
        if (audience !== resource) return { scope, audience, accessTokenFormat: 'opaque' };
        const alg = ctx.oidc.params.scope ?? 'ES256';
        return { scope, audience, accessTokenFormat: 'jwt', jwt: { sign: { alg } } };
      },
    },
  },
});
provider.on('server_error', (ctx, error) => console.error(error));
server.on('request', provider.callback());
console.log(`listening ${issuer}`);
