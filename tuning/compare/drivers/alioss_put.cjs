// Uploads one file with ali-oss: `multipartUpload`, which sends short files by a single PUT.
const OSS = require('ali-oss')

const upload = JSON.parse(process.argv[2])
const client = new OSS({
  // For an IP address it would write a Host that no certificate of ours has.
  endpoint: upload.endpoint.replace('127.0.0.1', 'localhost'),
  bucket: 'demo',
  accessKeyId: 'compare',
  accessKeySecret: 'compare-secret',
  sldEnable: true,
  secure: upload.endpoint.startsWith('https'),
  timeout: '600s'
})
if (!upload.startup) {
  client
    .multipartUpload(upload.key, upload.file, { partSize: upload.part_size, parallel: upload.parallel })
    .then(() => process.exit(0), error => {
      console.error(`${error.name}: ${error.message}`)
      process.exit(1)
    })
}
