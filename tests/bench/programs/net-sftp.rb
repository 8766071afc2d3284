# Mirror / with Ruby's net-ssh and net-sftp: PORT USER KEY PASSWORD INTO
require 'net/sftp'
require 'fileutils'
port, user, key, password, into = ARGV
options = { port: port.to_i, verify_host_key: :never, non_interactive: true, config: false,
            use_agent: false, auth_methods: [password.empty? ? 'publickey' : 'password'] }
options.merge!(password.empty? ? { keys: [key], keys_only: true } : { password: password })
Net::SFTP.start('127.0.0.1', user, **options) do |sftp|
  FileUtils.mkdir_p(into)
  sftp.dir.entries('/').reject { |entry| entry.name.start_with?('.') }.each do |entry|
    path, local = "/#{entry.name}", File.join(into, entry.name)
    entry.directory? ? sftp.download!(path, local, recursive: true) : sftp.download!(path, local)
  end
end
