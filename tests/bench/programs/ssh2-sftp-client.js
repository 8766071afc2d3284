// Mirror / with node's ssh2-sftp-client: PORT USER KEY PASSWORD INTO
const Client = require('ssh2-sftp-client'), fs = require('fs');
const [, , port, username, key, password, into] = process.argv;
(async () => {
  const sftp = new Client();
  const proof = password ? { password } : { privateKey: fs.readFileSync(key) };
  await sftp.connect({ host: '127.0.0.1', port: +port, username, ...proof });
  await sftp.downloadDir('/', into);
  await sftp.end();
})().catch((error) => { console.error(error.message); process.exit(1); });
