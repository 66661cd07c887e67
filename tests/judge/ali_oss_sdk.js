// The JavaScript SDK ali-oss as a judge of the embedded server.
//
// Usage: ali_oss_sdk.js ENDPOINT REGION BUCKET VERSION   (VERSION: v1 or v4)
// Key id and secret come from OSS_ACCESS_KEY_ID and OSS_ACCESS_KEY_SECRET. The server must refuse the third part of keys
// that begin with broken/, once. Exits with a stack trace at the first disagreement; prints "agreed" at the end.

const assert = require('node:assert');
const crypto = require('node:crypto');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const OSS = require('ali-oss');

const PART = 102400;
const [endpoint, region, bucket, version] = process.argv.slice(2);

function client(secret, at = endpoint) {
  return new OSS({
    endpoint: at,
    bucket,
    region: `oss-${region}`,
    accessKeyId: process.env.OSS_ACCESS_KEY_ID,
    accessKeySecret: secret,
    authorizationV4: version === 'v4',
    secure: endpoint.startsWith('https'),
    sldEnable: true, // the bucket in the path
  });
}

async function refused(code, call) {
  await assert.rejects(call, (error) => {
    assert.strictEqual(error.code, code, String(error));
    return true;
  });
}

async function judgeObjects(judge) {
  const name = `${version}/dir/大文件 +&=#%~/a.bin`;
  const data = crypto.randomBytes(300000);
  const put = await judge.put(name, data, { mime: 'text/x-judge', meta: { author: 'judge' } });
  const md5 = crypto.createHash('md5').update(data).digest('hex').toUpperCase();
  assert.strictEqual(put.res.headers.etag, `"${md5}"`);
  const got = await judge.get(name);
  assert.ok(got.content.equals(data));
  const head = await judge.head(name);
  assert.strictEqual(head.meta.author, 'judge');
  assert.strictEqual(head.res.headers['content-type'], 'text/x-judge');
  const part = await judge.get(name, { headers: { Range: 'bytes=10-19' } });
  assert.ok(part.content.equals(data.subarray(10, 20)));
  await judge.copy(`${version}/copy`, name);
  assert.ok((await judge.get(`${version}/copy`)).content.equals(data));
  await judge.copy(`${version}/replaced`, name, { meta: { kind: 'copy' } }); // with a directive in capitals
  assert.deepStrictEqual((await judge.head(`${version}/replaced`)).meta, { kind: 'copy' });
  await judge.putACL(`${version}/copy`, 'public-read');
  assert.strictEqual((await judge.getACL(`${version}/copy`)).acl, 'public-read');
  await judge.putObjectTagging(`${version}/copy`, { a: '1' });
  assert.deepStrictEqual((await judge.getObjectTagging(`${version}/copy`)).tag, { a: '1' });
  await judge.append(`${version}/log`, Buffer.from('one'));
  await judge.append(`${version}/log`, Buffer.from('two'), { position: 3 });
  assert.strictEqual((await judge.get(`${version}/log`)).content.toString(), 'onetwo');
  await judge.delete(name);
  await refused('NoSuchKey', () => judge.get(name));
}

async function judgeListing(judge) {
  const names = ['a/1', 'a/2', 'b', 'c/1', 'd e'].map((name) => `${version}/list/${name}`);
  for (const name of names) await judge.put(name, Buffer.from('x'));
  const prefix = `${version}/list/`;
  const found = [];
  let marker;
  do {
    const page = await judge.list({ prefix, 'max-keys': 2, ...(marker && { marker }) });
    found.push(...page.objects.map((object) => object.name));
    marker = page.nextMarker;
  } while (marker);
  assert.deepStrictEqual(found, names);
  const folded = await judge.listV2({ prefix, delimiter: '/' });
  assert.deepStrictEqual(folded.prefixes, [`${prefix}a/`, `${prefix}c/`]);
  assert.deepStrictEqual(folded.objects.map((object) => object.name), [`${prefix}b`, `${prefix}d e`]);
  const versions = await judge.listObjectVersions({ prefix, 'max-keys': 2 });
  assert.deepStrictEqual(
    versions.objects.map((object) => [object.name, object.versionId, object.isLatest]),
    names.slice(0, 2).map((key) => [key, 'null', true]),
  );
  assert.strictEqual((await judge.getBucketVersioning(bucket)).versionStatus, undefined);
  await judge.deleteMulti(names, { quiet: true });
  assert.strictEqual(Number((await judge.listV2({ prefix })).keyCount), 0);
}

async function judgeMultipart(judge, directory) {
  const name = `broken/${version}`;
  const data = crypto.randomBytes(4 * PART + 99);
  const file = path.join(directory, 'source');
  fs.writeFileSync(file, data);
  let checkpoint;
  const options = { partSize: PART, parallel: 1, progress: async (share, cpt) => { checkpoint = cpt; } };
  await refused('InvalidAccessKeyId', () => judge.multipartUpload(name, file, options));
  assert.deepStrictEqual(checkpoint.doneParts.map((part) => part.number), [1, 2]);
  const sent = [];
  const uploadPart = judge._uploadPart;
  judge._uploadPart = function counted(...given) {
    sent.push(given[2]);
    return uploadPart.apply(this, given);
  };
  await judge.multipartUpload(name, file, { ...options, checkpoint });
  judge._uploadPart = uploadPart;
  assert.deepStrictEqual(sent, [3, 4, 5]);
  assert.ok((await judge.get(name)).content.equals(data));
  const uploads = await judge.listUploads({ prefix: name });
  assert.strictEqual((uploads.uploads || []).length, 0);
}

async function judgeBucket(judge) {
  const head = await judge.request({ ...judge._bucketRequestParams('HEAD', bucket), successStatuses: [200] });
  assert.strictEqual(head.res.headers['x-oss-storage-class'], 'Standard');
}

async function judgeUrls(judge) {
  const name = `${version}/signed +大`;
  // This SDK makes no version 1 URLs for addresses; the host is not signed.
  const named = client(process.env.OSS_ACCESS_KEY_SECRET, endpoint.replace('127.0.0.1', 'localhost'));
  const sign = async (method) => (version === 'v4'
    ? judge.signatureUrlV4(method, 60, {}, name)
    : named.signatureUrl(name, { method, expires: 60 }).replace('localhost', '127.0.0.1'));
  const put = await fetch(await sign('PUT'), { method: 'PUT', body: Buffer.from('signed') });
  assert.strictEqual(put.status, 200, await put.text());
  const url = await sign('GET');
  assert.strictEqual(await (await fetch(url)).text(), 'signed');
  assert.strictEqual((await fetch(`${url}&uploadId=1`)).status, 403);
}

async function main() {
  const secret = process.env.OSS_ACCESS_KEY_SECRET;
  const judge = client(secret);
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'judge-'));
  try {
    await judgeObjects(judge);
    await judgeListing(judge);
    await judgeMultipart(judge, directory);
    await judgeUrls(judge);
    await judgeBucket(judge);
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
  await refused('SignatureDoesNotMatch', () => client(`${secret}x`).put('forged', Buffer.from('x')));
  await refused('NoSuchKey', () => judge.get('forged'));
  console.log('agreed');
  process.exit(0); // open connections would keep the process
}

main();
